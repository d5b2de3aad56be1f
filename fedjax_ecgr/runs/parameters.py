"""What a factory takes, read from its signature and its docstring.

The command line and the recorded configuration are derived from this, so that a new algorithm,
regulator, model, partition or data set is one file and one line in its listing.
"""

import inspect
from collections.abc import Callable, Collection, Sequence
from types import UnionType
from typing import Any, NamedTuple, Union, Unpack, get_args, get_origin, get_type_hints

from docstring_parser import parse

from fedjax_ecgr.algorithms import COMMON_DEFAULTS, Common, LocalCommon
from fedjax_ecgr.check import InputError

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "whole numbers",
    list: "lists of whole numbers",
}


class Parameter(NamedTuple):
    """One option of a factory, of a type that can be written in JSON and on a command line.

    Attributes:
      name: the keyword.
      kind: bool, int, float, str, tuple for a sequence of whole numbers, or list for one of such.
      default: what it is if not given; None where that means something of its own.
      help: what the docstring says of it, as one line.
    """

    name: str
    kind: type
    default: Any
    help: str


def parameters(
    factory: Callable[..., Any], leave_out: Collection[str] = ()
) -> dict[str, Parameter]:
    """Returns the options that `factory` takes, by name.

    Left out are what has no default (the examples, the spec) and what is annotated `Any`, which
    says that it can be given in Python alone (a dtype).

    Args:
      factory: a function, or a dataclass.
      leave_out: more that is left out, by name.

    Raises:
      TypeError: for an option of a type that cannot be written down: no option is lost unsaid.
    """
    types, texts = get_type_hints(factory), descriptions(factory)
    found: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        options = get_args(types[name]) if get_origin(types.get(name)) is Unpack else ()
        if options and options[0] in (Common, LocalCommon):
            found |= _common(options[0])
        elif parameter.default is not parameter.empty:
            if types.get(name) is Any or name in leave_out:
                continue
            kind = _kind(types.get(name))
            if kind is None:
                raise TypeError(
                    f"{factory.__name__}: the option {name!r} is of type {types.get(name)}, which "
                    "no command line can write; annotate it `Any` to leave it to Python"
                )
            found[name] = Parameter(name, kind, parameter.default, texts.get(name, ""))
    return found


def first_line(factory: Callable[..., Any]) -> str:
    """Returns the first line of a docstring."""
    return parse(inspect.getdoc(factory) or "").short_description or ""


def descriptions(documented: Any) -> dict[str, str]:
    """Returns what a docstring says of each argument or attribute, each as one line."""
    described = parse(inspect.getdoc(documented) or "").params
    return {p.arg_name: " ".join((p.description or "").split()) for p in described}


def conform(owner: str, parameter: Parameter, value: Any) -> Any:
    """Returns `value` as `parameter` takes it (lists as tuples).

    Args:
      owner: whose parameter it is, for the message ("mlp: "), or "".
      parameter: what is expected.
      value: what was given, from JSON or a command line.

    Raises:
      InputError: if the value is of another type; ranges are left to the factory.
    """
    if isinstance(value, list):
        value = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    fits = {
        float: _is_number(value, int | float),
        int: _is_number(value, int),
        tuple: _are_whole(value),
        list: isinstance(value, tuple) and all(_are_whole(item) for item in value),
    }.get(parameter.kind, isinstance(value, parameter.kind))
    if fits or (value is None and parameter.default is None):
        return value
    raise InputError(
        f"{owner}{parameter.name}: {value!r} is not allowed, it must be {_NAMES[parameter.kind]}"
    )


def _are_whole(values: Any) -> bool:
    return isinstance(values, tuple) and all(_is_number(item, int) for item in values)


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _common(taken: Any) -> dict[str, Parameter]:
    texts = descriptions(Common)
    return {
        name: Parameter(name, float, default, texts[name])
        for name, default in COMMON_DEFAULTS.items()
        if name in taken.__annotations__
    }


def _kind(annotation: Any) -> type | None:
    """Returns the plain type that an annotation allows (`float | Array`: float), or None."""
    union = get_origin(annotation) in (Union, UnionType)
    alternatives = get_args(annotation) if union else (annotation,)
    for kind in (bool, float, int, str):
        if kind in alternatives:
            return kind
    for sequence in (a for a in alternatives if get_origin(a) in (tuple, list, Sequence)):
        item = get_args(sequence)[0]
        if item is int:
            return tuple
        if get_origin(item) in (tuple, list, Sequence) and get_args(item)[0] is int:
            return list
    return None
