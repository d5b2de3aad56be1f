"""`fedjax-ecgr`, also as `python -m fedjax_ecgr`."""

import io
import os
import sys
from typing import NoReturn

from fedjax_ecgr.cli import main
from fedjax_ecgr.endings import ENDED_BY_SIGNAL
from fedjax_ecgr.programs import keep_programs


def script() -> NoReturn:
    """Runs the command line and ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may have no ± or ×
            stream.reconfigure(errors="replace")
    keep_programs()
    status = main()
    if status > ENDED_BY_SIGNAL:
        # A compilation that is still under way on other threads crashes an orderly shutdown.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    script()
