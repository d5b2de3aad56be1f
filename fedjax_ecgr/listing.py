"""What a room holds by name: its listing follows from its imports."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar, get_type_hints

from fedjax_ecgr.kinds import annotations, fits, kind_of

T = TypeVar("T")


def listing(
    room: Mapping[str, Any],
    contract: type[T],
    *,
    given: Collection[str] = (),
    apart: Collection[str] = (),
) -> dict[str, Callable[..., T]]:
    """Returns the factories of a room, by name, in alphabetical order.

    A factory is a function that says it returns `contract`, in a file of the room of the same name.
    So one line in the room's `__init__.py`, `from fedjax_ecgr.room.thing import thing as thing`, is
    all that it takes to list one.

    Args:
      room: `globals()` of the room's `__init__.py`, behind its imports.
      contract: the NamedTuple that factories return.
      given: arguments that a run hands to each; all others must have a default.
      apart: names of factories that need more than a name and plain values.

    Raises:
      TypeError: if a factory does not say what it returns, or takes what can neither be written
        down nor is marked as Python's alone: it, or its option, would be lost unsaid.
    """
    found: dict[str, Callable[..., T]] = {}
    for name, thing in sorted(room.items()):
        own = inspect.isfunction(thing) and thing.__module__ == f"{room['__name__']}.{name}"
        if own and name not in apart:
            returned = get_type_hints(thing).get("return")
            if returned is None:
                raise TypeError(f"{name}: does not say what it returns, such as {contract}")
            if returned is contract:
                _check(name, thing, given)
                found[name] = thing
    return found


def _check(name: str, factory: Callable[..., Any], given: Collection[str]) -> None:
    """Raises `TypeError` unless all that a factory takes is given, plain or marked as neither."""
    taken = inspect.signature(factory).parameters
    for option, annotation in annotations(factory).items():
        default = taken[option].default if option in taken else None
        if option in given:
            continue
        if default is inspect.Parameter.empty:
            raise TypeError(f"{name}: {option} has no default, and no run hands it over")
        try:
            kind = kind_of(annotation)
        except TypeError as error:
            raise TypeError(f"{name}: {option}: {error}") from None
        if kind is not None and default is not None and not fits(kind, default):
            raise TypeError(f"{name}: {option}: {default!r} is not {kind.text}")
