"""Memory foretold, against what the process really takes, and chunks that fit a budget."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.engine import memory
from fedjax_ecgr.engine.memory import GIB, Memory, fit
from fedjax_ecgr.engine.placement import Placement

FEATURES, CLASSES, BATCH = 256, 4000, 4
# what XLA lays out is what its optimisations leave
pytestmark = pytest.mark.usefixtures("optimised")

PARAMETERS = 4 * (FEATURES + 1) * CLASSES  # bytes of one copy: 4 MB


def built(regulator, *, clients=2, steps=4, **options):
    number = clients * steps * BATCH
    examples = fx.Examples(
        np.ones((number, FEATURES), np.float32),
        np.zeros(number, np.int32),
        np.array(0.0, np.float32),
        np.array(1.0, np.float32),
    )
    return fx.simulation(
        fx.fedavg(regulator=regulator),
        fx.models.logistic_regression(fx.Spec((FEATURES,), CLASSES)),
        from_owners(examples, np.arange(number) % clients, clients),
        batch_size=BATCH,
        **{"placement": "scan", **options},
    )


def test_memory_is_that_of_what_is_kept_of_the_deltas():
    """A delta a step, half a delta in bfloat16, a sketch in a replay; and a few copies besides."""

    def copies(steps, **options):
        needed = built(fx.ecgr(**options), steps=steps).memory()
        return (needed.peak(1) - needed.data - needed.state) / PARAMETERS

    assert 40 < copies(40) < 40 + 10
    assert 20 < copies(40, storage="bfloat16") < 20 + 10
    few, many = (copies(steps, storage="replay", sketch_size=1024) for steps in (4, 40))
    assert few < 12
    np.testing.assert_allclose(many - few, 36 * 4 * 1025 / PARAMETERS, atol=0.02)


def test_memory_grows_with_the_chunk_and_not_with_the_cohort():
    few, many = (
        built(fx.identity(), clients=clients, placement="vmap").memory() for clients in (5, 50)
    )
    assert few.per_client > 3 * PARAMETERS
    np.testing.assert_allclose(many.per_client, few.per_client, rtol=0.01)
    np.testing.assert_allclose(many.fixed, few.fixed, rtol=0.05)
    assert many.data > 9 * few.data


@pytest.mark.parametrize("refused", [0, -1, float("nan"), "2GiB"])
def test_a_budget_that_is_no_number_of_gib_is_named(refused):
    with pytest.raises(fx.InputError, match="memory_budget: "):
        built(fx.identity(), memory_budget=refused)


def measured():
    """In a process of its own: prints the peak foretold and that of a round, in bytes."""
    import jax

    def status(name):
        # not getrusage's maxrss, which a child inherits from the process that started it
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

    simulation = built(fx.ecgr(), steps=64)
    needed, key = simulation.memory(), jax.random.key(0)
    state, _ = simulation.block(simulation.init(key), key, simulation.hyperparameters, 0, 1)
    jax.block_until_ready(state)
    before, of_compiler = status("VmRSS"), status("VmHWM")
    jax.block_until_ready(simulation.block(state, key, simulation.hyperparameters, 1, 1))
    peak = status("VmHWM")
    assert peak > of_compiler
    print(json.dumps([needed.peak(1) - needed.data - needed.state, peak - before]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_peak_is_the_one_foretold():
    done = subprocess.run(
        [sys.executable, "-c", "from tests.engine.test_memory import measured; measured()"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    foretold, peak = json.loads(done.stdout)
    assert foretold > 250e6
    assert 0.8 < peak / foretold < 1.2


MEMORY = Memory(data=GIB, state=GIB, fixed=GIB, per_client=2 * GIB, evaluation=0)
ALONE = MEMORY._replace(fixed=0)


@pytest.mark.parametrize(
    ("budget", "chunk_size"), [(100, 10), (23, 10), (22.9, 5), (13, 5), (12.9, 4), (7, 2), (6.9, 1)]
)
def test_the_largest_even_chunk_that_fits_is_taken(budget, chunk_size):
    def predict(one_by_one):
        return ALONE if one_by_one else MEMORY

    chosen = fit(Placement(10), 10, predict, budget, exact=False)
    assert chosen.chunk_size == chunk_size
    assert predict(chunk_size == 1).peak(chunk_size) <= budget * GIB


def test_what_an_evaluation_takes_is_there_for_a_round():
    needed = Memory(data=0, state=0, fixed=0, per_client=GIB, evaluation=3 * GIB)
    assert fit(Placement(8), 8, lambda _: needed, 4, exact=False).chunk_size == 4


def test_a_default_chunk_is_not_enlarged():
    assert fit(Placement(64), 1000, lambda _: MEMORY, 1e6, exact=False).chunk_size == 64
    assert fit(Placement(1), 1000, lambda _: ALONE, 1e6, exact=False).chunk_size == 1


@pytest.mark.parametrize(
    ("layout", "budget", "needed", "exact", "said"),
    [
        (Placement(10), 3.9, ALONE, False, "memory_budget: 3.9 GiB is not allowed, scan needs 4"),
        (Placement(1), 3.9, ALONE, False, "memory_budget: 3.9 GiB is not allowed, scan needs 4"),
        (Placement(10), 9, MEMORY, True, "vmap, 10 clients at once needs 23 GiB"),
        (
            Placement(1),
            5,
            ALONE._replace(evaluation=4 * GIB),
            False,
            "(see eval_batch_size) needs 6 GiB",
        ),
    ],
)
def test_a_budget_too_small_is_one_line_with_both_numbers(layout, budget, needed, exact, said):
    with pytest.raises(fx.InputError) as caught:
        fit(layout, 10, lambda _: needed, budget, exact=exact)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_simulation_takes_the_chunk_that_fits(monkeypatch):
    monkeypatch.setattr(memory, "predict", lambda *_: MEMORY)
    options = {"clients": 10, "placement": "vmap", "memory_budget": 13}
    fitted = built(fx.identity(), **options)
    assert fitted.placement == fitted.setting.placement == Placement(5)
    assert fitted.memory() == MEMORY
    with pytest.raises(fx.InputError, match="6 clients at once needs 15 GiB"):
        built(fx.identity(), chunk_size=6, **options)
