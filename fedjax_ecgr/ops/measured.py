"""Which of several ways to compute the same thing is the fastest on this device, by measurement.

What was measured is kept in memory, and for later processes in `convolutions.json` in the user's
folder for caches: for each operation, by device, version of JAX, precision and shapes, the seconds
that each way took. The way of the smallest number is taken, so that the file shows what was chosen,
and a number changed by hand changes it. What cannot be read there is measured anew.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from fedjax_ecgr.files import write
from fedjax_ecgr.programs import user_cache
from fedjax_ecgr.types import Array

Shapes = Sequence[jax.ShapeDtypeStruct]
Times = dict[str, float]

RUNS = 10
"""So many runs are started behind each other and timed together, which hides what a start takes."""

LONG = 0.05
"""They are repeated until they have taken so many seconds, and the fastest of them count."""

_known: dict[str, Times] = {}


def fastest(
    operation: str, ways: Mapping[str, Callable[..., Array]], operands: Shapes, otherwise: str
) -> str:
    """Returns the name of the way that takes the least time, measured where that is not known yet.

    May be called in the midst of a trace or a compilation: it measures in threads of its own, to
    which the contexts of the caller's are unknown.

    Args:
      operation: what all ways compute: all that their times depend on, but for device and version.
      ways: functions of the operands, by name.
      operands: for which random numbers stand in.
      otherwise: the name to return where none could be measured.
    """
    key = f"{jax.local_devices()[0].device_kind}, JAX {jax.__version__}: {operation}"
    if key not in _known:
        kept = {name: time for name, time in _read().get(key, {}).items() if name in ways}
        _known[key] = kept or measure(ways, operands)
        if not kept:
            _keep(key, _known[key])
    times = _known[key]
    return min(times, key=lambda name: times[name], default=otherwise)


def measure(ways: Mapping[str, Callable[..., Array]], operands: Shapes) -> Times:
    """Returns the seconds that each way takes, of those that can be compiled and run."""
    with ThreadPoolExecutor(len(ways) + 2) as pool:
        arrays = pool.submit(_random, operands)
        programs = {name: pool.submit(_compiled, way, operands) for name, way in ways.items()}
        return pool.submit(_timed, programs, arrays).result()


def seconds(program: Callable[..., Any], operands: Sequence[Array]) -> float:
    """Returns how long a compiled program takes."""

    jax.block_until_ready(program(*operands))
    times: list[float] = []
    while sum(times) < LONG:
        start = time.perf_counter()
        for _ in range(RUNS):
            results = program(*operands)
        jax.block_until_ready(results)
        times.append(time.perf_counter() - start)
    return min(times) / RUNS


def cache_file() -> Path:
    """Returns the file of the times."""
    return user_cache() / "convolutions.json"


def _timed(
    programs: Mapping[str, Future[Callable[..., Any]]], arrays: Future[Sequence[Array]]
) -> Times:
    wait(programs.values())  # a compiler may use the device to try what is faster
    times = {}
    for name, program in programs.items():
        # Whatever is wrong with it, most often too little memory: it is not the way to go.
        with suppress(Exception):
            times[name] = seconds(program.result(), arrays.result())
    return times


def _compiled(function: Callable[..., Any], operands: Shapes) -> Callable[..., Any]:
    with jax.enable_x64(_double(operands)):
        return jax.jit(function).lower(*operands).compile()


def _random(operands: Shapes) -> Sequence[Array]:
    with jax.enable_x64(_double(operands)):
        keys = jax.random.split(jax.random.key(0), len(operands))
        return [
            jax.random.normal(key, x.shape, x.dtype) for key, x in zip(keys, operands, strict=True)
        ]


def _double(operands: Shapes) -> bool:
    return any(x.dtype.itemsize == 8 for x in operands)


def _read() -> dict[str, Times]:
    try:
        kept = json.loads(cache_file().read_bytes())
    except (OSError, ValueError):
        return {}
    entries = kept.items() if isinstance(kept, dict) else ()
    return {key: times for key, times in entries if _are_times(times)}


def _are_times(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(time, int | float) and math.isfinite(time) for time in entry.values()
    )


def _keep(key: str, times: Times) -> None:
    if times:
        text = json.dumps({**_read(), key: times}, indent=1, ensure_ascii=False)
        # Where nothing can be kept, the next process measures again.
        with suppress(OSError):
            cache_file().parent.mkdir(parents=True, exist_ok=True)
            write(cache_file(), lambda file: file.write(text.encode()))
