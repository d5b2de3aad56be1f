"""`fedjax-ecgr`, also as `python -m fedjax_ecgr`."""

import io
import os
import sys
from typing import NoReturn

from fedjax_ecgr.cli import main
from fedjax_ecgr.endings import UNWRITTEN
from fedjax_ecgr.programs import keep_programs


def script() -> NoReturn:
    """Runs the command line and ends the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may have no ± or ×
            stream.reconfigure(errors="replace")
    keep_programs()
    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads it any more, or the disk is full
        status = status or UNWRITTEN
    # An orderly shutdown sometimes crashes in others' threads: a compilation under way, Arrow's.
    os._exit(status)


if __name__ == "__main__":
    script()
