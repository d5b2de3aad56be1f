"""How the engine carries transforms, aggregators, attacks, samplers and systems."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.aggregators.base import Aggregator
from fedjax_ecgr.algorithms import Outcome, Upload
from fedjax_ecgr.algorithms import algorithm as own_algorithm
from fedjax_ecgr.attacks import ATTACKS
from fedjax_ecgr.attacks.base import Attack
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.engine.cohort import malicious_clients
from fedjax_ecgr.reports.scores import SCORES
from fedjax_ecgr.samplers.base import Cohort, Sampler
from fedjax_ecgr.systems.base import System, Work
from fedjax_ecgr.transforms.base import Transform

SIZES = [9, 4, 0, 13, 1, 6]
LAYOUTS = {
    "scan": {"placement": "scan"},
    "vmap": {"placement": "vmap", "chunk_size": 4},
    "devices": {"placement": "devices", "num_devices": 2},
}


def federation(sizes=SIZES):
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    inputs = rng.normal(size=(len(owners), 2)) + owners[:, None] / 3
    labels = rng.integers(0, 3, len(owners)).astype(np.int32)
    examples = fx.Examples(inputs, labels, np.array(0.0), np.array(1.0))
    return from_owners(examples, owners, len(sizes))


@cache
def model():
    built = fx.models.logistic_regression(fx.Spec((2,), 3))

    def init(key):
        return jax.tree.map(lambda p: p.astype(float), built.init(key))

    return built._replace(init=init)


def simulation(sizes=SIZES, *, algorithm=None, **options):
    return fx.simulation(
        algorithm or fx.fedavg(),
        model(),
        federation(sizes),
        batch_size=4,
        **{"placement": "scan", **options},
    )


def after(built, rounds=1, state=None):
    key = jax.random.key(3)
    state = built.init(key) if state is None else state
    return built.block(state, key, built.hyperparameters, rounds, rounds)


def moved(built, **given):
    """What one round took from the parameters, as one vector, and the round's info."""
    before = jax.device_get(built.init(jax.random.key(3)).params)
    state, infos = after(built, **given)
    difference = jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), before, state.params)
    return np.concatenate([d.ravel() for d in jax.tree.leaves(difference)]), state, infos


def each_update(monkeypatch=None, **options):
    """Every client's update, found by an aggregator that keeps them all; weights; what is told."""

    def aggregate(updates, state, received):
        return jax.tree.map(lambda u: jnp.zeros_like(u[0]), updates), (updates, received.weights)

    def init(sent):
        stacked = jax.tree.map(lambda x: jnp.zeros((len(SIZES), *x.shape), x.dtype), sent)
        return stacked, jnp.zeros(len(SIZES))

    spy = Aggregator("spy", {}, init, aggregate)
    _, state, infos = moved(simulation(algorithm=fx.fedavg(aggregator=spy), **options))
    updates, weights = state.server.aggregator
    rows = [np.asarray(u).reshape(len(SIZES), -1) for u in jax.tree.leaves(updates)]
    return np.concatenate(rows, axis=1), np.asarray(weights), infos


@cache
def plain_updates(layout):
    """What `each_update` finds where there is nothing else."""
    return each_update(**LAYOUTS[layout])


@cache
def plain_step(layout):
    """What one round takes from the parameters there."""
    return moved(simulation(**LAYOUTS[layout]))[0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stacked_updates_are_those_that_are_summed(layout, x64):
    updates, weights, _ = plain_updates(layout)
    np.testing.assert_allclose(weights, np.array(SIZES) / sum(SIZES))
    np.testing.assert_allclose(weights @ updates, plain_step(layout), atol=1e-14)
    assert (updates[2] == 0).all()  # who has no data sends nothing
    assert (np.abs(updates[[0, 1, 3, 4, 5]]).max(axis=1) > 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_transforms_change_each_update_in_order_and_keep_a_state(layout, x64):
    def scaled(update, state, sending):
        factor = sending.hyperparameters["factor"] + state
        return jax.tree.map(lambda u: factor * u, update), state + 1

    scale = Transform("scale", {"factor": 2.0}, lambda params: jnp.zeros(()), scaled)
    shift = Transform(
        "shift", {}, lambda params: (),
        lambda update, state, sending: (jax.tree.map(lambda u: u + 1, update), state),
    )  # fmt: skip
    algorithm = fx.fedavg(transforms=[scale, shift])
    changed, state, _ = moved(simulation(algorithm=algorithm, **LAYOUTS[layout]))
    np.testing.assert_allclose(changed, 2 * plain_step(layout) + 1, atol=1e-14)
    # the state of a client without a step is as it was
    assert state.clients.transforms[0].tolist() == [1, 1, 0, 1, 1, 1]


def test_transforms_draw_by_client_round_and_place(x64):
    def drawn(update, state, sending):
        return update, jax.random.uniform(sending.key)

    names = ("first", "second")
    pair = [Transform(n, {}, lambda params: jnp.zeros(()), drawn) for n in names]
    built = simulation(algorithm=fx.fedavg(transforms=pair))
    state, _ = after(built)
    one = [np.array(x)[[0, 1, 3, 4, 5]] for x in state.clients.transforms]
    state, _ = after(built, state=state)
    two = [np.array(x)[[0, 1, 3, 4, 5]] for x in state.clients.transforms]
    assert len(np.unique(np.concatenate([*one, *two]))) == 20
    other = simulation(algorithm=fx.fedavg(transforms=pair), placement="vmap", chunk_size=2)
    again = np.asarray(after(other)[0].clients.transforms[0])[[0, 1, 3, 4, 5]]
    np.testing.assert_array_equal(one[0], again)


def test_weights_reach_a_transform(x64):
    def told(update, state, sending):
        return update, jnp.stack([sending.weight, sending.largest_weight, sending.participants])

    tell = Transform("tell", {}, lambda params: jnp.zeros(3), told)
    state, _ = after(simulation(algorithm=fx.fedavg(transforms=[tell])))
    known = np.asarray(state.clients.transforms[0])[3]
    np.testing.assert_allclose(known, [13 / 33, 13 / 33, 5])


def test_bytes_are_those_of_the_wire():
    half = Transform(
        "half", {}, lambda params: (), lambda update, state, sending: (update, state),
        wire=lambda update: jax.tree.map(lambda u: u.astype(jnp.float16), update),
    )  # fmt: skip
    whole, sent = simulation(), simulation(algorithm=fx.fedavg(transforms=[half]))
    assert whole.setting.bytes_up == 2 * sent.setting.bytes_up
    assert whole.setting.bytes_down == sent.setting.bytes_down


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_share_of_clients_is_malicious_alone_together_and_in_its_labels(layout, x64):
    numbers = {"malicious_share": jnp.asarray(0.34)}
    bad = np.asarray(malicious_clients(jax.random.key(3), 6, numbers))
    assert bad.sum() == 2
    honest, weights, _ = plain_updates(layout)
    options = {"malicious_share": 0.34, **LAYOUTS[layout]}

    def alone(update, attacking):
        return jax.tree.map(lambda u: -attacking.hyperparameters["gain"] * u, update)

    attacked, *_ = each_update(attack=Attack("flip", {"gain": 3.0}, alone=alone), **options)
    np.testing.assert_allclose(attacked, np.where(bad[:, None], -3 * honest, honest), atol=1e-14)

    def together(updates, attacking):
        chosen = attacking.malicious
        return jax.tree.map(
            lambda u: jnp.where(jnp.expand_dims(chosen, tuple(range(1, u.ndim))), 7.0, u), updates
        )

    sizes = np.array(SIZES)
    total, _, _ = moved(simulation(attack=Attack("sevens", {}, together=together), **options))
    rows = np.where((bad & (sizes > 0))[:, None], 7.0, honest)
    np.testing.assert_allclose(total, weights @ rows, atol=1e-13)

    flipped = Attack("labels", {}, labels=lambda labels, classes, numbers: classes - 1 - labels)
    attacked, *_ = each_update(attack=flipped, **options)
    same = np.abs(attacked - honest).max(axis=1) < 1e-14
    assert (same == (~bad | (sizes == 0))).all()


def test_malicious_clients_know_the_global_model(x64):
    """They send what takes it to 0."""

    def all_of_it(sent, attacking):
        bad = attacking.malicious

        def whole(u, w):
            chosen = bad.reshape(bad.shape + (1,) * w.ndim)
            return jnp.where(chosen, jnp.broadcast_to(w, u.shape), u)

        return jax.tree.map(whole, sent, attacking.params)

    options = {"malicious_share": 0.34}
    alone, together = (
        each_update(attack=Attack("all_of_it", {}, **{place: all_of_it}), **options)[0]
        for place in ("alone", "together")
    )
    params = jax.device_get(simulation().init(jax.random.key(3)).params)
    sent = np.concatenate([np.ravel(w) for w in jax.tree.leaves(params)])
    bad = np.asarray(malicious_clients(jax.random.key(3), 6, {"malicious_share": jnp.array(0.34)}))
    expected = np.where((bad & (np.array(SIZES) > 0))[:, None], sent, plain_updates("scan")[0])
    np.testing.assert_allclose(alone, expected, atol=1e-14)
    np.testing.assert_allclose(together, expected, atol=1e-14)


def test_a_sampler_says_who_and_how_much(x64):
    def sample(key, state, population, cohort_size, numbers):
        first = (population.round * 2 + state) % 4
        clients = first + jnp.arange(cohort_size, dtype=jnp.int32)
        return Cohort(clients, jnp.array([1.0, 3.0]))

    sampler = Sampler("pairs", {}, sample, init=lambda num_clients: jnp.int32(0))
    algorithm = fx.fedavg(momentum=0.0)
    built = simulation([4, 4, 4, 4], algorithm=algorithm, sampler=sampler, cohort_size=2)
    _, infos = after(built, 2)
    assert infos.cohort.tolist() == [[0, 1], [2, 3]]
    losses = np.asarray(infos.clients.loss)
    np.testing.assert_allclose(infos.train_loss, losses @ [0.25, 0.75])


def test_a_sampler_sees_losses_and_hears_what_came_of_the_round(x64):
    def sample(key, state, population, cohort_size, numbers):
        clients = jnp.arange(cohort_size, dtype=jnp.int32)
        return Cohort(clients, population.losses(clients))

    sampler = Sampler(
        "told", {}, sample, lambda num_clients: jnp.zeros(num_clients),
        lambda state, heard: state.at[heard.cohort.clients].set(heard.losses),
    )  # fmt: skip
    whole = [4, 4, 4]
    options = {"sampler": sampler, "algorithm": fx.fedavg(learning_rate=1e-9)}
    state, infos = after(simulation(whole, **options))
    # nothing moves, so that the loss in training is the loss before it
    np.testing.assert_allclose(state.server.sampler, infos.clients.loss[0], rtol=1e-6)
    losses = np.asarray(state.server.sampler)
    np.testing.assert_allclose(infos.train_loss[0], losses @ losses / losses.sum(), rtol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_system_says_how_many_steps_and_how_long(layout, x64):
    """Steps: of 3 for 9 examples in fours two, of 1 all, of 4 none, of 1 and 2 all."""
    steps = jnp.array([2, 1, 0, 0, 1, 2], jnp.int32)

    def work(key, devices, task, numbers):
        assert task.bytes_up > 0
        seconds = numbers["second"] * jnp.max(devices)
        return Work(jnp.minimum(steps[task.clients], task.num_steps), seconds)

    system = System("slow", {"second": 2.0}, lambda key, n, numbers: jnp.arange(float(n)), work)
    full, *_ = plain_updates(layout)
    part, weights, infos = each_update(system=system, **LAYOUTS[layout])
    present = np.array([9, 4, 0, 0, 1, 6])
    np.testing.assert_allclose(weights, present / present.sum())
    assert (part[3] == 0).all()
    assert np.abs(part[0] - full[0]).max() > 1e-6
    np.testing.assert_allclose(part[[1, 4, 5]], full[[1, 4, 5]], atol=1e-14)
    assert infos.clients.num_steps[0].tolist() == [2, 1, 0, 0, 1, 2]
    np.testing.assert_allclose(infos.seconds, 10.0)


def test_simulated_seconds_and_sent_bytes_are_in_the_history():
    def work(key, devices, task, numbers):
        dropped = task.clients == 0
        return Work(jnp.where(dropped, 0, task.num_steps), jnp.float32(1.5))

    system = System("drop", {}, lambda key, n, numbers: (), work)
    built = simulation(system=system)
    history = fx.run(built, rounds=3)
    assert history.table["seconds"].tolist() == [1.5] * 3
    assert history.summary()["simulated_seconds"] == 4.5
    # of six clients one has no data and one dropped out
    assert history.table["bytes_up"].tolist() == [4 * built.setting.bytes_up] * 3
    assert history.table["bytes_down"].tolist() == [5 * built.setting.bytes_down] * 3


def test_a_cohort_of_which_nobody_sends_anything_changes_nothing():
    nobody = System(
        "nobody", {}, lambda key, n, numbers: (),
        lambda key, devices, task, numbers: Work(task.num_steps * 0, jnp.float32(9)),
    )  # fmt: skip
    for algorithm in (fx.fedavg(), fx.scaffold(regulator=fx.ecgr()), fx.fednova()):
        total, state, infos = moved(simulation(algorithm=algorithm, system=nobody))
        assert (total == 0).all()
        assert infos.finite.all()
        assert infos.clients.finite.all()
        assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(state.clients))


def test_a_round_without_anybody_has_no_loss_and_means_leave_it_out():
    def work(key, devices, task, numbers):
        return Work(jnp.where(task.round % 2 == 1, 0, task.num_steps), jnp.float32(1))

    built = simulation(system=System("every_other", {}, lambda key, n, numbers: (), work))
    told = []
    history = fx.run(built, rounds=4, on_progress=told.append)
    for name in ("train_loss", "drift", "update_variance"):
        assert np.isnan(history.table[name]).tolist() == [False, True, False, True]
    assert np.isnan(told[1].train_loss)
    assert told[2].train_loss == history.table["train_loss"][2]
    kept = {name: column[::2] for name, column in history.table.items()}
    assert history.summary()["final_train_loss"] == kept["train_loss"][-1] > 0
    for score in ("train_loss", "divergence", "gradient_variance"):
        value = SCORES[score].of(history.table)
        assert value == SCORES[score].of(kept) > 0


@pytest.mark.parametrize("name", ["ipm", "lie", "min_max", "fang"])
@pytest.mark.parametrize("stacked", [False, True], ids=["mean", "aggregator"])
def test_variance_is_of_what_colluding_clients_made_of_their_updates(name, stacked, x64):
    options = {"attack": ATTACKS[name](), "malicious_share": 0.34}
    updates, weights, infos = each_update(**options)
    if not stacked:
        infos = moved(simulation(**options))[2]
    squares = (updates**2).sum(axis=1)
    assert np.abs(updates - plain_updates("scan")[0]).max() > 1e-3
    np.testing.assert_allclose(infos.clients.squared_norm[0], squares, rtol=1e-12)
    expected = weights @ squares - ((weights @ updates) ** 2).sum()
    np.testing.assert_allclose(infos.update_variance[0], expected, rtol=1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_client_that_lies_in_nan_does_not_end_a_run_whose_aggregator_is_not_moved(layout):
    def alone(update, attacking):
        return jax.tree.map(lambda u: jnp.full_like(u, jnp.nan), update)

    attack = Attack("nan", {}, alone=alone)
    options = {"attack": attack, "malicious_share": 0.34, **LAYOUTS[layout]}
    robust = simulation(algorithm=fx.fedavg(aggregator=fx.aggregators.median()), **options)
    history = fx.run(robust, rounds=3, seed=3)
    assert np.isfinite(history.table["train_loss"]).all()
    with pytest.raises(fx.DivergedError, match="in the server's step"):
        fx.run(simulation(**options), rounds=3, seed=3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_a_client_without_examples_makes_of_its_round_is_left_out(layout):
    """Its size is 0, and 0 / 0 no number."""

    def client(client, local):
        trained = client.train()
        update = jax.tree.map(lambda u: u / client.size.astype(u.dtype), trained.update)
        return Outcome(Upload(update, weighted=trained.loss / client.weight), local.state, trained)

    shared = own_algorithm("shared", {}, client=client)
    state, infos = after(simulation(algorithm=shared, **LAYOUTS[layout]))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    assert infos.clients.finite.all()
    assert infos.finite.all()
    assert np.isfinite([infos.train_loss, infos.update_variance]).all()


def test_an_optimizer_of_the_server_may_keep_the_numbers_in_its_state(x64):
    """As `optax.inject_hyperparams` does: those of the round count, not the factory's."""

    found = []
    for sgd in (optax.inject_hyperparams(optax.sgd), optax.sgd):

        def optimizer(numbers, sgd=sgd):
            return sgd(learning_rate=numbers["server_learning_rate"], momentum=0.9)

        built = simulation(algorithm=fx.fedavg(server_optimizer=optimizer))
        own = {**built.hyperparameters["algorithm"], "server_learning_rate": 0.25}
        numbers = {**built.hyperparameters, "algorithm": own}
        with jax.numpy_dtype_promotion("standard"):  # optax's inject_hyperparams needs it
            history = fx.run(built, rounds=3, hyperparameters=numbers)
        found.append(history.table["train_loss"])
    np.testing.assert_allclose(*found, rtol=1e-12)


def test_each_reaches_the_server_and_the_server_optimizer_keeps_its_state(x64):
    import optax

    from fedjax_ecgr.algorithms import Outcome, Upload, algorithm

    def client(client, local):
        trained = client.train()
        return Outcome(Upload(trained.update, each=client.size), local.state, trained)

    def server(server, upload):
        sizes = jnp.zeros(6, jnp.int32).at[server.clients].set(upload.each)
        return upload.update, sizes

    one = algorithm(
        "told", {}, init_server=lambda first: jnp.zeros(6, jnp.int32), client=client, server=server,
        server_optimizer=lambda numbers: optax.sgd(numbers["server_learning_rate"], momentum=0.5),
    )  # fmt: skip
    built = simulation(algorithm=one)
    state, _ = after(built)
    first = jax.device_get(state)
    state, _ = after(built, state=state)
    assert state.server.algorithm.tolist() == SIZES
    plain, _ = after(simulation(algorithm=fx.fedavg()))
    np.testing.assert_allclose(first.params["fc1"]["kernel"], plain.params["fc1"]["kernel"])
    trace = jax.tree.leaves(first.server.optimizer)
    begun = jax.tree.leaves(built.init(jax.random.key(3)).params)
    for t, a, b in zip(trace, begun, jax.tree.leaves(first.params), strict=True):
        np.testing.assert_allclose(t, np.asarray(a) - np.asarray(b), atol=1e-14)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fx.fedavg(transforms="clip"), "transforms: 'clip' is not allowed, it must be a"),
        (lambda: fx.fedavg(aggregator="median"), "aggregator: 'median' is not allowed"),
        (lambda: simulation(malicious_share=1.0), "malicious_share: 1.0 is not allowed"),
        (
            lambda: fx.fedavg(transforms=[Transform("a", {}, None, None)] * 2),
            "transforms: 'a' is there twice",
        ),
        (
            lambda: simulation(client_test=federation([1, 1])),
            "client_test: 2 clients are not allowed, there must be 6",
        ),
    ],
)
def test_bad_parts_are_named(make, said):
    with pytest.raises(fx.InputError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
