"""Compiled programs, kept from one run to the next by JAX's own cache."""

import os
from pathlib import Path

import jax

_LEAST = "jax_persistent_cache_min_compile_time_secs"


def keep_programs(folder: str | Path | None = None) -> None:
    """Lets JAX keep all that it compiles, where the user has chosen no other place.

    A simulation that was compiled before, in this process or another, starts at once: other
    numbers, another seed or other clients of about the same sizes are the same program. The command
    line does this by itself; in a program of your own it is yours to say, for it holds for all
    that JAX compiles in the process. `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` keeps less.

    Args:
      folder: where; by default `fedjax_ecgr` in the user's folder for caches.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        path = user_cache() / "programs" if folder is None else Path(folder)
        jax.config.update("jax_compilation_cache_dir", str(path))
        if _LEAST.upper() not in os.environ:
            # what is quick to compile is most of a short run's start: some sixty programs
            jax.config.update(_LEAST, 0.0)


def user_cache() -> Path:
    """Returns the folder in which this package keeps what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedjax_ecgr"
