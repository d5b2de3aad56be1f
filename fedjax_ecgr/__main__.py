"""`fedjax-ecgr`, also as `python -m fedjax_ecgr`."""

import gc
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
    # A trace is many small objects, and what is imported stays: looking through them as often as
    # Python does would take a tenth of the time until a kept program runs.
    gc.freeze()
    gc.set_threshold(100_000)
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
