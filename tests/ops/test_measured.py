"""What is measured, and what is kept of it; how long something takes is not."""

import json

import jax
import jax.numpy as jnp
import pytest

from fedjax_ecgr.ops import measured

X = jax.ShapeDtypeStruct((3,), jnp.float32)


def takes(time):
    """A way that takes so long, by the clock of `clock`."""
    return lambda x: jnp.full((), time)


def fails(x):
    raise ValueError("not this way")


WAYS = {"slow": takes(2.0), "fast": takes(1.0), "broken": fails}


@pytest.fixture(autouse=True)
def clock(monkeypatch, tmp_path):
    """Reads the time off what a program returns; a list of all that were run."""
    runs = []

    def seconds(program, operands):
        runs.append(float(program(*operands)))
        return runs[-1]

    monkeypatch.setattr(measured, "seconds", seconds)
    monkeypatch.setattr(measured, "_known", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return runs


def fastest(operation="sum", ways=WAYS):
    return measured.fastest(operation, ways, [X], "slow")


def test_the_least_time_wins_and_what_fails_is_left_out():
    assert fastest() == "fast"
    (times,) = json.loads(measured.cache_file().read_bytes()).values()
    assert times == {"slow": 2.0, "fast": 1.0}


def test_measured_once_for_each_operation(clock):
    assert [fastest(), fastest()] == ["fast", "fast"]
    assert clock == [2.0, 1.0]
    fastest("product")
    assert len(clock) == 4


def test_kept_for_the_next_process(clock, monkeypatch):
    fastest()
    fastest("product")
    monkeypatch.setattr(measured, "_known", {})
    assert [fastest(), fastest("product")] == ["fast", "fast"]
    assert len(clock) == 4


def test_a_number_changed_by_hand_changes_the_way(monkeypatch):
    fastest()
    kept = json.loads(measured.cache_file().read_bytes())
    for times in kept.values():
        times["slow"] = 0
    measured.cache_file().write_text(json.dumps(kept))
    monkeypatch.setattr(measured, "_known", {})
    assert fastest() == "slow"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "\xff", '{"KEY": 3}', '{"KEY": {"fast": "x"}}', '{"KEY": {"gone": 1.0}}'],
)
def test_what_cannot_be_read_is_measured_anew(content, clock, monkeypatch):
    fastest()
    (key,) = json.loads(measured.cache_file().read_bytes())
    measured.cache_file().write_bytes(content.replace("KEY", key).encode("latin-1"))
    monkeypatch.setattr(measured, "_known", {})
    assert fastest() == "fast"
    assert len(clock) == 4
    assert set(json.loads(measured.cache_file().read_bytes())) == {key}


def test_where_nothing_can_be_measured_the_other_is_taken_and_nothing_kept():
    assert fastest(ways={"broken": fails}) == "slow"
    assert not measured.cache_file().exists()


def test_where_nothing_can_be_kept_it_goes_on(clock, tmp_path):
    (tmp_path / "fedjax_ecgr").write_text("not a folder")
    assert [fastest(), fastest()] == ["fast", "fast"]
    assert len(clock) == 2


def test_measured_within_a_trace_and_another_precision_of_numbers(clock):
    with jax.enable_x64(True):
        shape = jax.ShapeDtypeStruct((3,), jnp.float64)
        program = jax.jit(lambda x: x * len(measured.fastest("sum", WAYS, [shape], "slow")))
        assert program(jnp.float64(1)) == len("fast")


def test_a_time_is_a_positive_number(monkeypatch):
    monkeypatch.undo()
    assert measured.seconds(jax.jit(jnp.sin), [jnp.ones(3)]) > 0
