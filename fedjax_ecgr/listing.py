"""What a room holds by name: its listing follows from its imports."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def listing(room: Mapping[str, Any], contract: type) -> dict[str, Callable[..., Any]]:
    """Returns the factories of a room, by name.

    A factory is a function that says it returns `contract`, in a file of the room of the same name.
    So one line in the room's `__init__.py`, `from fedjax_ecgr.room.thing import thing as thing`, is
    all that it takes to list one.

    Args:
      room: `globals()` of the room's `__init__.py`, behind its imports.
      contract: the NamedTuple that factories return.
    """
    return {
        name: thing
        for name, thing in room.items()
        if inspect.isfunction(thing)
        and thing.__annotations__.get("return") is contract
        and thing.__module__ == f"{room['__name__']}.{name}"
    }
