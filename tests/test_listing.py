"""Listings: one file and one line, and nothing is lost unsaid."""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple, get_type_hints

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as some

import fedjax_ecgr as fx
from fedjax_ecgr.kinds import Kind, fits, kind_of, read, write
from fedjax_ecgr.listing import listing
from fedjax_ecgr.types import PYTHON_ONLY, DType

PACKAGE = Path(fx.__file__).parent
ROOMS = {
    "algorithms": (fx.algorithms, "ALGORITHMS", fx.Algorithm),
    "regulators": (fx.regulators, "REGULATORS", fx.Regulator),
    "transforms": (fx.transforms, "TRANSFORMS", fx.transforms.Transform),
    "aggregators": (fx.aggregators, "AGGREGATORS", fx.aggregators.Aggregator),
    "attacks": (fx.attacks, "ATTACKS", fx.attacks.Attack),
    "samplers": (fx.samplers, "SAMPLERS", fx.samplers.Sampler),
    "systems": (fx.systems, "SYSTEMS", fx.systems.System),
    "trackers": (fx.trackers, "TRACKERS", fx.trackers.Tracker),
    "models": (fx.models, "MODELS", fx.Model),
    "data/datasets": (fx.datasets, "DATASETS", fx.Dataset),
    "data/partition": (fx.partition, "PARTITIONS", fx.FederatedDataset),
}
LINE = "from fedjax_ecgr.{room}.{name} import {name} as {name}\n"
THROW_AWAY = '''
"""A method to throw away."""

from typing import Unpack

from fedjax_ecgr.algorithms.base import Algorithm, Common, algorithm


def throw_away(*, alpha: float = 0.5, **common: Unpack[Common]) -> Algorithm:
    """Returns what will be thrown away.

    Args:
      alpha: has a namesake.
      **common: what every algorithm takes.
    """
    return algorithm("throw_away", common, own={"alpha": alpha})
'''
USED = """
import fedjax_ecgr as fx
from fedjax_ecgr.cli import main

assert fx.__file__.startswith({folder!r}), fx.__file__
assert fx.throw_away(alpha=1.0).hyperparameters["alpha"] == 1.0
assert fx.algorithms.ALGORITHMS["throw_away"] is fx.throw_away
assert not hasattr(fx, "Client") and not hasattr(fx, "base")
assert main(["list"]) == 0
small = "--model logistic_regression --num-clients 3 --rounds 1 --partition iid".split()
run = ["run", *small, "--algorithm", "throw_away", "--alpha", "0.25", "--out", "run"]
assert main(run) == 0
assert fx.runs.load("run").config.algorithm.options["alpha"] == 0.25
"""


def test_a_file_and_its_line_are_all(tmp_path):
    """In a copy of the package: from there `fx`, `list` and `run` follow."""
    for path in PACKAGE.rglob("*.py"):
        copy = tmp_path / "fedjax_ecgr" / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    room = tmp_path / "fedjax_ecgr" / "algorithms"
    (room / "throw_away.py").write_text(THROW_AWAY)
    text = (room / "__init__.py").read_text()
    last = "from fedjax_ecgr.listing import listing\n"
    assert last in text
    line = LINE.format(room="algorithms", name="throw_away")
    (room / "__init__.py").write_text(text.replace(last, line + last))
    command = [sys.executable, "-c", USED.format(folder=str(tmp_path))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "throw_away" in done.stdout


@pytest.mark.parametrize("path", sorted(ROOMS))
def test_every_file_of_a_room_that_holds_a_factory_is_listed(path):
    """So that a forgotten line does not go unseen."""
    room, name, contract = ROOMS[path]
    found = getattr(room, name)
    assert list(found) == sorted(found)
    factories = {}
    for file in (PACKAGE / path).glob("[!_]*.py"):
        thing = getattr(importlib.import_module(f"{room.__name__}.{file.stem}"), file.stem, None)
        if inspect.isfunction(thing) and get_type_hints(thing).get("return") is contract:
            factories[file.stem] = thing
    factories.pop("arrays", None)  # which is not to be had by name
    assert found == factories


def test_fx_shows_factories_and_no_innards():
    for name, factory in {**fx.algorithms.ALGORITHMS, **fx.regulators.REGULATORS}.items():
        assert getattr(fx, name) is factory
    for name in ("base", "Client", "Common", "algorithm", "Given", "rows", "sketch", "T"):
        assert not hasattr(fx, name)
    for name in ("median", "clip", "uniform", "sign_flip", "mlp", "dirichlet", "digits"):
        assert not hasattr(fx, name)


class Thing(NamedTuple):
    """A contract."""

    name: str


def room_with(name: str, function: Callable[..., Any]) -> Mapping[str, Any]:
    """What the globals of a room would be that imports a function from its file."""
    function.__module__ = f"a.room.{name}"
    return {**vars(ModuleType("a.room")), name: function}


def test_a_factory_that_does_not_say_what_it_returns_is_refused():
    def plain():
        return Thing("plain")

    with pytest.raises(TypeError, match="plain: does not say what it returns"):
        listing(room_with("plain", plain), Thing)


def test_what_returns_something_else_or_comes_from_elsewhere_is_no_factory():
    def helper() -> int:
        return 1

    def thing() -> Thing:
        return Thing("thing")

    assert listing(room_with("helper", helper), Thing) == {}
    assert listing({"__name__": "another", "thing": thing}, Thing) == {}
    assert listing(room_with("thing", thing), Thing) == {"thing": thing}
    assert listing(room_with("thing", thing), Thing, apart=["thing"]) == {}


def test_annotations_may_be_text():
    def late(size: "int" = 1) -> "Thing":
        return Thing("late" * size)

    late.__globals__["Thing"] = Thing
    assert list(listing(room_with("late", late), Thing)) == ["late"]


@pytest.mark.parametrize("annotation", [dict[str, int], Any, tuple[int, str], Sequence, object])
def test_an_option_that_cannot_be_written_down_is_refused_aloud(annotation):
    def odd(table=None) -> Thing:
        return Thing("odd")

    odd.__annotations__["table"] = annotation
    with pytest.raises(TypeError, match=r"odd: table: .* cannot be written down"):
        listing(room_with("odd", odd), Thing)


def test_an_option_without_annotation_or_default_or_with_a_wrong_one_is_refused():
    def unsaid(size=1) -> Thing:
        return Thing("unsaid")

    def needy(size: int) -> Thing:
        return Thing("needy")

    def wrong(size: int = 0.5) -> Thing:  # type: ignore[assignment]
        return Thing("wrong")

    with pytest.raises(TypeError, match="unsaid: size has no annotation"):
        listing(room_with("unsaid", unsaid), Thing)
    with pytest.raises(TypeError, match="needy: size has no default"):
        listing(room_with("needy", needy), Thing)
    assert listing(room_with("needy", needy), Thing, given=["size"])
    with pytest.raises(TypeError, match=r"wrong: size: 0.5 is not a whole number"):
        listing(room_with("wrong", wrong), Thing)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (bool, Kind(bool)),
        (float | jax.Array, Kind(float)),
        (int | None, Kind(int)),
        (str, Kind(str)),
        (Sequence[float], Kind(float, 1)),
        (tuple[str, ...] | None, Kind(str, 1)),
        (Sequence[Sequence[int]], Kind(int, 2)),
        (float | Callable[[int], float], Kind(float)),
        (jax.Array, None),
        (Thing | None, None),
        (Sequence[Thing], None),
        (Callable[[int], int], None),
        (Annotated[dict, PYTHON_ONLY], None),
        (DType, None),
    ],
)
def test_kinds(annotation, kind):
    assert kind_of(annotation) == kind


def test_what_is_nested_deeper_is_refused():
    with pytest.raises(TypeError, match="nested too deeply"):
        kind_of(Sequence[Sequence[Sequence[int]]])


@given(some.lists(some.lists(some.integers(), min_size=1), min_size=2))
def test_groups_are_read_as_they_are_written(values):
    groups = tuple(map(tuple, values))
    assert fits(Kind(int, 2), groups)
    assert read(Kind(int, 2), write(groups)) == groups


@given(some.floats(allow_nan=False))
def test_numbers_are_read_as_they_are_written(value):
    assert read(Kind(float), write(value)) == value
    assert read(Kind(float, 1), write((value, value))) == (value, value)


def test_texts_that_stand_for_no_value():
    for kind, text in [(Kind(int), "1.5"), (Kind(bool), "yes"), (Kind(float, 1), "1,x")]:
        with pytest.raises(ValueError):  # noqa: PT011
            read(kind, text)
    assert read(Kind(bool), "true") is True
    assert read(Kind(int, 1), "none") == ()
    assert not fits(Kind(int), True)
    assert not fits(Kind(float), "1")
    assert fits(Kind(float), 1)
