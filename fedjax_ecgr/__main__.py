"""`fedjax-ecgr`, also as `python -m fedjax_ecgr`."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import jax

from fedjax_ecgr.cli import INTERRUPTED, main


def script() -> NoReturn:
    """Runs the command line and ends the process."""
    _keep_compiled_programs()
    status = main()
    if status == INTERRUPTED:
        # A compilation that is still under way on other threads crashes an orderly shutdown.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _keep_compiled_programs() -> None:
    """Lets JAX keep what it compiles for the next run, where the user has chosen no other place.

    Only the command line does so, whose process is its own; a library must leave JAX as it is.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "fedjax_ecgr"))


if __name__ == "__main__":
    script()
