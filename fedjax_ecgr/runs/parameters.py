"""What a factory takes, read from its signature and its docstring.

The command line and the recorded configuration are derived from this, so that a new algorithm,
regulator, model, partition or data set is one file and one line in its listing.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from docstring_parser import parse

from fedjax_ecgr.algorithms import COMMON_DEFAULTS, Common
from fedjax_ecgr.check import InputError
from fedjax_ecgr.kinds import Kind, annotations, fits, kind_of


class Parameter(NamedTuple):
    """One option of a factory, of a kind that can be written in JSON and on a command line.

    Attributes:
      name: the keyword.
      kind: what a value must be.
      default: what it is if not given; None where that means something of its own.
      help: what the docstring says of it, as one line.
    """

    name: str
    kind: Kind
    default: Any
    help: str


@cache
def parameters(
    factory: Callable[..., Any], leave_out: tuple[str, ...] = ()
) -> Mapping[str, Parameter]:
    """Returns the options that `factory` takes, by name.

    Left out are what has no default (the examples, the spec) and what is no plain value.

    Args:
      factory: a function, or a dataclass.
      leave_out: more that is left out, by name.

    Raises:
      TypeError: for an option of a type that is neither plain nor says that it is not.
    """
    taken, texts = inspect.signature(factory).parameters, descriptions(factory)
    found: dict[str, Parameter] = {}
    for name, annotation in annotations(factory).items():
        kind = None if name in leave_out else kind_of(annotation)
        if kind is None:
            continue
        if name not in taken:  # of what all algorithms share
            found[name] = Parameter(name, kind, COMMON_DEFAULTS[name], descriptions(Common)[name])
        elif taken[name].default is not inspect.Parameter.empty:
            found[name] = Parameter(name, kind, taken[name].default, texts.get(name, ""))
    return found


def first_line(factory: Callable[..., Any]) -> str:
    """Returns the first line of a docstring."""
    return parse(inspect.getdoc(factory) or "").short_description or ""


@cache
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
    value = _as_tuple(value)
    if fits(parameter.kind, value) or (value is None and parameter.default is None):
        return value
    raise InputError(
        f"{owner}{parameter.name}: {value!r} is not allowed, it must be {parameter.kind.text}"
    )


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
