"""The engine against plain loops, formulas with known answers, and itself in other layouts.

Each built-in model runs under two placements that have all there is, one by one and mapped over on
several devices; `--all-placements` takes all of them.
"""

from functools import cache

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_ecgr as fx
from fedjax_ecgr.algorithms import ALGORITHMS, Outcome, Upload, algorithm
from fedjax_ecgr.data import from_assignment, from_owners
from fedjax_ecgr.engine import local_steps, placement, streams
from fedjax_ecgr.engine.client import Memories, Slot, Start, _label_counts, outcome_of, take_part
from fedjax_ecgr.engine.local_steps import Extent
from fedjax_ecgr.models import MODELS
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.samplers.uniform import draw
from tests import quick
from tests.models.alive import drawn
from tests.plain import federation as plain

FEATURES, CLASSES, BATCH, EPOCHS = 3, 3, 4, 2
SIZES = [9, 4, 0, 13, 1, 6]  # ragged: partial batches, a client without data, one of one example


def federation(sizes=SIZES, seed=0):
    """Clients of the given sizes, their examples scattered over the stored array."""
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    inputs = rng.normal(size=(len(owners), FEATURES)) + owners[:, None] / 3
    labels = rng.integers(0, CLASSES, len(owners)).astype(np.int32)
    examples = fx.Examples(inputs, labels, mean=np.array(0.5), std=np.array(2.0))
    return from_owners(examples, owners, len(sizes))


@cache
def model(hidden=()):
    """Logistic regression, quick to compile, in the dtype of the day (float64 under x64)."""
    built = fx.models.mlp(fx.Spec((FEATURES,), CLASSES), hidden)

    def init(key):
        params, stats = built.init(key)
        return jax.tree.map(lambda p: p.astype(jnp.result_type(float)), params), stats

    return built._replace(init=init)


def method(name, regulated, **options):
    regulator = fx.ecgr() if regulated else fx.identity()
    return ALGORITHMS[name](
        **{"regulator": regulator, "learning_rate": 0.05, "weight_decay": 0.01, **options}
    )


def largest_difference(a, b):
    return max(
        float(np.abs(np.asarray(x, float) - np.asarray(y, float)).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


PLACEMENTS = {
    "scan": {"placement": "scan"},
    "vmap": {"placement": "vmap", "chunk_size": 3},
    "devices": {"placement": "devices", "num_devices": 4},
    "devices, chunks": {"placement": "devices", "num_devices": 2, "chunk_size": 2},
}


def after(built, rounds):
    """The state and the infos after some rounds, and what it started from."""
    key = jax.random.key(7)
    state = built.init(key)
    first = jax.device_get(state.params)
    state, infos = built.block(state, key, built.hyperparameters, rounds, rounds)
    return first, state, infos


@pytest.mark.parametrize(
    ("name", "placement"),
    [("fedavg", "devices, chunks"), ("fedprox", "vmap"), ("fednova", "scan"), ("scaffold", "vmap")],
)
def test_replay_with_whole_sketches_is_the_plain_loop(name, placement, x64):
    """The second pass takes the first's steps, ragged clients and all: to 1e-9."""
    rounds, cohort = 3, 4
    regulator = fx.ecgr(storage="replay", sketch_size=(FEATURES + 1) * CLASSES)
    built = fx.simulation(
        method(name, True, regulator=regulator),
        model(),
        federation(),
        cohort_size=cohort,
        batch_size=BATCH,
        local_epochs=EPOCHS,
        **PLACEMENTS[placement],
    )
    _, state, _ = after(built, rounds)
    expected = in_plain_loops(name, rounds, cohort)
    flat, _ = jax.flatten_util.ravel_pytree(state.params)
    assert np.abs(np.asarray(flat) - expected.w).max() < 1e-9
    if name == "scaffold":
        control, _ = jax.flatten_util.ravel_pytree(state.server.algorithm)
        assert np.abs(np.asarray(control) - expected.server[0]).max() < 1e-9


def test_a_replay_sees_the_same_steps_again():
    """Batches, keys (dropout), momentum and statistics: each delta is there twice."""

    def init(params, max_steps, given=None):
        return jnp.zeros((max_steps, params["w"].size)), jnp.zeros((), jnp.int32)

    def update(delta, state, active=True):
        rows, taken = state
        row = jnp.where(active, delta["w"], 0)
        return rows.at[taken].add(row), taken + jnp.asarray(active, jnp.int32)

    def again(delta, state, active=True):
        first, second = state
        return first, update(delta, second, active)

    def finalize(state, total, given=None):
        (first, steps), (second, repeated) = state
        return {"w": second.sum(axis=0)}, (first, second, steps, repeated)

    twice = fx.regulators.Replay(
        lambda params, state, given=None: (state, init(params, len(state[0]))), again
    )
    regulator = fx.Regulator("twice", {}, init, update, finalize, twice)

    def apply(params, stats, inputs, *, mask, train, key):
        kept = jax.random.bernoulli(key, 0.5, inputs.shape) & mask[:, None]
        seen = stats["seen"] + jnp.where(kept, inputs, 0).sum(axis=0)
        outputs = jnp.where(kept, inputs, 0) * params["w"][None] + seen[None]
        return outputs, {"seen": seen} if train else stats

    first = {"w": jnp.ones(FEATURES)}, {"seen": jnp.zeros(FEATURES)}
    net = Model("forgetful", lambda key: first, apply)

    def end(regulator):
        algorithm = fx.scaffold(regulator=regulator, learning_rate=0.01)
        options = {"batch_size": BATCH, "local_epochs": EPOCHS, **PLACEMENTS["vmap"]}
        return after(fx.simulation(algorithm, net, federation(), **options), 2)[1:]

    state, infos = end(regulator)
    rows, replayed, steps, repeated = infos.clients.regulator
    assert steps.tolist() == repeated.tolist() == infos.clients.num_steps.tolist()
    assert np.abs(rows).max() > 1e-2
    np.testing.assert_allclose(rows, replayed, rtol=1e-5, atol=1e-6)
    once, _ = end(fx.identity())
    chex.assert_trees_all_close(state, once, rtol=0, atol=1e-4)


@cache
def in_plain_loops(name, rounds, cohort_size):
    data, net = federation(), model()
    key = jax.random.key(7)
    params, _ = net.init(jax.random.fold_in(key, np.uint32(2**32 - 1)))
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def outputs(w, inputs):
        p = unravel(w)
        return jnp.dot(inputs, p["fc1"]["kernel"]) + p["fc1"]["bias"][None]

    rows = [row[:size] for row, size in zip(data.indices, data.sizes, strict=True)]
    world = plain.World(
        (data.examples.inputs - 0.5) / 2, data.examples.labels, rows, [[]] * len(rows),
        data.indices.shape[1], outputs, None, None, CLASSES, BATCH, EPOCHS,
    )  # fmt: skip
    one = method(name, True)
    numbers = (dict(one.hyperparameters), "ecgr", dict(one.regulator.hyperparameters))
    return plain.run(world, name, *numbers, np.asarray(flat), key, rounds, cohort_size)


def test_devices_agree_with_pmap(x64):
    """The sharded round against pmap, one client a device, averaged by hand."""
    data = federation([5, 8, 3, 6])
    built = fx.simulation(
        method("fedavg", True), model(), data, batch_size=BATCH, placement="devices", num_devices=4
    )
    key = jax.random.key(7)
    state = built.init(key)
    numbers = jax.tree.map(jnp.asarray, built.hyperparameters)
    work = built.setting.work
    params = jax.device_get(state.params)
    local = fx.algorithms.Local(params, (), (), (), jnp.asarray(0.05), numbers["algorithm"])
    one, round_key = jnp.ones(()), jax.random.fold_in(key, 0)
    start = Start(local, {}, numbers, one, one, jax.random.key_data(round_key))

    def one_client(number, row, size):
        steps, width = work.num_steps(size), jnp.int32(data.indices.shape[1])
        slot = Slot(number, Extent(steps, size), one, ())
        longest = Extent(work.num_steps(width), width)
        held = jax.tree.map(jnp.asarray, data)
        held = held._replace(indices=jnp.broadcast_to(row[None], data.indices.shape))
        nothing = Memories((), (), ())
        impl = jax.random.key_impl(key)
        each = outcome_of(work), start, nothing, held, slot, longest, impl
        return take_part(work, *each).upload.update

    updates = jax.pmap(one_client)(np.arange(4, dtype=np.int32), data.indices, data.sizes)
    weights = np.asarray(data.sizes) / data.sizes.sum()
    expected = jax.tree.map(
        lambda w, u: np.asarray(w) - np.tensordot(weights, np.asarray(u), axes=1),
        params,
        updates,
    )
    state, _ = jax.jit(built.round)(state, key, built.hyperparameters)
    chex.assert_trees_all_close(state.params, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("placed", ["scan", "vmap"])
def test_sorting_no_more_of_a_row_than_needed_gives_the_same_order(placed, monkeypatch):
    def end(short):
        monkeypatch.setattr(local_steps, "_SHORT", short)
        sim = fx.simulation(
            method("fedavg", True), model(), federation([40, 3, 17, 9]), batch_size=BATCH,
            **PLACEMENTS[placed],
        )  # fmt: skip
        return after(sim, 1)[1].params

    chex.assert_trees_all_equal(end(2), end(1000))


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 10**6), min_size=1, max_size=40),
    chunk_size=st.integers(1, 4),
    num_devices=st.integers(1, 4),
)
def test_clients_are_dealt_out_evenly(sizes, chunk_size, num_devices):
    sizes += [0] * (-len(sizes) % (chunk_size * num_devices))
    layout = placement.placement(
        "devices" if num_devices > 1 else "vmap", len(sizes),
        chunk_size=chunk_size, num_devices=num_devices,
    )  # fmt: skip
    dealt = jax.jit(placement._dealt, static_argnums=1)
    order = np.asarray(dealt((np.asarray(sizes, np.int32),), layout))
    assert sorted(order.tolist()) == list(range(len(sizes)))
    chunks = np.asarray(sizes)[order].reshape(num_devices, -1, layout.chunk_size)
    # chunks are of neighbours in size: put in order, they are all sizes in order
    each = chunks.reshape(-1, layout.chunk_size).tolist()
    ordered = sorted((sorted(chunk, reverse=True) for chunk in each), reverse=True)
    assert [size for chunk in ordered for size in chunk] == sorted(sizes, reverse=True)
    # what devices wait for each other is no more than the largest chunk's work
    loads = chunks.max(axis=2).sum(axis=1)
    assert loads.max() - loads.min() <= max(sizes)


@cache
def in_chunks(chunk_size):
    built = fx.simulation(
        method("scaffold", True), model(), federation(), batch_size=BATCH,
        placement="vmap", chunk_size=chunk_size,
    )  # fmt: skip
    return jax.device_get(after(built, 2)[1])


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 6])
def test_results_do_not_depend_on_chunk_size(chunk_size, x64):
    chex.assert_trees_all_close(in_chunks(chunk_size), in_chunks(4), rtol=0, atol=1e-12)


def test_float32_and_float64_agree():
    def run(x64):
        with jax.enable_x64(x64):
            built = fx.simulation(
                method("fedprox", True), model(), federation(), batch_size=BATCH, placement="scan"
            )
            key = jax.random.key(7)
            state = start32(built, key)
            state, _ = built.block(state, key, built.hyperparameters, 2, 2)
            return jax.device_get(state.params)

    def start32(built, key):
        with jax.enable_x64(False):
            params, _ = model().init(key)
        state = built.init(key)
        return state._replace(
            params=jax.tree.map(lambda new, old: new.astype(old.dtype), params, state.params)
        )

    single, double = run(False), run(True)
    assert jax.tree.leaves(single)[0].dtype == np.float32
    assert jax.tree.leaves(double)[0].dtype == np.float64
    widened = jax.tree.map(np.float64, single)
    chex.assert_trees_all_close(widened, double, rtol=0, atol=1e-5)


def simulate(seed=0, rounds=4, **options):
    data = federation()
    return fx.simulate(
        method("scaffold", True),
        model(),
        data,
        rounds=rounds,
        seed=seed,
        test=data.examples,
        batch_size=BATCH,
        **{"cohort_size": 4, "placement": "scan", **options},
    )


def test_two_runs_of_one_seed_are_bitwise_the_same_and_seeds_differ():
    first, again, other = simulate(seed=3), simulate(seed=3), simulate(seed=4)
    for name, column in first.table.items():
        assert column.tobytes() == again.table[name].tobytes()
    assert first.cohorts.tobytes() == again.cohorts.tobytes()
    chex.assert_trees_all_equal(first.state, again.state)
    assert largest_difference(first.state.params, other.state.params) > 1e-3
    assert first.cohorts.tolist() != other.cohorts.tolist()


def test_blocks_of_rounds_are_rounds():
    """However often it is evaluated, and through the function that users compose, it is one run."""
    built = fx.simulation(
        method("fednova", True), model(), federation(), batch_size=BATCH, placement="scan"
    )
    by_blocks = fx.run(built, rounds=5, seed=1, eval_every=2)
    key = jax.random.key(1)
    state, one = built.init(key), jax.jit(built.round)
    for _ in range(5):
        state, info = one(state, key, built.hyperparameters)
    chex.assert_trees_all_close(state, by_blocks.state, rtol=0, atol=1e-6)
    assert by_blocks.table["round"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(by_blocks.table["train_loss"][-1], info.train_loss, rtol=1e-5)


class Compilations:
    """Counts what JAX compiles while it is open, all of it: chex counts one function's traces."""

    def __init__(self):
        self.count = 0
        self.open = False
        jax.monitoring.register_event_duration_secs_listener(self.listen)

    def listen(self, event, duration, **_):
        if self.open and event == "/jax/core/compile/backend_compile_duration":
            self.count += 1

    def __enter__(self):
        self.open, self.count = True, 0
        return self

    def __exit__(self, *_):
        self.open = False


def test_nothing_is_compiled_after_the_first_block():
    data = federation()
    built = fx.simulation(
        method("scaffold", True), model(), data, test=data.examples, batch_size=BATCH, cohort_size=4
    )
    with Compilations() as compilations:
        seen = []
        fx.run(built, rounds=7, eval_every=2, on_progress=lambda _: seen.append(compilations.count))
    assert seen[0] > 0  # the counter does count
    assert seen == [seen[0]] * 4  # blocks of 2, 2, 2 and 1 rounds

    numbers = jax.tree.map(lambda x: x * 0.9, built.hyperparameters)
    numbers["regulator"]["beta"] = 0
    with Compilations() as compilations:
        fx.run(built, rounds=3, seed=5, eval_every=2, hyperparameters=numbers)
    assert compilations.count == 0  # another seed, other numbers: the same program


@pytest.mark.parametrize("layout", [{"placement": "scan"}, {"placement": "vmap", "chunk_size": 3}])
def test_a_client_and_the_first_parameters_are_traced_once_for_all_that_asks(layout):
    traced, fedavg, network = [], fx.fedavg(), model()

    def client(client, local):
        traced.append("client")
        return fedavg.client(client, local)

    def init(key):
        traced.append("init")
        return network.init(key)

    counted = fedavg._replace(client=client), network._replace(init=init)
    built = fx.simulation(*counted, federation(), batch_size=BATCH, **layout)
    assert sorted(traced) == ["client", "init"]
    fx.run(built, rounds=2)
    assert sorted(traced) == ["client", "init"]


def test_a_sweep_over_beta_is_one_program():
    built = fx.simulation(
        method("fedavg", True), model(), federation(), batch_size=BATCH, placement="scan"
    )
    key, betas = jax.random.key(0), jnp.array([0.0, 0.5, 1.0])

    def final(beta):
        numbers = {**built.hyperparameters, "regulator": {"beta": beta, "select_ratio": 0.5}}
        state, _ = jax.lax.scan(
            lambda s, _: (built.round(s, key, numbers)[0], None), built.init(key), length=2
        )
        return state.params

    swept = jax.jit(jax.vmap(final))(betas)
    for i, beta in enumerate([0.0, 0.5, 1.0]):
        alone = fx.simulation(
            method("fedavg", True, regulator=fx.ecgr(beta=beta)),
            model(),
            federation(),
            batch_size=BATCH,
            placement="scan",
        )
        state = fx.run(alone, rounds=2).state
        one = jax.tree.map(lambda x, i=i: x[i], swept)
        chex.assert_trees_all_close(one, state.params, rtol=0, atol=1e-5)


# Quadratics f_i(w) = h_i/2 ‖w − a_i‖², whose optima and fixed points are known.


def quadratics(curvatures, centres, sizes=None):
    """Client i's examples are all (√h_i, a_i); the model's outputs are √h_i (w − a_i)."""
    sizes = [1] * len(centres) if sizes is None else sizes
    rows = [[np.sqrt(h), *a] for h, a in zip(curvatures, centres, strict=True)]
    inputs = np.repeat(np.array(rows), sizes, axis=0)
    examples = fx.Examples(
        inputs, np.zeros(len(inputs), np.int32), mean=np.array(0.0), std=np.array(1.0)
    )
    data = from_owners(examples, np.repeat(np.arange(len(sizes)), sizes), len(sizes))
    size = len(centres[0])

    def apply(params, stats, inputs, *, mask, train, key):
        return inputs[:, :1] * (params["w"][None] - inputs[:, 1:]), stats

    net = Model("quadratic", lambda key: ({"w": jnp.zeros(size)}, {}), apply)
    return net, data


def halved_square(outputs, labels):
    return jnp.sum(jnp.square(outputs), axis=-1) / 2


CURVATURES, CENTRES = [0.5, 1.0, 2.0], [[1.0, 0.0], [-2.0, 1.0], [3.0, 4.0]]


def on_quadratics(algorithm, rounds, sizes=None, **options):
    net, data = quadratics(CURVATURES, CENTRES, sizes)
    built = fx.simulation(
        algorithm,
        net,
        data,
        loss=halved_square,
        **{"batch_size": 1, "local_epochs": 4, "placement": "scan", **options},
    )
    return after(built, rounds)[1]


def optimum():
    h, a = np.array(CURVATURES)[:, None], np.array(CENTRES)
    return (h * a).sum(axis=0) / h.sum()


def test_scaffold_finds_the_optimum_that_fedavg_misses(x64):
    plain_sgd = {"learning_rate": 0.2, "momentum": 0.0}
    state = on_quadratics(fx.scaffold(**plain_sgd), rounds=200)
    np.testing.assert_allclose(state.params["w"], optimum(), atol=1e-8)
    gradients = np.array(CURVATURES)[:, None] * (optimum() - np.array(CENTRES))
    np.testing.assert_allclose(state.clients.algorithm["w"], gradients, atol=1e-7)
    np.testing.assert_allclose(state.server.algorithm["w"], 0, atol=1e-7)

    biased = on_quadratics(fx.fedavg(**plain_sgd), rounds=200).params["w"]
    contraction = 1 - (1 - 0.2 * np.array(CURVATURES)[:, None]) ** 4
    expected = (contraction * np.array(CENTRES)).sum(axis=0) / contraction.sum()
    np.testing.assert_allclose(biased, expected, atol=1e-8)
    assert np.abs(expected - optimum()).max() > 0.1


def test_scaffold_first_control_variates_have_the_sign_of_the_gradient(x64):
    state = on_quadratics(fx.scaffold(learning_rate=0.2, momentum=0.0), rounds=1)
    h, a = np.array(CURVATURES)[:, None], np.array(CENTRES)
    moved = (0 - a) * (1 - (1 - 0.2 * h) ** 4)  # w_0 − w_τ, from w_0 = 0
    np.testing.assert_allclose(state.clients.algorithm["w"], moved / (4 * 0.2), atol=1e-12)


@pytest.mark.parametrize("normaliser", ["plain", "momentum"])
def test_scaffold_with_momentum_keeps_the_optimum_to_first_order(normaliser, x64):
    """Control variates settle at a (g_i − ḡ), whatever the normaliser; w at the optimum + O(η)."""

    def distance(algorithm):
        state = on_quadratics(algorithm, rounds=1500)
        return state, np.abs(np.asarray(state.params["w"]) - optimum()).max()

    sgd = {"learning_rate": 0.02, "momentum": 0.5}
    state, missed = distance(fx.scaffold(**sgd, normaliser=normaliser))
    assert missed < 0.01
    assert distance(fx.fedavg(**sgd))[1] > 4 * missed
    gradients = np.array(CURVATURES)[:, None] * (optimum() - np.array(CENTRES))
    amplification = np.mean([(1 - 0.5**j) / (1 - 0.5) for j in range(1, 5)])
    np.testing.assert_allclose(state.clients.algorithm["w"], amplification * gradients, atol=0.1)


def test_the_corrected_normaliser_divides_momentum_out(x64):
    """After one round from zero controls, c_i⁺ · a · τ · η is how far the client moved."""
    plain_, corrected = (
        on_quadratics(fx.scaffold(learning_rate=0.05, momentum=0.9, normaliser=name), rounds=1)
        for name in ("plain", "momentum")
    )
    amplification = np.mean([(1 - 0.9**j) / (1 - 0.9) for j in range(1, 5)])
    np.testing.assert_allclose(
        plain_.clients.algorithm["w"],
        amplification * np.asarray(corrected.clients.algorithm["w"]),
        atol=1e-12,
    )


@pytest.mark.parametrize("epochs", [1, 3, 7, 20])
@pytest.mark.parametrize("managed", [0, 1, 12_345, 30_000])
def test_other_trainings_take_their_share_of_steps_of_large_clients_too(epochs, managed):
    """Of 6,000 batches, 5 epochs are 30,000 steps: their product leaves int32."""
    work = local_steps.Work(None, fx.fedavg(), None, 2, 10, 5, True)
    extent = Extent(jnp.int32(managed), jnp.int32(60_000))
    shard = local_steps.Shard(None, None, extent, None, None)
    own, _ = local_steps._lengths(work, shard, epochs)
    assert int(own) == epochs * 6_000 * managed // 30_000


def test_fednova_on_unequal_steps_is_its_formula_and_unbiased(x64):
    sizes = [1, 3, 6]  # batch size 1, one epoch: τ = n
    options = {"sizes": sizes, "batch_size": 1, "local_epochs": 1}
    eta, p, tau = 0.05, np.array(sizes) / 10, np.array(sizes)
    h, a = np.array(CURVATURES)[:, None], np.array(CENTRES)
    updates = (0 - a) * (1 - (1 - eta * h) ** tau[:, None])
    sgd = {"learning_rate": eta, "momentum": 0.0}
    state = on_quadratics(fx.fednova(**sgd), 1, **options)
    expected = -(p @ tau) * (p[:, None] * updates / tau[:, None]).sum(axis=0)
    np.testing.assert_allclose(state.params["w"], expected, atol=1e-12)

    # its fixed point is the optimum of Σ p_i f_i to first order in η; FedAvg's is not
    weighted = (p[:, None] * h * a).sum(axis=0) / (p[:, None] * h).sum()
    small = {"learning_rate": 1e-3, "momentum": 0.0}
    nova = on_quadratics(fx.fednova(**small), 5000, **options).params["w"]
    average = on_quadratics(fx.fedavg(**small), 5000, **options).params["w"]
    assert np.abs(nova - weighted).max() < 0.02
    assert np.abs(average - weighted).max() > 0.2


def test_fedprox_without_its_term_is_fedavg_and_with_much_of_it_stays(x64):
    def moved(algorithm):
        return np.asarray(on_quadratics(algorithm, rounds=3).params["w"])

    sgd = {"learning_rate": 0.05}
    fedavg = moved(fx.fedavg(**sgd))
    np.testing.assert_array_equal(moved(fx.fedprox(mu=0.0, **sgd)), fedavg)
    np.testing.assert_allclose(moved(fx.fedprox(mu=1e-9, **sgd)), fedavg, atol=1e-7)
    assert np.linalg.norm(moved(fx.fedprox(mu=3.0, **sgd))) < 0.9 * np.linalg.norm(fedavg)


def test_client_state_stays_with_the_client():
    data = federation([4, 5, 6, 7, 8])
    built = fx.simulation(
        method("scaffold", False), model(), data, batch_size=BATCH, cohort_size=2, placement="vmap"
    )
    key = jax.random.key(0)
    state, one = built.init(key), jax.jit(built.round)
    seen = set()
    for _ in range(4):
        before = jax.device_get(state.clients)
        state, info = one(state, key, built.hyperparameters)
        cohort = set(info.cohort.tolist())
        assert len(cohort) == 2
        seen |= cohort
        for client in range(5):
            same = all(
                np.array_equal(old[client], new[client])
                for old, new in zip(
                    jax.tree.leaves(before), jax.tree.leaves(state.clients), strict=True
                )
            )
            assert same == (client not in cohort)
    assert len(seen) > 2


def test_the_cohort_is_sampled_evenly_by_key():
    counts = np.zeros(6)
    for seed in range(300):
        cohort = draw(jax.random.key(seed), 6, 2)
        assert len(set(cohort.tolist())) == 2
        counts[np.asarray(cohort)] += 1
    assert counts.sum() == 600
    assert (np.abs(counts - 100) < 40).all()


def test_step_sizes_follow_the_schedule():
    def rates(**options):
        algorithm = fx.fedavg(**options)
        history = fx.simulate(
            algorithm, model(), federation(), rounds=21, eval_every=21, placement="scan"
        )
        return history.table["learning_rate"]

    halved = [0.1 * 0.5 ** ((t + 1) // 10) for t in range(21)]
    np.testing.assert_allclose(rates(learning_rate=0.1, decay=0.5, decay_every=10), halved)
    cosine = optax.cosine_decay_schedule(0.1, 21)
    np.testing.assert_allclose(
        rates(learning_rate=cosine), [cosine(float(t)) for t in range(21)], rtol=1e-5
    )


def test_another_optimizer_can_be_given():
    algorithm = fx.fedavg(
        learning_rate=0.01, optimizer=lambda rate, numbers: optax.adam(rate, b1=numbers["momentum"])
    )
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam needs it
        history = fx.simulate(
            algorithm, model(), federation(), rounds=10, eval_every=10, placement="scan"
        )
    assert history.table["train_loss"][-1] < history.table["train_loss"][0]


def test_statistics_are_averaged_by_weight():
    """A model whose statistic is the mean of its batch: the server's is the weighted mean."""

    def apply(params, stats, inputs, *, mask, train, key):
        mean = jnp.sum(inputs, where=mask[:, None]) / jnp.sum(mask).astype(inputs.dtype)
        return inputs * params["w"][None], {"mean": mean} if train else stats

    net = Model("mean", lambda key: ({"w": jnp.ones(1)}, {"mean": jnp.zeros(())}), apply)
    inputs = np.array([[1.0], [2.0], [3.0], [10.0]], np.float32)
    examples = fx.Examples(inputs, np.zeros(4, np.int32), np.array(0.0), np.array(1.0))
    data = from_assignment(examples, [[0, 1, 2], [3], []])
    built = fx.simulation(
        fx.fedavg(), net, data, batch_size=3, loss=halved_square, placement="scan"
    )
    _, state, _ = after(built, 1)
    np.testing.assert_allclose(state.batch_stats["mean"], (3 * 2 + 1 * 10) / 4)


@pytest.mark.parametrize(
    ("sizes", "layout"),
    [((8, 0, 8), {"placement": "scan"}), ((8, 8, 8), {"placement": "vmap", "chunk_size": 2})],
    ids=["a client without examples", "a chunk that is filled up"],
)
def test_what_takes_no_step_and_has_no_direction_reaches_nobody(sizes, layout):
    def finalize(state, total, given=None):
        norm = optax.tree.norm(total)
        return jax.tree.map(lambda x: x / norm, total), norm  # 0 / 0 for who took no step

    direction = fx.identity()._replace(finalize=finalize)
    examples = fx.Examples(
        np.random.default_rng(0).normal(size=(sum(sizes), 2)).astype(np.float32),
        np.arange(sum(sizes), dtype=np.int32) % 2,
        np.array(0.0),
        np.array(1.0),
    )
    data = from_owners(examples, np.repeat(np.arange(3), sizes), 3)
    net = fx.models.logistic_regression(fx.Spec((2,), 2))
    _, state, infos = after(fx.simulation(fx.fedavg(regulator=direction), net, data, **layout), 1)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    assert np.isfinite(infos.update_variance).all()
    assert infos.clients.finite.all()


def test_a_step_size_of_zero_moves_nothing_and_breaks_nothing():
    """As warm-ups start and cosines end: SCAFFOLD then learns nothing of the gradient."""
    schedule = optax.linear_schedule(0.0, 0.1, 2)
    algorithm = fx.scaffold(learning_rate=schedule)
    built = fx.simulation(algorithm, model(), federation(), batch_size=BATCH, placement="scan")
    first, state, _ = after(built, 1)
    chex.assert_trees_all_equal(first, state.params)
    chex.assert_trees_all_equal(state.clients, jax.tree.map(jnp.zeros_like, state.clients))
    assert np.isfinite(after(built, 3)[2].train_loss).all()


def test_step_sizes_are_the_same_with_constants_and_arguments():
    algorithm = fx.fedavg(learning_rate=1.0, decay=0.5, decay_every=41)
    numbers = jax.tree.map(jnp.float32, dict(algorithm.hyperparameters))
    t = jnp.arange(200, dtype=jnp.int32)
    baked = jax.jit(jax.vmap(lambda t: algorithm.learning_rate(numbers, t)))(t)
    given = jax.jit(jax.vmap(algorithm.learning_rate, in_axes=(None, 0)))(numbers, t)
    expected = [0.5 ** ((t + 1) // 41) for t in range(200)]
    assert baked.tolist() == given.tolist() == expected


def test_a_client_is_not_poisoned_by_the_data_of_another():
    """Masked rows are the client's own: 0 · inf of somebody's example would reach everybody."""

    def apply(params, stats, inputs, *, mask, train, key):
        return jnp.square(inputs) * params["w"][None], stats

    net = Model("square", lambda key: ({"w": jnp.ones(1)}, {}), apply)
    inputs = np.array([[1e30], [1.0], [1.0], [1.0]], np.float32)
    examples = fx.Examples(inputs, np.zeros(4, np.int32), np.array(0.0), np.array(1.0))
    data = from_assignment(examples, [[0], [1, 2, 3]])
    built = fx.simulation(fx.fedavg(), net, data, batch_size=2, loss=halved_square)
    _, _, infos = after(built, 1)
    assert infos.clients.finite.tolist() == [[False, True]]


def test_ecgr_does_not_hide_a_delta_that_is_not_finite():
    update, _ = fx.reaggregate(jnp.array([[np.inf, 1.0], [0.0, 1.0]]), beta=0.2, select_ratio=0.5)
    assert not np.isfinite(update).all()


def test_many_examples_keep_their_weights_in_half_precision():
    rng = np.random.default_rng(0)
    examples = fx.Examples(
        rng.integers(0, 2, (80000, 1)).astype(np.uint8),
        np.zeros(80000, np.int32),
        np.array(0.0),
        np.array(1.0),
    )
    data = from_owners(examples, np.arange(80000) % 2, 2)
    half = fx.models.mlp(fx.Spec((1,), 2), hidden=(), dtype=jnp.float16)
    built = fx.simulation(fx.fedavg(), half, data, batch_size=40000)
    first, state, _ = after(built, 1)
    assert largest_difference(first, state.params) > 0


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sums_over_many_examples_do_not_stop_growing_in_half_precision(dtype):
    """Of 5,000 terms a sum in bfloat16 stays below 512, in float16 below 4,096."""
    rng, number = np.random.default_rng(0), 5000
    labels = (np.arange(number) % 5 == 0).astype(np.int32)
    inputs = rng.normal(size=(number, 2)).astype(np.float32) + labels[:, None]
    examples = fx.Examples(inputs, labels, np.array(0.0), np.array(1.0))
    data = from_owners(examples, np.zeros(number, int), 1)
    half = fx.models.logistic_regression(fx.Spec((2,), 2), dtype=dtype)
    built = fx.simulation(fx.fedlc(learning_rate=1e-9), half, data, test=examples, batch_size=4)
    work, params = built.setting.work, built.init(jax.random.key(0)).params
    extent = Extent(jnp.int32(1250), jnp.int32(number))
    on_device = jax.tree.map(jnp.asarray, (examples, data.indices[0]))
    shard = local_steps.Shard(*on_device, extent, None, None)
    assert _label_counts(shard, 2, dtype).tolist() == [4000, 1000]
    mean = jax.jit(
        lambda: local_steps.mean_over_all(work, shard, lambda b: b.loss(params, {})[1].loss, dtype)
    )
    plain = fx.simulation(fx.fedavg(learning_rate=1e-9), half, data, test=examples, batch_size=4)
    table = fx.run(plain, rounds=1).table
    np.testing.assert_allclose(mean(), table["test_loss"][0], rtol=0.02)
    np.testing.assert_allclose(table["train_loss"], table["test_loss"], rtol=0.02)
    assert np.isfinite(fx.run(built, rounds=1).table["train_loss"]).all()


def aligned(array):
    """A copy where JAX could use it in place."""
    memory = np.empty(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def test_a_simulation_has_its_data_whatever_becomes_of_the_callers_arrays():
    data = federation()
    inputs, indices = aligned(data.examples.inputs.astype(np.float32)), aligned(data.indices)
    data = data._replace(examples=data.examples._replace(inputs=inputs), indices=indices)
    built = fx.simulation(method("fedavg", False), model(), data, batch_size=BATCH)
    _, expected, _ = after(built, 1)
    inputs[:], indices[:] = np.nan, 0
    _, again, _ = after(built, 1)
    chex.assert_trees_all_equal(again.params, expected.params)


def test_other_kinds_of_keys_work():
    built = fx.simulation(method("fedavg", True), model(), federation(), batch_size=BATCH)
    key = jax.random.key(0, impl="rbg")
    _, info = jax.jit(built.round)(built.init(key), key, built.hyperparameters)
    assert np.isfinite(info.train_loss)


def test_layouts_agree_whatever_kind_of_key_is_jaxs_default(monkeypatch):
    """Of `rbg` clients that run at once would draw other orders than each alone."""
    monkeypatch.setattr(jax.random, "key", quick.THREEFRY)  # as users draw
    monkeypatch.setattr(streams, "IMPL", "threefry2x32")
    before = jax.config.jax_default_prng_impl
    jax.config.update("jax_default_prng_impl", "rbg")
    try:
        losses = [
            fx.simulate(
                method("fedavg", True), model(), federation(), rounds=2, batch_size=BATCH, **layout
            ).table["train_loss"]
            for layout in (PLACEMENTS["scan"], PLACEMENTS["vmap"])
        ]
    finally:
        jax.config.update("jax_default_prng_impl", before)
    np.testing.assert_allclose(*losses, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_counts_among_the_statistics_stay_whole(dtype):
    """Clients that saw as many batches are averaged to that number, whatever they weigh."""

    def apply(params, stats, inputs, *, mask, train, key):
        seen = {"batches": stats["batches"] + 101} if train else stats
        return inputs * params["w"][None], seen

    def init(key):
        return {"w": jnp.ones(1, dtype)}, {"batches": jnp.zeros((), jnp.int32)}

    net = Model("count", init, apply)
    inputs = np.ones((49, 1), np.float32)
    examples = fx.Examples(inputs, np.zeros(49, np.int32), np.array(0.0), np.array(1.0))
    data = from_owners(examples, np.arange(49) % 7, 7)
    built = fx.simulation(fx.fedavg(), net, data, batch_size=7, loss=halved_square)
    _, state, _ = after(built, 3)
    assert state.batch_stats["batches"].dtype == jnp.int32
    assert state.batch_stats["batches"] == 303


def test_messages_in_half_precision_are_added_up_in_that_of_the_parameters():
    """A thousand shares of 0.001 are 1; a sum in bfloat16 stops at 0.5."""

    def client(client, local):
        trained = client.train()
        update = jax.tree.map(lambda u: jnp.ones(u.shape, jnp.bfloat16), trained.update)
        return Outcome(Upload(update, weighted=jnp.bfloat16(1)), local.state, trained)

    def server(server, upload):
        return jax.tree.map(lambda u: u * upload.weighted, upload.update), server.state

    ones = algorithm("ones", {}, client=client, server=server)
    with jax.numpy_dtype_promotion("standard"):  # two types side by side need it
        built = fx.simulation(ones, model(), federation([1] * 1000), placement="scan")
        first, state, _ = after(built, 1)
    for before, now in zip(*map(jax.tree.leaves, (first, state.params)), strict=True):
        np.testing.assert_allclose(np.asarray(before - now), 1, rtol=1e-4)  # 2,000 roundings


def test_a_local_optimizer_may_draw_by_keys_of_each_client():
    """Keys of its own it may not have, see the mistakes; a counter without a sign is no key."""

    def counting():
        def update(gradient, count, params=None):
            return jax.tree.map(lambda g: -0.1 * g, gradient), count + jnp.uint32(1)

        return optax.GradientTransformation(lambda params: jnp.uint32(0), update)

    def client(client, local):
        key = jax.random.fold_in(jax.random.key(7), client.number)
        noisy = optax.chain(counting(), optax.add_noise(0.1, 0.5, key=key))
        trained = client.train(optimizer=noisy)
        return Outcome(Upload(trained.update), local.state, trained)

    plain = fx.fedavg(optimizer=lambda rate, numbers: counting())
    with jax.numpy_dtype_promotion("standard"):  # optax's noise needs it
        same, different = (
            after(fx.simulation(a, model(), federation([4, 4]), placement="scan"), 1)[2]
            for a in (plain, algorithm("noisy", {}, client=client))
        )
    assert same.clients.finite.all()
    assert (different.clients.drift != same.clients.drift).all()


def test_test_inputs_may_be_of_any_shape_that_the_model_takes():
    def apply(params, stats, inputs, *, mask, train, key):
        return inputs.mean(axis=1, keepdims=True) * params["w"][None], stats

    net = Model("pooling", lambda key: ({"w": jnp.ones(CLASSES)}, {}), apply)
    data = federation()
    longer = data.examples._replace(inputs=np.pad(data.examples.inputs, ((0, 0), (0, 2))))
    history = fx.simulate(
        fx.fedavg(), net, data, test=longer, validation=longer, rounds=1, placement="scan"
    )
    assert np.isfinite(history.table["test_loss"]).all()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.int16, np.int64])
def test_rows_and_sizes_may_be_held_in_any_whole_numbers(kind):
    data = federation()
    small = data._replace(indices=data.indices.astype(kind), sizes=data.sizes.astype(kind))
    ends = []
    for held in (data, small):
        own = from_owners(held.examples, np.arange(33) % 6, 6)
        own = own._replace(
            indices=own.indices.astype(held.indices.dtype), sizes=own.sizes.astype(held.sizes.dtype)
        )
        built = fx.simulation(
            method("fedavg", True), model(), held, batch_size=BATCH, placement="scan",
            test=held.examples, client_test=own,
        )  # fmt: skip
        ends.append(fx.run(built, rounds=2).table)
    chex.assert_trees_all_equal(*ends)


SMALL_MODELS = {
    "bncnn": {"blocks": ((2,), (2,))},
    "gru": {"embedding": 2, "hidden": (4,)},
    "mlp": {"hidden": (4,)},
    "resnet18": {"width": 1, "norm": "group", "groups": 1, "stem": "cifar"},
    "vgg11": {"width": 2, "norm": "batch"},
}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs_under_every_placement(name, request):
    rng, side = np.random.default_rng(0), 32 if name == "vgg11" else 16
    examples = fx.Examples(
        rng.integers(0, 256, (9, side, side, 1), np.uint8),
        rng.integers(0, 3, 9).astype(np.int32),
        np.array(128.0),
        np.array(73.0),
    )
    spec = fx.Spec((side, side, 1), 3)
    if name == "gru":
        one = np.array(1.0)
        tokens = examples.inputs[:, :6, 0, 0].astype(np.int32) % 5
        examples = examples._replace(inputs=tokens, mean=0 * one, std=one)
        spec = fx.Spec((6,), 3, vocabulary=5)
    net = MODELS[name](spec, **SMALL_MODELS.get(name, {}))
    first = drawn(net)
    net = net._replace(init=lambda key: first)
    data = from_owners(examples, np.repeat([0, 2], [5, 4]), 3)
    whole = request.config.getoption("--all-placements")
    ends = []
    for layout in PLACEMENTS if whole else ("scan", "devices, chunks"):  # which are mapped over
        built = fx.simulation(fx.fedavg(), net, data, batch_size=4, **PLACEMENTS[layout])
        history = fx.run(built, rounds=1)
        assert np.isfinite(history.table["train_loss"]).all()
        ends.append(jax.device_get((history.state.params, history.state.batch_stats)))
    for end in ends[1:]:
        chex.assert_trees_all_close(end, ends[0], rtol=1e-3, atol=1e-4)
