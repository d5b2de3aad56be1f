"""What a sweep is asked to run: options for all members, and axes along which they differ.

A study is a TOML file, or the same in Python. Options are named as on the command line, in full
(`algorithm.learning-rate`) or short (`learning-rate`); a table is short for its options. Outside of
the four tables of axes they hold for all members:

    dataset = "digits"
    rounds = 50
    partition = { name = "dirichlet", alpha = 0.1 }

    [grid]                                      # every value with every other
    regulator = ["identity", "ecgr"]
    beta = [0.1, 0.2, 0.5]                      # of the members that have one
    seed = { first = 0, last = 9 }

    [zip]                                       # the first with the first, and so on
    num-clients = [10, 20]
    batch-size = [32, 16]

    [[list]]                                    # one after another
    algorithm = "fedavg"
    [[list]]
    algorithm = "fedprox"
    mu = 0.1

    [random]                                    # so many draws
    count = 20
    from-seed = 0
    learning-rate = { low = 0.001, high = 1.0, scale = "log" }

Members are all combinations of the axes. An option that a member's chosen names do not take does
not concern it, and members that are equal then are one.
"""

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.options import dashed, describe
from fedjax_ecgr.runs.config import RunConfig, flat

MANY = 10_000
"""More members than this are asked for twice."""

_LONGEST = 1_000_000  # axis: a number that nobody meant is refused before it fills the memory

_TABLES = ("grid", "zip", "list", "random")
_OF_SPEED = ("placement", "chunk_size", "num_devices", "memory_budget", "eval_batch_size")
_OF_REPORTS = ("target_accuracy",)
_SCALES = {"linear": "evenly", "log": "evenly by ratio"}
_RANGES: tuple[frozenset[str], ...] = (
    frozenset({"first", "last"}),
    frozenset({"first", "last", "step"}),
    frozenset({"low", "high", "count"}),
    frozenset({"low", "high", "count", "scale"}),
)
_DRAWN: tuple[frozenset[str], ...] = (
    frozenset({"low", "high"}),
    frozenset({"low", "high", "scale"}),
)

Point = Mapping[str, Any]


class Study(NamedTuple):
    """A sweep as it was asked for.

    Attributes:
      base: options of all members.
      axes: each a sequence of points, which are options of the members there.
      configs: its members, where they are given one by one and not by options and axes.
    """

    base: Point
    axes: tuple[tuple[Point, ...], ...] = ()
    configs: tuple[RunConfig, ...] = ()

    @property
    def size(self) -> int:
        """The number of combinations; equal members are counted more than once."""
        return len(self.configs) or math.prod(len(axis) for axis in self.axes)

    @property
    def named(self) -> list[str]:
        """The options that differ, as they are written in the study, in its order."""
        return list(dict.fromkeys(name for axis in self.axes for p in axis for name in p))


class Members(NamedTuple):
    """The members of a study.

    Attributes:
      configs: what each of them runs, none twice, by `identity`.
      axes: the options that differ, by their full names.
    """

    configs: dict[str, RunConfig]
    axes: tuple[str, ...]


def study(
    base: Mapping[str, Any] | None = None,
    *,
    grid: Mapping[str, Any] | None = None,
    zip: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    list: Sequence[Point] | Mapping[str, Sequence[Point]] | None = None,
    random: Mapping[str, Any] | None = None,
) -> Study:
    """Returns a study.

    Args:
      base: options of all members.
      grid: an axis for each option, with its values.
      zip: one axis, of values that go together; or several such.
      list: one axis, of points that are options; or several such, each under a name.
      random: one axis, of `count` draws, from a seed of their own (`from_seed`, 0 by default): of
        an option's values, or between a `low` and a `high` (`scale` linear or log).

    Raises:
      InputError: for an axis that is none, is empty, or has options that are there already.

    Example:
      >>> study({"rounds": 5}, grid={"seed": [0, 1], "beta": [0.1, 0.2, 0.5]}).size
      6
    """
    common = _flattened("", base or {})
    axes: dict[str, tuple[Point, ...]] = {}
    for option, values in _flattened("grid", grid or {}).items():
        axes[f"grid: {option}"] = tuple({option: v} for v in _values(f"grid: {option}", values))
    for number, together in enumerate(_several("zip", zip)):
        axes[f"zip {number}"] = _zipped(together)
    for name, points in _named("list", list).items():
        axes[name] = _listed(name, points)
    if random is not None:
        axes["random"] = _drawn(random)
    found = dict.fromkeys(common, "the options of all members")
    for where, points in axes.items():
        for option in dict.fromkeys(option for point in points for option in point):
            if option in found:
                raise InputError(
                    f"{where.partition(':')[0]}: {option}: not allowed, it is in "
                    f"{found[option].partition(':')[0]} already"
                )
            found[option] = where
    return Study(common, tuple(axes.values()))


def read(path: Path) -> Study:
    """Returns the study that a TOML file describes.

    Raises:
      InputError: if it cannot be read, is not TOML, or describes none; it names the file.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: cannot be read: not text") from None
    except (ValueError, RecursionError) as error:  # a number of too many digits too
        raise InputError(f"{path}: not TOML: {error or 'nested too deeply'}") from None
    try:
        return study(
            {name: value for name, value in given.items() if name not in _TABLES},
            **{name: given[name] for name in _TABLES if name in given},
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def of_configs(configs: Iterable[RunConfig]) -> Study:
    """Returns the study of these runs.

    Raises:
      InputError: if there is none.
    """
    given = tuple(configs)
    if not given:
        raise InputError("configs: none is not allowed, there must be one")
    return Study({}, (), given)


def members_of(asked: Study) -> Members:
    """Returns the members of a study, in the order of its axes, the last of which runs fastest.

    Raises:
      InputError: for an unknown option or a value of another type, and for an option that no member
        takes.
    """
    if asked.configs:
        given_ones = {identity(config): config for config in asked.configs}
        return Members(given_ones, _axes(asked, list(given_ones.values())))
    taken, complaints = set[str](), dict[str, str]()
    configs: dict[str, RunConfig] = {}
    for points in itertools.product(*asked.axes):
        given = {**asked.base, **{o: v for point in points for o, v in point.items()}}
        config, left = describe(given, RunConfig())
        taken |= given.keys() - left.keys()
        complaints = {**left, **complaints}
        configs.setdefault(identity(config), config)
    for option, complaint in complaints.items():
        if option not in taken:
            raise InputError(complaint)
    return Members(configs, _axes(asked, list(configs.values())))


def identity(config: RunConfig) -> str:
    """Returns a hash of all that decides what a member computes, whatever it runs on.

    How clients are laid out is left out, what is only told at the end, and what has no value, so
    that a later version's option may join without another name for all. A number is the same
    however it is written, 1 and 1.0.
    """
    apart = (*_OF_SPEED, *_OF_REPORTS)
    decisive = {n: v for n, v in flat(config).items() if n not in apart and v is not None}
    values = json.loads(json.dumps(decisive), parse_float=_number)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _number(text: str) -> float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _axes(asked: Study, configs: Sequence[RunConfig]) -> tuple[str, ...]:
    """Returns the full names of the options that differ, in the study's order."""
    named = asked.named

    def place(name: str) -> int:
        short = dashed(name.rpartition(".")[2])
        known = [i for i, option in enumerate(named) if option in (dashed(name), short)]
        return known[0] if known else len(named)

    return tuple(sorted(differing(configs), key=place))


def differing(configs: Sequence[RunConfig]) -> list[str]:
    """Returns the full names of the options of which those that have them have several values."""
    flats = [flat(config) for config in configs]
    everything = dict.fromkeys(name for values in flats for name in values)
    return [
        name
        for name in everything
        if name not in (*_OF_SPEED, *_OF_REPORTS)
        and len({repr(values[name]) for values in flats if name in values}) > 1
    ]


def _flattened(where: str, given: Any) -> dict[str, Any]:
    """Returns options by name, those of a table too: `[algorithm] mu` is `algorithm.mu`."""
    _check_table(where or "the options of all members", given)
    found: dict[str, Any] = {}
    for key, value in given.items():
        option = dashed(str(key))
        inner = {option: value}
        if isinstance(value, Mapping) and not _is_range(value):
            inner = {
                option if name == "name" else f"{option}.{dashed(str(name))}": one
                for name, one in value.items()
            }
        for name, one in inner.items():
            if name in found:
                raise InputError(f"{where}: {name} is there twice".removeprefix(": "))
            found[name] = one
    return found


def _is_range(value: Mapping[str, Any]) -> bool:
    return {"first", "low"} & value.keys() != set()


def _check_table(where: str, given: Any) -> None:
    if not isinstance(given, Mapping):
        raise InputError(f"{where}: {given!r} is not allowed, it must be a table of options")


def _values(where: str, given: Any) -> list[Any]:
    """Returns the values of an axis: a list as it is, a range as its numbers."""
    if isinstance(given, Mapping):
        return _range(where, given)
    if isinstance(given, str) or not isinstance(given, Sequence | range | np.ndarray):
        raise InputError(f"{where}: {given!r} is not allowed, it must be a list of values")
    if not len(given):
        raise InputError(f"{where}: an empty axis is not allowed")
    values = list(given.tolist() if isinstance(given, np.ndarray) else given)
    seen = set[str]()
    for text in map(repr, values):
        if text in seen:
            raise InputError(f"{where}: {text} is there twice")
        seen.add(text)
    return values


def _range(where: str, given: Mapping[str, Any]) -> list[Any]:
    if given.keys() not in _RANGES:
        raise InputError(
            f"{where}: {dict(given)} is not allowed, it must be a list, {{first, last}} (and a "
            "step) or {low, high, count} (and a scale, linear or log)"
        )
    if "first" in given:
        first, last, step = given["first"], given["last"], given.get("step", 1)
        for name, number in (("first", first), ("last", last), ("step", step)):
            check.count(f"{where}: {name}", number, low=1 if name == "step" else 0)
        check.count(f"{where}: last", last, low=first)
        numbers = range(first, last + 1, step)
        if last - first >= _LONGEST * step:
            raise InputError(
                f"{where}: {len(numbers):,} values are not allowed, {_LONGEST:,} at most"
            )
        return list(numbers)
    low, high = _ends(where, given)
    check.count(f"{where}: count", given["count"], low=2, high=_LONGEST)
    return [_between(low, high, given, share) for share in np.linspace(0, 1, given["count"])]


def _ends(where: str, given: Mapping[str, Any]) -> tuple[float, float]:
    scale = given.get("scale", "linear")
    check.known(f"{where}: scale", scale, _SCALES)
    for name in ("low", "high"):
        check.part(f"{where}: {name}", given[name], (int, float), "a number")
    if scale == "log":
        check.number(f"{where}: low", given["low"], low=0, low_open=True)
    else:
        check.number(f"{where}: low", given["low"])
    check.number(f"{where}: high", given["high"], low=given["low"], low_open=True)
    return float(given["low"]), float(given["high"])


def _between(low: float, high: float, given: Mapping[str, Any], share: float) -> float:
    """Returns the number at a share of the way, rounded to ten digits so that files can say it."""
    if given.get("scale") == "log":
        return float(f"{low * (high / low) ** share:.10g}")
    return float(f"{low + (high - low) * share:.10g}")


def _several(where: str, given: Any) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, str) or not isinstance(given, Sequence):
        return [given]
    if not given:
        raise InputError(f"{where}: an empty axis is not allowed")
    return list(given)


def _named(where: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {f"{where}.{name}": points for name, points in given.items()}
    return {where: given}


def _zipped(given: Any) -> tuple[Point, ...]:
    columns = {o: _together(o, values) for o, values in _flattened("zip", given).items()}
    if not columns:
        raise InputError("zip: an empty axis is not allowed")
    lengths = {option: len(values) for option, values in columns.items()}
    first = next(iter(lengths))
    for option, length in lengths.items():
        if length != lengths[first]:
            raise InputError(
                f"zip: {option}: {length} values are not allowed beside the {lengths[first]} of "
                f"{first}"
            )
    return tuple(
        {option: values[i] for option, values in columns.items()} for i in range(lengths[first])
    )


def _together(option: str, given: Any) -> list[Any]:
    if isinstance(given, Sequence) and not isinstance(given, str) and given:
        return list(given)  # a value may be there twice, beside others
    return _values(f"zip: {option}", given)


def _listed(where: str, given: Any) -> tuple[Point, ...]:
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
        raise InputError(f"{where}: {given!r} is not allowed, it must be a list of tables")
    points = tuple(_flattened(f"{where}[{i}]", point) for i, point in enumerate(given))
    if not points:
        raise InputError(f"{where}: an empty axis is not allowed")
    return points


def _drawn(given: Any) -> tuple[Point, ...]:
    options = _flattened("random", given)
    count, seed = options.pop("count", None), options.pop("from-seed", 0)
    if count is None:
        raise InputError("random: count is missing, it must be the number of draws")
    check.count("random: count", count, high=_LONGEST)
    check.count("random: from-seed", seed, low=0)
    if not options:
        raise InputError("random: an empty axis is not allowed")
    rng = np.random.default_rng(seed)
    columns = {option: _draws(option, value, count, rng) for option, value in options.items()}
    return tuple({option: draws[i] for option, draws in columns.items()} for i in range(count))


def _draws(option: str, given: Any, count: int, rng: np.random.Generator) -> list[Any]:
    where = f"random: {option}"
    if isinstance(given, Mapping) and given.keys() in _DRAWN:
        low, high = _ends(where, given)
        return [_between(low, high, given, share) for share in rng.random(count)]
    if isinstance(given, Mapping) and "low" in given:
        raise InputError(
            f"{where}: {dict(given)} is not allowed, it must be a list, {{first, last}} or "
            "{low, high} (and a scale, linear or log)"
        )
    values = _values(where, given)
    return [values[i] for i in rng.integers(0, len(values), count)]
