"""Methods that judge each client by a model of its own: known answers, bytes, bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import fedjax_ecgr as fx
from fedjax_ecgr.aggregators.base import Aggregator
from fedjax_ecgr.algorithms import ALGORITHMS
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.transforms.base import Transform
from tests.algorithms import test_contract as contract
from tests.plain import federation as plain

PERSONAL = {
    "local_only", "fine_tuned", "ditto", "apfl", "pfedme", "perfedavg", "fedper", "fedrep",
    "lg_fedavg", "fedbabu", "fedala",
}  # fmt: skip
HEADED = ("fedala", "fedbabu", "fedper", "fedrep", "lg_fedavg")


def test_these_are_judged_by_models_of_their_own():
    assert {name for name in PERSONAL if ALGORITHMS[name]().personal is not None} == PERSONAL


# options, against plain loops of their own


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("oracle", "name", "options"),
    [
        ("apfl_adaptive", "apfl", {"adaptive": True}),
        ("perfedavg_fo", "perfedavg", {"variant": "fo", "steps": 2}),
    ],
)
def test_an_option_is_its_plain_loop(oracle, name, options):
    train, test = contract.federation()
    method = ALGORITHMS[name](regulator=fx.ecgr(), learning_rate=0.2, weight_decay=0.01, **options)
    built = fx.simulation(
        method, contract.model(), train, client_test=test, cohort_size=contract.COHORT,
        batch_size=contract.BATCH, local_epochs=contract.EPOCHS, placement="vmap", chunk_size=3,
    )  # fmt: skip
    key, rounds = jax.random.key(7), contract.ROUNDS
    state, _ = built.block(built.init(key), key, built.hyperparameters, rounds, rounds)
    numbers = {k: float(v) for k, v in method.hyperparameters.items()}
    wanted = plain.run(
        contract.world(), oracle, numbers, "ecgr",
        {k: float(v) for k, v in method.regulator.hyperparameters.items()},
        np.asarray(ravel_pytree(contract.first_parameters())[0]), key, rounds, contract.COHORT,
    )  # fmt: skip
    contract.assert_ended(state, wanted, 1e-9)
    models = jax.jit(partial(contract.personal_models, built.setting, train))(
        state, key, built.hyperparameters
    )
    np.testing.assert_allclose(models, wanted.models, rtol=0, atol=1e-9)
    if oracle == "apfl_adaptive":  # it did adapt
        assert np.abs(np.asarray(state.clients.algorithm.shift)).max() > 1e-3


# known answers on quadratics: client i holds copies of c_i, its loss is ½‖w − c_i‖²

CENTRES = np.array([[3.0, 0.0], [-1.0, 2.0], [0.0, -1.0]])
RATE, STEPS = 0.1, 3


def on_quadratics(name, rounds=2, **options):
    """The state after some rounds of STEPS full-batch steps without momentum, from w = 0."""
    owners = np.repeat(np.arange(3), 4)
    examples = fx.Examples(CENTRES[owners], np.zeros(12, np.int32), np.array(0.0), np.array(1.0))

    def apply(params, stats, inputs, *, mask, train, key):
        return params["w"][None] - inputs, stats

    built = fx.simulation(
        ALGORITHMS[name](learning_rate=RATE, momentum=0.0, **options),
        Model("quadratic", lambda key: ({"w": jnp.zeros(2)}, {}), apply),
        from_owners(examples, owners, 3),
        batch_size=4, local_epochs=STEPS, placement="scan",
        loss=lambda outputs, labels: jnp.square(outputs).sum(axis=1) / 2,
    )  # fmt: skip
    key = jax.random.key(0)
    return built.block(built.init(key), key, built.hyperparameters, rounds, rounds)[0]


def own_models(state):
    return np.asarray(jax.tree.leaves(state.clients.algorithm)[0])


@pytest.mark.usefixtures("x64")
def test_alone_is_gradient_descent_and_the_ends_of_ditto_and_apfl():
    alone = CENTRES * (1 - (1 - RATE) ** (2 * STEPS))
    fedavg = on_quadratics("fedavg").params["w"]
    np.testing.assert_allclose(fedavg, alone.mean(axis=0), atol=1e-14)
    state = on_quadratics("local_only")
    np.testing.assert_allclose(own_models(state), alone, atol=1e-14)
    assert (np.asarray(state.params["w"]) == 0).all()
    state = on_quadratics("ditto", lam=0.0)
    np.testing.assert_allclose(own_models(state), alone, atol=1e-14)
    np.testing.assert_allclose(state.params["w"], fedavg, atol=1e-14)
    state = on_quadratics("apfl", alpha=1.0)
    np.testing.assert_allclose(own_models(state), alone, atol=1e-14)
    np.testing.assert_allclose(state.params["w"], fedavg, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_what_ditto_settles_at_lies_between():
    """From w_0 = 0 in the first round: v goes to the minimum of ½‖v − c‖² + (λ/2)‖v − 0‖²."""
    state = on_quadratics("ditto", rounds=1, lam=3.0)
    reached = 1 - (1 - RATE * 4) ** STEPS
    np.testing.assert_allclose(own_models(state), reached * CENTRES / 4, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_pfedme_is_gradient_descent_on_moreau_envelopes():
    """θ(w) = (c + λ w) / (1 + λ), and λ (w − θ) = λ/(1 + λ) (w − c)."""
    lam = 4.0
    state = on_quadratics("pfedme", rounds=1, lam=lam, inner_rate=0.15, inner_steps=40)
    left = (1 - RATE * lam / (1 + lam)) ** np.arange(1, STEPS + 1)
    w = CENTRES * (1 - left[-1])
    np.testing.assert_allclose(state.params["w"], w.mean(axis=0), atol=1e-10)
    before = CENTRES * (1 - left[-2])
    np.testing.assert_allclose(own_models(state), (CENTRES + lam * before) / (1 + lam), atol=1e-10)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("variant", "power"), [("hf", 2), ("fo", 1)])
def test_perfedavg_descends_on_the_loss_after_a_step(variant, power):
    """∇F(w) = (1 − α)² (w − c); without the Hessian one factor less."""
    alpha = 0.4
    state = on_quadratics("perfedavg", rounds=1, inner_rate=alpha, variant=variant)
    left = (1 - RATE * (1 - alpha) ** power) ** STEPS
    np.testing.assert_allclose(state.params["w"], CENTRES.mean(axis=0) * (1 - left), atol=1e-14)


# whose statistics are whose


def measured_model(dtype=float):
    """Its statistic goes a tenth of the way to the batch's mean in each step."""

    def apply(params, stats, inputs, *, mask, train, key):
        if train:
            mean = jnp.where(mask[:, None], inputs, 0).sum(axis=0) / jnp.sum(
                mask, dtype=inputs.dtype
            )
            stats = {"mean": 0.9 * stats["mean"] + 0.1 * jax.lax.stop_gradient(mean)}
        hidden = jnp.tanh((inputs - stats["mean"][None]) @ params["body"])
        return hidden @ params["head"], stats

    def init(key):
        body, head = (jax.random.normal(k, (2, 2), dtype) for k in jax.random.split(key))
        return {"body": body, "head": head}, {"mean": jnp.zeros(2, dtype)}

    return Model("measured", init, apply, head=("head",))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", sorted(PERSONAL))
def test_statistics_are_the_clients_own_or_the_average(name):
    """One step a round on copies of c_i: what is left of m_0 = 0 is known."""
    owners = np.repeat(np.arange(3), 4)
    labels = np.arange(12, dtype=np.int32) % 2
    examples = fx.Examples(CENTRES[owners], labels, np.array(0.0), np.array(1.0))
    data = from_owners(examples, owners, 3)
    built = fx.simulation(
        ALGORITHMS[name](), measured_model(), data, batch_size=4, placement="scan"
    )
    key, rounds = jax.random.key(0), 2
    state, _ = built.block(built.init(key), key, built.hyperparameters, rounds, rounds)

    average = CENTRES.mean(axis=0)
    common, before, alone = (1 - 0.9**2) * average, (1 - 0.9) * average, (1 - 0.9**2) * CENTRES
    sent = name not in ("local_only", "lg_fedavg")
    np.testing.assert_allclose(state.batch_stats["mean"], sent * common, atol=1e-14)
    wanted = {
        "fine_tuned": 0.9 * common + 0.1 * CENTRES,
        "fedbabu": 0.9**5 * common + (1 - 0.9**5) * CENTRES,
        "pfedme": 0.9 * before + 0.1 * CENTRES,
        **dict.fromkeys(("perfedavg", "fedper", "fedrep", "fedala"), np.tile(common, (3, 1))),
    }.get(name, alone)
    judge = jax.jit(partial(contract.personal_models, built.setting, data, part=1))
    judged = judge(state, key, built.hyperparameters)
    np.testing.assert_allclose(judged, wanted, atol=1e-14)


# what is sent


def test_who_sends_nothing_has_nothing_to_forge():
    train, test = contract.federation()
    given = fx.models.mlp(fx.Spec((3,), 3), hidden=(4,)), train
    attacked = {"attack": fx.attacks.lie(), "malicious_share": 0.4}
    honest, forged = (
        fx.simulate(ALGORITHMS["local_only"](), *given, client_test=test, rounds=1, **options)
        for options in ({}, attacked)
    )
    np.testing.assert_array_equal(own_models(honest.state), own_models(forged.state))


def test_who_sends_less_is_counted_less():
    train, test = contract.federation()

    def counted(name, model):
        setting = fx.simulation(ALGORITHMS[name](), model, train, client_test=test).setting
        return setting.bytes_up, setting.bytes_down

    mlp = fx.models.mlp(fx.Spec((3,), 3), hidden=(4,))
    body, head = 4 * (3 * 4 + 4), 4 * (4 * 3 + 3)
    for name in ("fedavg", "fine_tuned", "ditto", "apfl", "pfedme", "perfedavg", "fedala"):
        assert counted(name, mlp) == (body + head, body + head), name
    for name in ("fedbabu", "fedper", "fedrep"):
        assert counted(name, mlp) == (body, body), name
    assert counted("lg_fedavg", mlp) == (head, head)
    assert counted("local_only", mlp) == (0, 0)
    weights, stats = 4 * 4, 4 * 2  # a dense layer of 2 × 2, a mean
    examples = fx.Examples(np.zeros((2, 2)), np.arange(2), np.array(0.0), np.array(1.0))
    pair = from_owners(examples, [0, 1], 2)
    for name, sent in {"fedper": weights + stats, "lg_fedavg": weights, "local_only": 0}.items():
        setting = fx.simulation(ALGORITHMS[name](), measured_model(jnp.float32), pair).setting
        assert (setting.bytes_up, setting.bytes_down) == (sent, sent), name


def test_a_regulator_of_a_part_is_given_that_part_of_the_direction():
    base = fx.identity()

    def finalize(state, total, given=None):
        return jax.tree.map(lambda u, d: u + 0 * d, total, given.direction), given.direction

    spy = base._replace(name="spy", finalize=finalize, needs_direction=True)
    train, test = contract.federation()
    built = fx.simulation(
        ALGORITHMS["fedper"](regulator=spy), contract.model(), train, client_test=test,
        batch_size=contract.BATCH, placement="scan",
    )  # fmt: skip
    key = jax.random.key(1)
    first = jax.device_get(built.init(key).params)
    one, _ = built.block(built.init(key), key, built.hyperparameters, 1, 2)
    after = jax.device_get(one.params)
    _, infos = built.block(one, key, built.hyperparameters, 1, 2)
    seen = infos.clients.regulator
    assert len(jax.tree.leaves(seen)) == 1  # of the body
    moved = first["fc1"] - after["fc1"]
    np.testing.assert_array_equal(seen["fc1"][0, 0], moved)
    assert np.abs(moved).max() > 0


# what it is for: clients that contradict one another


def contradicting():
    """Two clients label the same points with opposite signs, four in all."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(160, 2))
    owners = np.arange(160) % 4
    labels = ((inputs[:, 0] > 0) ^ (owners % 2 == 1)).astype(np.int32)
    examples = fx.Examples(inputs, labels, np.array(0.0), np.array(1.0))
    return fx.partition.hold_out(from_owners(examples, owners, 4), 0.5)


@pytest.mark.parametrize("name", ["fedavg", *sorted(PERSONAL)])
def test_clients_that_contradict_one_another_need_models_of_their_own(name):
    """With ECGR and without: β = 1 keeps all of an update."""
    options = {
        "fine_tuned": {"epochs": 5},
        "ditto": {"lam": 0.1},
        "pfedme": {"lam": 1.0},
        "perfedavg": {"inner_rate": 1.0, "steps": 3},
    }.get(name, {})
    train, test = contradicting()
    built = fx.simulation(
        ALGORITHMS[name](learning_rate=0.1, regulator=fx.ecgr(), **options),
        fx.models.mlp(fx.Spec((2,), 2), hidden=(8,)), train,
        client_test=test, local_epochs=4, batch_size=10, placement="scan",
    )  # fmt: skip
    numbers = built.hyperparameters
    for beta in (0.2, 1.0):
        own = {**numbers, "regulator": {**numbers["regulator"], "beta": beta}}
        history = fx.run(built, rounds=15, eval_every=15, hyperparameters=own)
        accuracy = history.table["client_accuracy_mean"][-1]
        if name == "fedavg":
            assert accuracy < 0.65
        else:
            assert accuracy > 0.85


# bad input, before anything is compiled


def simulated(name, model=None, *, tested=True, **options):
    train, test = contract.federation()
    own = {"client_test": test} if tested else {"test": train.examples}
    model = model or fx.models.mlp(fx.Spec((3,), 3), hidden=(4,))
    return fx.simulation(ALGORITHMS[name](**options), model, train, **own)


untested = partial(simulated, tested=False)


def nothing(*_):
    return ()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        *(
            (partial(untested, name), f"client_test: None is not allowed with {name},")
            for name in sorted(PERSONAL)
        ),
        *(
            (
                partial(simulated, name, contract.model()._replace(head=())),
                f"{name}: model: one that names no head is not allowed",
            )
            for name in HEADED
        ),
        *(
            (
                partial(simulated, name, fx.models.logistic_regression(fx.Spec((3,), 3))),
                f"{name}: model: one that is nothing but its head is not allowed",
            )
            for name in HEADED
        ),
        (
            partial(simulated, "local_only", aggregator=Aggregator("a", {}, nothing, nothing)),
            "local_only: aggregator: not allowed, clients send nothing",
        ),
        (
            partial(simulated, "local_only", transforms=[Transform("t", {}, nothing, nothing)]),
            "local_only: transforms: not allowed, clients send nothing",
        ),
        (partial(ALGORITHMS["ditto"], lam=-1), "lam: -1 is not allowed, it must be in [0, inf)"),
        (partial(ALGORITHMS["apfl"], alpha=1.5), "alpha: 1.5 is not allowed, it must be in [0, 1]"),
        (partial(ALGORITHMS["pfedme"], inner_steps=0), "inner_steps: 0 is not allowed"),
        (partial(ALGORITHMS["pfedme"], lam=0), "lam: 0 is not allowed"),
        (
            partial(ALGORITHMS["perfedavg"], variant="ho"),
            "variant: unknown 'ho', did you mean 'hf'? (known: fo, hf)",
        ),
        (partial(ALGORITHMS["perfedavg"], steps=1.5), "steps: 1.5 is not allowed"),
        (partial(ALGORITHMS["fedrep"], head_epochs=0), "head_epochs: 0 is not allowed"),
        (partial(ALGORITHMS["fedala"], weight_rate=-1), "weight_rate: -1 is not allowed"),
        (partial(ALGORITHMS["fedala"], first_epochs=0), "first_epochs: 0 is not allowed"),
        (partial(ALGORITHMS["fine_tuned"], epochs=0), "epochs: 0 is not allowed"),
    ],
)
def test_bad_input_is_one_line(make, said):
    with pytest.raises(fx.InputError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
