"""The same tuning for every method: its numbers are those that validation examples choose.

Of the members that differ in the tuned axes and in seeds alone, those of one choice of numbers stay
for all seeds: that whose runs have the best mean accuracy on the validation examples. Test examples
have no part in it.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.kinds import write
from fedjax_ecgr.reports.results import FINISHED, MEMBER, STATUS, Results, Rows, by_member, only
from fedjax_ecgr.reports.scores import mean_of_last_ten
from fedjax_ecgr.reports.study import SEEDS, Values, described, equal_but_for, has
from fedjax_ecgr.reports.tables import Entry, Table


class Choice(NamedTuple):
    """What was chosen for one method in one setting.

    Attributes:
      where: its values on the axes that are neither tuned nor seeds.
      values: the chosen ones, on the tuned axes.
      scores: of every choice there was, by its values: the mean over runs of the validation
        accuracy; NaN where no run finished.
    """

    where: Values
    values: Values
    scores: Mapping[Values, float]


class Tuned(NamedTuple):
    """A study in which numbers were chosen.

    Attributes:
      results: of the members that stay; the tuned axes are none of its own.
      axes: those that are neither tuned nor seeds.
      tuned: the tuned axes.
      choices: one for each method in each setting.
    """

    results: Results
    axes: tuple[str, ...]
    tuned: tuple[str, ...]
    choices: tuple[Choice, ...]


def validation_accuracy(rows: Rows) -> float:
    """Returns the mean validation accuracy of the last ten evaluations, or of all if fewer."""
    return mean_of_last_ten(rows["validation_accuracy"])


def tune(results: Results, axes: Sequence[str], by: Mapping[str, str] | None = None) -> Tuned:
    """Returns the study with the numbers that are best on the validation examples.

    Of choices of which not as many runs finished, those that most finished come first; of equal
    ones, the first that the study has.

    Args:
      results: what was recorded.
      axes: axes of the study, no seeds: what is chosen for each method in each setting.
      by: gives every method what is chosen for the one that equals it but for these values and the
        options that go with them, {"regulator": "identity"}, as text: for what compares only at the
        same numbers. By default each has its own.

    Raises:
      InputError: if one is no such axis, `by` is nothing that a run has, or a finished run has no
        validation accuracy.
    """
    allowed = [axis for axis in results.axes if axis not in SEEDS]
    for axis in axes:
        if axis not in allowed:
            near = check.nearest(axis, allowed)
            listed = ", ".join(allowed) or "none"
            raise InputError(f"tune: {axis!r} is no axis of the study{near} (axes: {listed})")
    tuned = tuple(axis for axis in allowed if axis in axes)
    others = tuple(axis for axis in allowed if axis not in axes)
    histories = by_member(results)
    found: defaultdict[Values, defaultdict[Values, list[int]]] = defaultdict(
        lambda: defaultdict(list)
    )
    scores: dict[int, float] = {}
    for row, name in enumerate(results.members[MEMBER]):
        where, values = (
            tuple(results.members[axis][row] for axis in some) for some in (others, tuned)
        )
        found[where][values].append(row)
        if results.members[STATUS][row] == FINISHED:
            scores[row] = validation_accuracy(histories[name])
            if math.isnan(scores[row]):
                raise InputError(
                    f"tune: run {name} has no validation accuracy; --validation-fraction holds out "
                    "examples to choose by"
                )
    chosen = [_choice(where, by_values, scores) for where, by_values in found.items()]
    if by:
        chosen = _alike(chosen, others, by)
    rows = np.sort([row for one in chosen for row in found[one.where].get(one.values, ())])
    left = only(results, rows.astype(int))
    axes = tuple(axis for axis in results.axes if axis in others or axis in SEEDS)
    return Tuned(left._replace(axes=axes), others, tuned, tuple(chosen))


def _alike(chosen: Sequence[Choice], axes: tuple[str, ...], by: Mapping[str, str]) -> list[Choice]:
    """Returns for each what was chosen for that which equals it but for the values of `by`."""
    for axis, text in by.items():
        if axis not in axes or not any(has(one.where, axes, {axis: text}) for one in chosen):
            raise InputError(f"by: {axis}={text} is not allowed, no run of the study has it")
    bases = [one for one in chosen if has(one.where, axes, by)]

    def base_of(one: Choice) -> Choice:
        fitting = (base for base in bases if equal_but_for(base.where, one.where, axes, by))
        return next(fitting, one)

    return [one._replace(values=base_of(one).values) for one in chosen]


def _choice(
    where: Values, rows: Mapping[Values, Sequence[int]], scores: Mapping[int, float]
) -> Choice:
    there = {values: [scores[row] for row in of if row in scores] for values, of in rows.items()}
    means = {values: float(np.mean(s)) if s else math.nan for values, s in there.items()}

    def rank(values: Values) -> tuple[float, float]:
        return len(there[values]) / len(rows[values]), np.nan_to_num(means[values], nan=-1.0)

    return Choice(where, max(rows, key=rank), means)


def of_choices(tuned: Tuned) -> Table:
    """Returns a table of what was chosen, and of how near the next best choice was."""
    rows: list[tuple[Entry, ...]] = []
    for one in tuned.choices:
        scores = {v: s for v, s in one.scores.items() if v != one.values and not math.isnan(s)}
        best, nearest = one.scores[one.values], max(scores, key=lambda v: scores[v], default=None)
        beside = Entry("–") if nearest is None else Entry(f"{100 * scores[nearest]:.2f}")
        values = [Entry(write(value), _number(value)) for value in one.values]
        called = Entry(described(tuned.axes, one.where) or "all")
        rows.append((called, *values, Entry(f"{100 * best:.2f}", best), beside))
    headings = ("of", *tuned.tuned, "validation accuracy (%)", "next best (%)")
    note = (
        "Chosen by the mean over runs of the validation accuracy, mean of the last ten "
        "evaluations, of the values with which most runs finished; the next best is of all "
        "values, by the runs that finished."
    )
    return Table(f"Chosen: {', '.join(tuned.tuned)}", headings, tuple(rows), 1, (note,))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
