"""What an option's annotation allows to be written: in JSON, and on a command line.

An option is a bool, a number, text, or a sequence of those, or of such sequences; `float | Array`
is a number. What is no plain value by its nature says so by its annotation: an array, a callable, a
part that is a NamedTuple (a regulator, a transform), a sequence of such, or anything that is
`Annotated[..., PYTHON_ONLY]`. Any other annotation is refused, so that no option is lost unsaid.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, Unpack, get_args, get_origin, get_type_hints

import jax
import numpy as np

from fedjax_ecgr.types import PYTHON_ONLY

_SEPARATORS = ("", ",", "/")  # by depth
_TEXTS = {
    bool: ("true or false", "true or false each"),
    float: ("a number", "numbers"),
    int: ("a whole number", "whole numbers"),
    str: ("text", "texts"),
}
_METAVARS = {bool: "BOOL", float: "NUMBER", int: "INT", str: "NAME"}


class Kind(NamedTuple):
    """A form of plain value.

    Attributes:
      scalar: bool, int, float or str.
      depth: 0 for one of them, 1 for a sequence (written 1,2), 2 for a sequence of sequences
        (written 1,2/3,4).
    """

    scalar: type
    depth: int = 0

    @property
    def text(self) -> str:
        """What a value must be, for messages."""
        one, many = _TEXTS[self.scalar]
        return (one, many, f"groups of {many}")[self.depth]

    @property
    def metavar(self) -> str:
        """How a value is written, for the help."""
        one = _METAVARS[self.scalar]
        return (one, f"{one},{one},…", f"{one},{one}/{one},…")[self.depth]


def kind_of(annotation: Any) -> Kind | None:
    """Returns the kind of plain value that an annotation allows; None for one that allows none.

    Args:
      annotation: with its extras (`typing.get_type_hints(..., include_extras=True)`).

    Raises:
      TypeError: if it is neither plain nor says that it is not.

    Example:
      >>> kind_of(float | jax.Array).text, kind_of(Sequence[Sequence[int]]).text
      ('a number', 'groups of whole numbers')
      >>> kind_of(Callable[[int], int]) is None
      True
    """
    alternatives = _alternatives(annotation)
    for scalar in _TEXTS:
        if scalar in alternatives:
            return Kind(scalar)
    items = [(one, _item(one)) for one in alternatives]
    plain = [_nested(one, item) for one, item in items if item is not None]
    unknown = [one for one, item in items if item is None and not _is_no_plain_value(one)]
    if unknown:
        raise TypeError(
            f"{unknown[0]} cannot be written down: annotate it as bool, int, float, str or a "
            "Sequence of those, or as Annotated[..., PYTHON_ONLY] to leave it to Python"
        )
    return next((kind for kind in plain if kind is not None), None)


def annotations(factory: Callable[..., Any]) -> dict[str, Any]:
    """Returns the annotations of all that a factory takes; those of an `Unpack[...]` by name.

    Raises:
      TypeError: for an argument without an annotation.
    """
    hints, found = get_type_hints(factory, include_extras=True), dict[str, Any]()
    for name in inspect.signature(factory).parameters:
        if name not in hints:
            raise TypeError(f"{factory.__name__}: {name} has no annotation")
        if get_origin(hints[name]) is Unpack:
            found |= _shared(get_args(hints[name])[0])
        else:
            found[name] = hints[name]
    return found


@cache
def _shared(fields: Any) -> dict[str, Any]:
    return get_type_hints(fields, include_extras=True)


def fits(kind: Kind, value: Any) -> bool:
    """Whether a value is of a kind: sequences are tuples, a whole number is a number too."""
    if kind.depth:
        inner = kind._replace(depth=kind.depth - 1)
        return isinstance(value, tuple) and all(fits(inner, item) for item in value)
    if kind.scalar in (int, float):
        numbers = int if kind.scalar is int else int | float
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, kind.scalar)


def read(kind: Kind, text: str) -> Any:
    """Returns the value that a text stands for; raises `ValueError` where there is none.

    Example:
      >>> read(Kind(int, 2), "1,2/3")
      ((1, 2), (3,))
    """
    if kind.depth:
        inner = kind._replace(depth=kind.depth - 1)
        parts = [] if text == "none" else text.split(_SEPARATORS[kind.depth])
        return tuple(read(inner, part) for part in parts if part)
    if kind.scalar is bool and text not in ("true", "false"):
        raise ValueError(text)
    return text == "true" if kind.scalar is bool else kind.scalar(text)


def write(value: Any) -> str:
    """Returns the text that `read` takes for a value."""
    if isinstance(value, tuple):
        nested = any(isinstance(item, tuple) for item in value)
        return _SEPARATORS[1 + nested].join(map(write, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _alternatives(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, UnionType):
        return [one for part in get_args(annotation) for one in _alternatives(part)]
    return [annotation]


def _nested(annotation: Any, item: Any) -> Kind | None:
    """Returns the kind of a sequence; None for one of what is not plain."""
    kind = kind_of(item)
    if kind is not None and kind.depth + 1 == len(_SEPARATORS):
        raise TypeError(f"{annotation} is nested too deeply to be written down")
    return None if kind is None else kind._replace(depth=kind.depth + 1)


def _item(annotation: Any) -> Any:
    """Returns the type of a sequence's items; None for what is no sequence of one type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return arguments[0] if arguments[1:] == (...,) else None
    return arguments[0] if origin in (list, Sequence) else None


def _is_no_plain_value(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return PYTHON_ONLY in annotation.__metadata__
    if get_origin(annotation) is Callable:
        return True
    if not inspect.isclass(annotation):
        return False
    part = issubclass(annotation, tuple) and hasattr(annotation, "_fields")
    return part or issubclass(annotation, jax.Array | np.ndarray | NoneType)
