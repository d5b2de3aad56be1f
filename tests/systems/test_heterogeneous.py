"""Devices that differ, against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.systems import heterogeneous
from fedjax_ecgr.systems.base import Task
from tests.engine.test_parts import LAYOUTS, SIZES, simulation
from tests.plain.systems import heterogeneous as plain

BYTES = (3e5, 2e5)
ASKED = [3, 0, 10, 7, 1, 4, 2, 9]
CLIENTS = [0, 1, 2, 5, 7, 8, 9, 11]
CASES = {
    "alike": {"speed_spread": 0.0, "bandwidth_spread": 0.0},
    "unlike": {"speed_spread": 1.0, "bandwidth_spread": 0.7},
    "dropout": {"dropout": 0.4},
    "stragglers": {"min_steps_share": 0.2},
    "deadline": {"deadline": 1.1},
    "all": {"dropout": 0.2, "min_steps_share": 0.5, "deadline": 0.9, "speed_spread": 1.5},
    "nobody": {"deadline": 0.01},
}
RUN, SYSTEM = np.uint32(2**32 - 3), np.uint32(2**32 - 2)
"""The streams of the run's key for devices, and of a round's for the system."""


def numbers_of(system):
    return {name: jnp.asarray(value, float) for name, value in system.hyperparameters.items()}


def done_by(system, key, clients=CLIENTS, asked=ASKED, num_clients=12, devices_key=0):
    numbers = numbers_of(system)
    devices = system.init(jax.random.key(devices_key), num_clients, numbers)
    task = Task(jnp.array(clients, jnp.int32), jnp.array(asked, jnp.int32), *BYTES, jnp.int32(0))
    return system.work(key, devices, task, numbers)


@pytest.mark.parametrize("late", ["drop", "partial"])
@pytest.mark.parametrize("case", CASES)
def test_steps_and_seconds_are_those_of_the_plain_loop(case, late, x64):
    system, some = heterogeneous(late=late, **CASES[case]), 0
    numbers = dict(system.hyperparameters)
    one = jax.jit(lambda key: done_by(system, key))
    for seed in range(8):
        key = jax.random.key(seed)
        devices = plain.devices(jax.random.key(0), 12, numbers)
        steps, seconds = plain.work(key, devices, CLIENTS, ASKED, sum(BYTES), numbers, late)
        found = one(key)
        assert found.num_steps.tolist() == steps
        np.testing.assert_allclose(found.seconds, seconds, rtol=1e-12)
        some += steps != ASKED
    assert (some > 0) == (case not in ("alike", "unlike"))


def test_alike_devices_take_what_one_can_work_out():
    """Half a second of sending at 1 MB a second, and 0.1 s for each of 10 steps."""
    alike = {"speed_spread": 0.0, "bandwidth_spread": 0.0}
    np.testing.assert_allclose(done_by(heterogeneous(**alike), jax.random.key(0)).seconds, 1.5)
    late = done_by(heterogeneous(deadline=0.95, **alike), jax.random.key(0))
    assert late.num_steps.tolist() == [3, 0, 0, 0, 1, 4, 2, 0]
    np.testing.assert_allclose(late.seconds, 0.95)
    part = done_by(heterogeneous(deadline=0.95, late="partial", **alike), jax.random.key(0))
    assert part.num_steps.tolist() == [3, 0, 4, 4, 1, 4, 2, 4]
    np.testing.assert_allclose(part.seconds, 0.95)
    # a deadline that all meet costs no waiting for it
    early = done_by(heterogeneous(deadline=9.0, **alike), jax.random.key(0))
    assert early.num_steps.tolist() == ASKED
    np.testing.assert_allclose(early.seconds, 1.5)


def test_devices_are_log_normal_about_their_medians():
    system = heterogeneous(step_seconds=0.2, speed_spread=0.8, bandwidth=5e5, bandwidth_spread=0.3)
    count = 20_000
    devices = system.init(jax.random.key(1), count, numbers_of(system))
    for values, median, spread in zip(devices, (0.2, 5e5), (0.8, 0.3), strict=True):
        logs = np.log(np.asarray(values, np.float64) / median)
        assert abs(logs.mean()) < 4 * spread / np.sqrt(count)
        assert abs(logs.std() - spread) < 4 * spread / np.sqrt(2 * count)
        assert abs((np.abs(logs) < spread).mean() - 0.6827) < 4 * np.sqrt(0.22 / count)
    assert abs(np.corrcoef(*np.log(np.asarray(devices)))[0, 1]) < 4 / np.sqrt(count)


def test_a_share_drops_out_and_the_others_have_time_for_a_share_of_their_steps():
    count, asked = 20_000, 1000
    system = heterogeneous(dropout=0.3, min_steps_share=0.4)
    clients = np.arange(count)
    done = jax.jit(lambda: done_by(system, jax.random.key(4), clients, [asked] * count, count))()
    steps = np.asarray(done.num_steps)
    assert abs((steps == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / count)
    shares = steps[steps > 0] / asked
    assert shares.min() >= 0.4
    assert shares.min() < 0.41
    assert shares.max() > 0.99
    assert abs(shares.mean() - 0.7) < 1e-3 + 4 * 0.6 / np.sqrt(12 * len(shares))


def test_what_befalls_a_client_does_not_depend_on_who_else_is_asked():
    system = heterogeneous(dropout=0.3, min_steps_share=0.1)
    for seed in range(5):
        key = jax.random.key(seed)
        whole = dict(zip(CLIENTS, done_by(system, key).num_steps.tolist(), strict=True))
        part = done_by(system, key, CLIENTS[2:6], ASKED[2:6]).num_steps.tolist()
        assert part == [whole[i] for i in CLIENTS[2:6]]


@pytest.mark.parametrize(
    ("layout", "late"), [("scan", "drop"), ("vmap", "partial"), ("devices", "partial")]
)
def test_a_run_keeps_the_clock_of_the_plain_loop(late, layout, x64):
    numbers = {
        "step_seconds": 0.1, "speed_spread": 0.8, "bandwidth": 1e4, "bandwidth_spread": 0.5,
        "dropout": 0.2, "min_steps_share": 0.5, "deadline": 0.9,
    }  # fmt: skip
    built = simulation(
        system=heterogeneous(late=late, **numbers), local_epochs=2, cohort_size=3, **LAYOUTS[layout]
    )
    rounds, seed = 8, 13
    key = jax.random.key(seed)
    history = fx.run(built, rounds=rounds, seed=seed, eval_every=rounds)
    devices = plain.devices(jax.random.fold_in(key, RUN), len(SIZES), numbers)
    num_bytes = built.setting.bytes_up + built.setting.bytes_down
    seconds, uploads = [], []
    for t, cohort in enumerate(history.cohorts.tolist()):
        own = jax.random.fold_in(jax.random.fold_in(key, t), SYSTEM)
        asked = [2 * -(-SIZES[i] // 4) for i in cohort]
        steps, taken = plain.work(own, devices, cohort, asked, num_bytes, numbers, late)
        seconds.append(taken)
        uploads.append(sum(n > 0 for n in steps))
    np.testing.assert_allclose(history.table["seconds"], seconds, rtol=1e-12)
    np.testing.assert_array_equal(
        history.table["bytes_up"], np.array(uploads) * built.setting.bytes_up
    )
    np.testing.assert_allclose(history.summary()["simulated_seconds"], sum(seconds))
    assert 0 < min(seconds) < max(seconds) == 0.9  # some rounds wait for their deadline


@pytest.mark.parametrize(("late", "least"), [("drop", 0.5), ("partial", 0.0)])
def test_a_deadline_that_nobody_meets_is_one_line_with_the_quickest_time(late, least, x64):
    """Partial needs time for a step, dropping for the least share of a client's steps."""
    numbers = {"speed_spread": 0.5, "bandwidth_spread": 0.5, "min_steps_share": 0.5}
    built = simulation(system=heterogeneous(late=late, deadline=1e-3, **numbers), local_epochs=4)
    system = dict(built.setting.system.hyperparameters)
    key, num_bytes = jax.random.key(0), built.setting.bytes_up + built.setting.bytes_down
    devices = plain.devices(jax.random.fold_in(key, RUN), len(SIZES), system)
    quickest = min(
        num_bytes / bandwidth + each * max(1, np.ceil(least * 4 * -(-size // 4)))
        for size, (each, bandwidth) in zip(SIZES, devices, strict=True)
        if size
    )
    with pytest.raises(fx.InputError) as caught:
        fx.run(built, rounds=1)
    assert str(caught.value) == (
        "deadline: 0.001 s is not allowed, nobody can meet it: the quickest client needs "
        f"{quickest:.3g} s"
    )
    numbers = {**built.hyperparameters, "system": {**system, "deadline": quickest * 1.001}}
    built.check(key, numbers)  # one client can


def test_half_precision_parameters_change_neither_steps_nor_seconds():
    """Types of 16 bits hold whole numbers to 256 or 2048, and 65504 at most."""
    steps, examples = 2051, np.ones((2051, 2))
    given = fx.Examples(examples, np.arange(steps) % 2, np.array(0.0), np.array(1.0))
    clients = fx.partition.iid(given, num_clients=1)
    system = heterogeneous(
        step_seconds=100.0, speed_spread=0, bandwidth=1e6, bandwidth_spread=0, deadline=1e9
    )
    for dtype in (jnp.bfloat16, jnp.float16):
        model = fx.models.logistic_regression(fx.Spec((2,), 2), dtype=dtype)
        built = fx.simulation(fx.fedavg(), model, clients, system=system, batch_size=1)
        key = jax.random.key(0)
        _, info = jax.jit(built.round)(built.init(key), key, built.hyperparameters)
        assert info.clients.num_steps.tolist() == [steps]
        sending = (built.setting.bytes_up + built.setting.bytes_down) / 1e6
        np.testing.assert_allclose(info.seconds, 100 * steps + sending, rtol=1e-6)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"step_seconds": 0}, "step_seconds: 0 is not allowed, it must be in (0, inf)"),
        ({"bandwidth": 0}, "bandwidth: 0 is not allowed"),
        ({"speed_spread": -1}, "speed_spread: -1 is not allowed, it must be in [0, inf)"),
        ({"bandwidth_spread": -1}, "bandwidth_spread: -1 is not allowed"),
        ({"dropout": 1}, "dropout: 1 is not allowed, it must be in [0, 1)"),
        ({"min_steps_share": 0}, "min_steps_share: 0 is not allowed, it must be in (0, 1]"),
        ({"min_steps_share": 1.5}, "min_steps_share: 1.5 is not allowed"),
        ({"deadline": 0}, "deadline: 0 is not allowed"),
        ({"late": "wait"}, "late: unknown 'wait'"),
    ],
)
def test_bad_numbers_are_named(numbers, said):
    with pytest.raises(fx.InputError) as caught:
        heterogeneous(**numbers)
    assert said in str(caught.value)
