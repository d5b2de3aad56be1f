"""Checks of what a user hands in: one clear line that says what, where and what is allowed.

Every check runs on concrete values in Python, before anything is compiled. A value that is being
traced (a hyperparameter inside a user's own `jit` or `vmap`) has no number yet and passes.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")


class InputError(ValueError):
    """Something a user handed in is not allowed; the message is one line that says what is."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Returns `", did you mean 'x'?"` for the nearest allowed name, or `""` if none is near."""
    near = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


def known(field: str, name: str, listing: Mapping[str, T]) -> T:
    """Returns `listing[name]`; raises `InputError` that names the nearest known name."""
    if not isinstance(name, str) or name not in listing:
        allowed = ", ".join(sorted(listing))
        raise InputError(f"{field}: unknown {name!r}{nearest(name, listing)} (known: {allowed})")
    return listing[name]


def part(field: str, value: Any, contract: type | tuple[type, ...], wanted: str) -> None:
    """Raises `InputError` unless `value` is of a type.

    Args:
      field: name of the field, for the message.
      value: what was given.
      contract: the type, or several.
      wanted: what is allowed, for the message ("a Model, such as models.mlp(data.spec)").
    """
    if not isinstance(value, contract):
        raise InputError(f"{field}: {shown(value)} is not allowed, it must be {wanted}")


def folder(field: str, value: str | Path | None, wanted: str) -> Path:
    """Returns a folder that is there; raises `InputError` for None and for anything else.

    Args:
      field: name of the field, for the message.
      value: what was given.
      wanted: what is allowed, for the message ("a folder of images").
    """
    if value is None:
        raise InputError(f"{field}: None is not allowed, it must be {wanted}")
    path = Path(value)
    if not path.is_dir():
        raise InputError(f"{field}: {str(value)!r} is not a folder")
    return path


def reason(error: BaseException) -> str:
    """Returns what a message says of an error: its first line, or else of what kind it is."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def shown(value: Any) -> str:
    """Returns what a message calls a thing of a wrong type."""
    if isinstance(value, str | int | float | None):
        return repr(value)
    called = getattr(value, "__name__", None)
    if callable(value) and called is not None:
        return f"{called} (a function, not what it returns)"
    return type(value).__name__


def number(
    field: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
    single: bool = False,
) -> None:
    """Raises `InputError` unless `value`, a number or an array of them, is finite and in range.

    Args:
      field: name of the field, for the message.
      value: a number or an array (a sweep's axis); a traced value passes unchecked.
      low: smallest allowed value.
      high: largest allowed value.
      low_open: whether `low` itself is not allowed.
      high_open: whether `high` itself is not allowed.
      single: whether an array is not allowed.
    """
    if is_traced(value):
        return
    try:
        values = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        values = None
    if values is None or isinstance(value, str | bool):
        raise InputError(f"{field}: {value!r} is not a number")
    below = values <= low if low_open else values < low
    above = values >= high if high_open else values > high
    bad = below | above | ~np.isfinite(values)
    if np.any(bad):
        shown = value if values.ndim == 0 else float(values[bad][0])
        left = "(" if low_open or low == -math.inf else "["
        right = ")" if high_open or high == math.inf else "]"
        interval = f"{left}{low:g}, {high:g}{right}"
        raise InputError(f"{field}: {shown!r} is not allowed, it must be in {interval}")
    if single and values.ndim:
        raise InputError(f"{field}: {value!r} is not allowed, it must be one number")


def is_traced(tree: Any) -> bool:
    """Returns whether any leaf is being traced, so that nobody can look at its value."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def keyless(what: str, state: Any, instead: str = "") -> None:
    """Raises `InputError` if the state of an optax transformation holds a random key.

    Args:
      what: the transformation, for the message.
      state: from its `init`.
      instead: what may be done instead, for the message.
    """
    for leaf in jax.tree.leaves(state):
        kind = getattr(leaf, "dtype", np.dtype(float))
        old_style = kind == np.uint32 and leaf.shape[-1:] in ((2,), (4,))
        if old_style or jax.dtypes.issubdtype(kind, jax.dtypes.prng_key):
            raise InputError(
                f"{what}, an optax transformation with a random key, is not allowed, all clients "
                f"would draw the same{instead}"
            )


def count(field: str, value: Any, *, low: int = 1, high: int | None = None, why: str = "") -> int:
    """Returns a whole number as Python's own; raises `InputError` unless it is `low` to `high`.

    NumPy's own may have too few bits for what is made of it.

    Args:
      field: name of the field, for the message.
      value: what was given.
      low: smallest allowed number.
      high: largest allowed number, if there is one.
      why: what the upper bound is, for the message ("the number of clients").
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):
        bound = f"at least {low}" if high is None else f"from {low} to {high}"
        reason = f" ({why})" if why else ""
        raise InputError(
            f"{field}: {value!r} is not allowed, it must be a whole number {bound}{reason}"
        )
    return int(value)


def options(owner: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Raises `InputError` if `owner` (an algorithm, a model, …) does not take a given option."""
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            takes = ", ".join(allowed) or "none"
            raise InputError(
                f"{owner}: unknown option {name!r}{nearest(name, allowed)} (options: {takes})"
            )
