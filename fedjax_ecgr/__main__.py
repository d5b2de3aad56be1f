"""`fedjax-ecgr`, also as `python -m fedjax_ecgr`."""

import os
import sys
from typing import NoReturn

from fedjax_ecgr.cli import INTERRUPTED, main


def script() -> NoReturn:
    """Runs the command line and ends the process."""
    status = main()
    if status == INTERRUPTED:
        # A compilation that is still under way on other threads crashes an orderly shutdown.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    script()
