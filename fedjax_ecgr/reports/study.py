"""How the members of a study become a table: methods against settings, seeds within a cell.

*Seed axes* repeat the same thing. *Method axes* say what is done: algorithm, regulator, transforms,
aggregator, augmentations and their options. *Setting axes* say what it is done to: all others
(data, partition, model, attack, numbers of clients and rounds, …). A method is its values on the
method axes, a setting its values on the setting axes, and two members are a pair where setting and
seeds are the same. An axis that follows from others, as a step size chosen for each data set does,
is none of its own.

Members that diverged or never finished are counted and have no part in any mean.
"""

from collections.abc import Mapping, Sequence
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.kinds import write
from fedjax_ecgr.reports.results import (
    DIVERGED,
    FINISHED,
    MEMBER,
    STATUS,
    Results,
    Rows,
    by_member,
    check_there,
    is_text,
)
from fedjax_ecgr.reports.scores import Score
from fedjax_ecgr.reports.statistics import (
    Estimate,
    Paired,
    interquartile_mean,
    paired,
    probability_of_improvement,
)

SEEDS = ("seed", "partition_seed", "data_seed")
METHOD_KINDS = ("algorithm", "regulator", "transforms", "aggregator", "augmentations")
SETTING_KINDS = ("dataset", "partition", "model", "attack", "sampler", "system")

_SEVERAL = ("transforms", "augmentations")  # whose options stand behind their own names
_NAMED = METHOD_KINDS[:4]  # what a label shows as a bare name
_PLAIN = ("identity", "mean", "none", "")  # what it need not show

Values = tuple[Any, ...]


class Member(NamedTuple):
    """One run of a study.

    Attributes:
      name: what names its configuration.
      seeds: its values on the seed axes.
      status: "finished", "diverged" or what else kept it from its end.
      rows: its rounds.
    """

    name: str
    seeds: Values
    status: str
    rows: Rows


class Group(NamedTuple):
    """A method or a setting.

    Attributes:
      values: its values on the axes of its sort.
      label: what tables call it.
    """

    values: Values
    label: str


class Cell(NamedTuple):
    """The members of one method in one setting.

    Attributes:
      members: all of them.
    """

    members: tuple[Member, ...]

    @property
    def finished(self) -> list[Member]:
        """Those that count."""
        return [member for member in self.members if member.status == FINISHED]

    @property
    def told(self) -> str:
        """How many count: "10", "9 of 10, 1 diverged", "8 of 10"."""
        return counted(len(self.finished), len(self.members), self.diverged)

    @property
    def diverged(self) -> int:
        """How many diverged."""
        return sum(member.status == DIVERGED for member in self.members)

    def values(self, score: Score) -> dict[Values, float]:
        """Returns a score of the finished members by their seeds, NaN where one has none."""
        return {member.seeds: score.of(member.rows) for member in self.finished}


class Study(NamedTuple):
    """A study as tables show it.

    Attributes:
      method_axes: in the study's order.
      setting_axes: likewise.
      methods: in the order first seen, as settings are.
      settings: one, with the label "all", if no setting axis varies.
      cells: by number of method and of setting; those without a member are not there.
      baseline: for each method the number of that it is compared with; None where there is none.
      against: what the baseline is called: "the same with regulator=identity", or a method.
    """

    method_axes: tuple[str, ...]
    setting_axes: tuple[str, ...]
    methods: tuple[Group, ...]
    settings: tuple[Group, ...]
    cells: dict[tuple[int, int], Cell]
    baseline: tuple[int | None, ...]
    against: str

    @property
    def total(self) -> Cell:
        """All members."""
        return Cell(tuple(member for cell in self.cells.values() for member in cell.members))

    def of_method(self, method: int) -> Cell:
        """Returns all members of a method."""
        cells = (self.cells.get((method, setting)) for setting in range(len(self.settings)))
        return Cell(tuple(member for cell in cells if cell is not None for member in cell.members))

    def told(self, method: int) -> str:
        """Returns a method's label, and how many of its runs count if those are not all."""
        cell, label = self.of_method(method), self.methods[method].label
        return label if len(cell.finished) == len(cell.members) else f"{label} ({cell.told})"

    def values(self, method: int, score: Score) -> list[np.ndarray]:
        """Returns for each setting what a method's finished members score, in shown units."""
        cells = (self.cells.get((method, setting)) for setting in range(len(self.settings)))
        found = (np.array([*cell.values(score).values()] if cell else [], float) for cell in cells)
        return [score.scale * scores[~np.isnan(scores)] for scores in found]

    def interquartile(self, method: int, score: Score) -> Estimate | None:
        """Returns the interquartile mean over all settings, in shown units.

        None where a setting has no value, for the others would not stand for all.
        """
        values = self.values(method, score)
        return interquartile_mean(values) if all(map(len, values)) else None

    def improvement(self, method: int, score: Score) -> tuple[Estimate, int] | None:
        """Returns how likely a run is better than one of the baseline, and in how many settings.

        Those are the settings in which both have values. None where there is no baseline, no such
        setting, or no better.
        """
        base = self.baseline[method]
        if base is None or score.higher_is_better is None:
            return None
        sides = zip(self.values(method, score), self.values(base, score), strict=True)
        both = [side for side in sides if all(map(len, side))]
        if not both:
            return None
        better, worse = zip(
            *(side if score.higher_is_better else side[::-1] for side in both), strict=True
        )
        return probability_of_improvement(better, worse), len(both)

    def difference(self, method: int, setting: int, score: Score) -> Paired | None:
        """Returns a method less its baseline over the pairs that both finished, in shown units.

        Wins are differences above 0, whether or not higher is better. None where there is no
        baseline or no pair.
        """
        base = self.baseline[method]
        if base is None or not {(method, setting), (base, setting)} <= self.cells.keys():
            return None
        ours, theirs = (self.cells[m, setting].values(score) for m in (method, base))
        pairs = [
            (ours[seeds], theirs[seeds])
            for seeds in ours
            if seeds in theirs and not np.isnan(ours[seeds] - theirs[seeds])
        ]
        if not pairs:
            return None
        x, y = (score.scale * np.array(side) for side in zip(*pairs, strict=True))
        return paired(x, y)  # type: ignore[arg-type]


def study(results: Results, against: Mapping[str, str] | None = None) -> Study:
    """Returns a study as tables show it.

    Args:
      results: what was recorded.
      against: what each method is compared with: the method that equals it but for these values of
        method axes, {"regulator": "identity"}, as text. Options that only one of the two has are
        not looked at. By default that very one where the regulator varies and identity is among
        its values, else the study's first method.

    Raises:
      InputError: if `against` names no method axis or no value of it, or does not tell which
        method is meant; if two members are the same but for their names, or there is none; if an
        axis is no column of the members.
    """
    for axis in results.axes:
        if axis not in results.members:
            raise InputError(f"axes: {axis!r} is not allowed, members have no such column")
    seed_axes = tuple(axis for axis in results.axes if axis in SEEDS)
    of_methods = [axis for axis in results.axes if _is_of_method(axis)]
    of_settings = [a for a in results.axes if a not in seed_axes and a not in of_methods]
    setting_axes = _telling(results, sorted(of_settings, key=lambda a: a not in SETTING_KINDS))
    kinds = tuple(axis for axis in of_methods if axis in METHOD_KINDS)
    options = [axis for axis in of_methods if axis not in METHOD_KINDS]
    method_axes = kinds + _telling(results, options, (*setting_axes, *kinds))
    histories = by_member(results)
    methods: dict[Values, int] = {}
    settings: dict[Values, int] = {}
    first: dict[Values, int] = {}  # a row of each method
    cells: dict[tuple[int, int], dict[Values, Member]] = {}
    for row, name in enumerate(results.members[MEMBER]):
        method, setting, seeds = (
            tuple(results.members[axis][row] for axis in axes)
            for axes in (method_axes, setting_axes, seed_axes)
        )
        first.setdefault(method, row)
        at = methods.setdefault(method, len(methods)), settings.setdefault(setting, len(settings))
        cell = cells.setdefault(at, {})
        if seeds in cell:
            raise InputError(
                f"members: {cell[seeds].name} and {name} are the same by all axes, they must differ"
            )
        cell[seeds] = Member(name, seeds, results.members[STATUS][row], histories[name])
    if not cells:
        raise InputError("members: the study has none yet, it must have at least one")
    named = tuple(
        Group(values, _method_label(results, first[values], method_axes)) for values in methods
    )
    placed = tuple(Group(values, described(setting_axes, values) or "all") for values in settings)
    baseline, called = _baseline(method_axes, named, against)
    filled = {at: Cell(tuple(members.values())) for at, members in cells.items()}
    return Study(method_axes, setting_axes, named, placed, filled, baseline, called)


def _telling(
    results: Results, axes: Sequence[str], beside: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Returns the axes that do not follow from those before them and beside them.

    A step size chosen for each data set is no method of its own, and where each data set has its
    model, that need not be said again.
    """
    kept: list[str] = []
    for axis in axes:
        known = [results.members[name] for name in (*beside, *kept)]
        seen: dict[Values, Any] = {}
        for row, value in enumerate(results.members[axis]):
            if seen.setdefault(tuple(column[row] for column in known), value) != value:
                kept.append(axis)
                break
    return tuple(kept)


def counted(finished: int, total: int, diverged: int = 0) -> str:
    """Returns how many count, of how many if that is not all."""
    if finished == total:
        return f"{total}"
    return f"{finished} of {total}" + (f", {diverged} diverged" if diverged else "")


def _is_of_method(axis: str) -> bool:
    # what is no kind stands before the option of a transform or an augmentation
    space, dot, _ = axis.partition(".")
    return space not in SETTING_KINDS if dot else axis in METHOD_KINDS


def _baseline(
    axes: tuple[str, ...], methods: tuple[Group, ...], against: Mapping[str, str] | None
) -> tuple[tuple[int | None, ...], str]:
    """Returns what each method is compared with, and what that is called."""
    if against is None:
        plain = {"regulator": "identity"}
        if "regulator" not in axes or not any(has(m.values, axes, plain) for m in methods):
            return (None, *[0] * (len(methods) - 1)), methods[0].label
        against = plain
    _check(axes, methods, against)
    assigned = ", ".join(f"{axis}={value}" for axis, value in against.items())
    chosen = [i for i, method in enumerate(methods) if has(method.values, axes, against)]
    found: list[int | None] = []
    for number, method in enumerate(methods):
        fitting = [
            i for i in chosen if equal_but_for(methods[i].values, method.values, axes, against)
        ]
        if number in fitting:  # it is one of those that others are compared with
            fitting = []
        if len(fitting) > 1:
            told = " and ".join(f"({methods[i].label})" for i in fitting[:2])
            raise InputError(
                f"against: {assigned} is not allowed, for ({method.label}) it may be {told}: say "
                "more"
            )
        found.append(fitting[0] if fitting else None)
    return tuple(found), f"the same with {assigned}"


def _check(axes: tuple[str, ...], methods: tuple[Group, ...], against: Mapping[str, str]) -> None:
    """Raises `InputError` unless each axis is one of methods, and a method has its value."""
    for axis, text in against.items():
        if axis not in axes:
            allowed, near = ", ".join(axes) or "none", check.nearest(axis, axes)
            raise InputError(f"against: {axis!r} is no axis of the methods{near} (axes: {allowed})")
        values = [method.values[axes.index(axis)] for method in methods]
        check_there("against", axis, text, values, "method")


def has(values: Values, axes: tuple[str, ...], wanted: Mapping[str, str]) -> bool:
    """Whether values on some axes are what is wanted, as text."""
    return all(is_text(values[axes.index(axis)], text) for axis, text in wanted.items())


def equal_but_for(
    base: Values, values: Values, axes: tuple[str, ...], assigned: Mapping[str, str]
) -> bool:
    """Whether values are the base's but for what is assigned, and the options that go with it."""

    def equal(axis: str, b: Any, m: Any) -> bool:
        return axis in assigned or b == m or (_goes_with(axis, assigned) and None in (b, m))

    return all(starmap(equal, zip(axes, base, values, strict=True)))


def _goes_with(axis: str, assigned: Mapping[str, str]) -> bool:
    space = axis.partition(".")[0]
    of_several = space not in METHOD_KINDS and any(kind in assigned for kind in _SEVERAL)
    return space in assigned or of_several


def _method_label(results: Results, row: int, axes: tuple[str, ...]) -> str:
    """Returns a method's names, "fedavg + ecgr", and its values on the other method axes."""
    member = {name: column[row] for name, column in results.members.items()}
    names = [str(member[kind]) for kind in _NAMED if member.get(kind) not in (None, *_PLAIN)]
    rest = [axis for axis in axes if axis not in _NAMED]
    options = described(rest, [member[axis] for axis in rest])
    return ", ".join(filter(None, [" + ".join(names), options])) or "plain"


def described(axes: Sequence[str], values: Sequence[Any]) -> str:
    """Returns `axis=value, …`, an axis by what is behind its dot where that is clear."""
    short = [axis.rpartition(".")[2] for axis in axes]
    return ", ".join(
        f"{s if short.count(s) == 1 else axis}={write(value)}"
        for axis, s, value in zip(axes, short, values, strict=True)
        if value is not None or "." not in axis  # an option that it does not have
    )
