"""Common mistakes in Python: one line that says what, where and what is allowed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedjax_ecgr as fx

DATA = fx.datasets.synthetic(num_clients=3, max_size=20)
METHOD, NET = fx.fedavg(), fx.models.mlp(DATA.spec, hidden=(4,))
CLIENTS = fx.partition.natural(DATA.train)
BUILT = fx.simulation(METHOD, NET, CLIENTS, test=DATA.test)
IMAGES = fx.Spec((8, 8, 1), 3)
WIDER = DATA.test._replace(inputs=np.pad(DATA.test.inputs, ((0, 0), (0, 1))))


def simulation(algorithm=METHOD, model=NET, data=CLIENTS, **options):
    return fx.simulation(algorithm, model, data, **options)


def run(**numbers):
    algorithm = {**BUILT.hyperparameters["algorithm"], **numbers}
    return fx.run(
        BUILT, rounds=1, hyperparameters={**BUILT.hyperparameters, "algorithm": algorithm}
    )


def typed(kind):
    """A model with biases of another type."""

    def init(key):
        params, stats = NET.init(key)
        return jax.tree.map(lambda p: p.astype(kind) if p.ndim == 1 else p, params), stats

    return NET._replace(init=init)


def broken(key):
    raise ValueError("no weights here\nat all")


def one_round(algorithm):
    built = simulation(algorithm)
    key = jax.random.key(0)
    return built.round(built.init(key), key, built.hyperparameters)


def carrying(**numbers):
    built = simulation(fx.fedavg(aggregator=fx.aggregators.trimmed_mean(num_malicious=1)))
    return fx.run(built, rounds=1, hyperparameters={**built.hyperparameters, "aggregator": numbers})


def scheduled(schedule):
    return fx.run(simulation(fx.fedavg(learning_rate=schedule)), rounds=3)


def reaggregate(deltas):
    return fx.reaggregate(deltas, beta=0.1, select_ratio=0.5)


MISTAKES = {
    "a dataset as test": (
        lambda: simulation(test=DATA),
        "test: Dataset is not allowed, it must be Examples, such as those of a dataset",
    ),
    "a dataset divided": (
        lambda: fx.partition.dirichlet(DATA, num_clients=2),
        "examples: Dataset is not allowed, it must be Examples, such as those of a dataset",
    ),
    "a dataset divided as it came": (
        lambda: fx.partition.natural(DATA),
        "examples: Dataset is not allowed",
    ),
    "a dataset in place of clients": (
        lambda: fx.simulate(METHOD, NET, DATA, rounds=1),
        "data: Dataset is not allowed, it must be a FederatedDataset, such as partition.iid(",
    ),
    "examples in place of clients": (
        lambda: simulation(data=DATA.train),
        "data: Examples is not allowed, it must be a FederatedDataset",
    ),
    "examples as the clients' tests": (
        lambda: simulation(client_test=DATA.test),
        "client_test: Examples is not allowed, it must be a FederatedDataset",
    ),
    "examples held out": (
        lambda: fx.partition.hold_out(DATA.train, 0.2),
        "clients: Examples is not allowed, it must be a FederatedDataset",
    ),
    "model and method swapped": (
        lambda: simulation(NET, METHOD),
        "algorithm: Model is not allowed, it must be an Algorithm, such as fedavg()",
    ),
    "a method not called": (
        lambda: simulation(fx.fedavg),
        "algorithm: fedavg (a function, not what it returns) is not allowed, it must be an Alg",
    ),
    "a model not called": (
        lambda: simulation(model=fx.models.mlp),
        "model: mlp (a function, not what it returns) is not allowed, it must be a Model",
    ),
    "a regulator not called": (
        lambda: fx.fedavg(regulator=fx.ecgr),
        "fedavg: regulator: ecgr (a function, not what it returns) is not allowed",
    ),
    "a sampler not called": (
        lambda: simulation(sampler=fx.samplers.uniform),
        "sampler: uniform (a function, not what it returns) is not allowed, it must be a Sampler",
    ),
    "a system not called": (
        lambda: simulation(system=fx.systems.ideal),
        "system: ideal (a function, not what it returns) is not allowed, it must be a System",
    ),
    "an attack not called": (
        lambda: simulation(attack=fx.attacks.sign_flip),
        "attack: sign_flip (a function, not what it returns) is not allowed",
    ),
    "a method by name": (lambda: simulation("fedavg"), "algorithm: 'fedavg' is not allowed"),
    "a model by name": (lambda: simulation(model="mlp"), "model: 'mlp' is not allowed"),
    "a sampler by name": (
        lambda: simulation(sampler="uniform"),
        "sampler: 'uniform' is not allowed, it must be a Sampler, such as samplers.uniform()",
    ),
    "one width": (
        lambda: fx.models.mlp(DATA.spec, hidden=64),
        "hidden: 64 is not allowed, it must be a list such as (64, 32)",
    ),
    "a width as text": (
        lambda: fx.models.mlp(DATA.spec, hidden="64"),
        "hidden: '64' is not allowed, it must be a list",
    ),
    "a flat list of blocks": (
        lambda: fx.models.bncnn(IMAGES, blocks=(3, 3)),
        "blocks: 3 is not allowed, it must be a list",
    ),
    "a dataset as a spec": (
        lambda: fx.models.mlp(DATA),
        "spec: Dataset is not allowed, it must be a Spec, such as the data's own, data.spec",
    ),
    "a shape as a spec": (lambda: fx.models.lenet((28, 28, 1)), "spec: tuple is not allowed"),
    "a loss by name": (lambda: simulation(loss="ce"), "loss: 'ce' is not allowed, it must be a fu"),
    "a loss that is a mean": (
        lambda: simulation(loss=lambda outputs, labels: outputs.mean()),
        "loss: shape () for 2 examples is not allowed, it must be (2,), one number a label",
    ),
    "a loss of the outputs alone": (
        lambda: simulation(loss=lambda outputs: outputs[:, 0]),
        "loss: does not take outputs and labels: ",
    ),
    "a number out of range": (
        lambda: run(momentum=2.0),
        "hyperparameters of the algorithm: momentum: 2.0 is not allowed, it must be in [0, 1)",
    ),
    "a number that is none": (
        lambda: run(learning_rate=float("nan")),
        "hyperparameters of the algorithm: learning_rate: nan is not allowed",
    ),
    "text for a number": (
        lambda: run(learning_rate="big"),
        "hyperparameters of the algorithm: learning_rate: 'big' is not a number",
    ),
    "several numbers for one": (
        lambda: run(learning_rate=np.array([0.1, 0.2])),
        "hyperparameters of the algorithm: learning_rate: shape (2,) is not allowed",
    ),
    "more malicious clients than a rule carries": (
        lambda: carrying(num_malicious=2.0),
        "cohort_size: 3 is not allowed with trimmed_mean and num_malicious 2, it must be at least",
    ),
    "no dict of numbers": (
        lambda: fx.run(BUILT, rounds=1, hyperparameters=0.1),
        "hyperparameters: 0.1 is not allowed, it must be a dict like the simulation's own",
    ),
    "numbers of nothing": (
        lambda: fx.run(BUILT, rounds=1, hyperparameters={"learning_rate": 0.1}),
        "hyperparameters: unknown option 'learning_rate'",
    ),
    "a schedule below 0": (
        lambda: scheduled(lambda t: 0.1 - 0.09 * t),
        "learning_rate: the schedule gives -0.0",
    ),
    "a schedule of text": (
        lambda: scheduled(lambda t: "fast"),
        "learning_rate: a schedule must return one number a round: ",
    ),
    "a schedule of all rounds": (
        lambda: scheduled(lambda t: np.ones(3)),
        "learning_rate: a schedule must return one number a round and not an array of shape (3,)",
    ),
    "a word for a truth": (
        lambda: simulation(shuffle="no"),
        "shuffle: 'no' is not allowed, it must be True or False",
    ),
    "no deltas": (lambda: reaggregate({}), "deltas: no array is not allowed"),
    "no steps": (lambda: reaggregate({"w": np.zeros((0, 3))}), "deltas: (0, 3) is not allowed"),
    "a delta without steps": (lambda: reaggregate({"w": np.zeros(())}), "deltas: () is not all"),
    "deltas of several lengths": (
        lambda: reaggregate({"w": np.zeros((2, 3)), "v": np.zeros((3, 3))}),
        "deltas: (3, 3), (2, 3) is not allowed",
    ),
    "a method in place of a simulation": (
        lambda: fx.run(METHOD, rounds=1),
        "built: Algorithm is not allowed, it must be a Simulation",
    ),
    "test examples of another shape": (
        lambda: simulation(test=WIDER),
        "test: inputs of shape (61,) are not allowed, those of the training data are of shape (60,",
    ),
    "validation examples of another shape": (
        lambda: simulation(test=DATA.test, validation=WIDER),
        "validation: inputs of shape (61,) are not allowed, those of the training data are of sha",
    ),
    "clients' test examples of another shape": (
        lambda: simulation(client_test=fx.partition.iid(WIDER, num_clients=3)),
        "client_test: inputs of shape (61,) are not allowed, those of the training data are of sh",
    ),
    "a model that cannot be initialised": (
        lambda: simulation(model=NET._replace(init=broken)),
        "model: mlp cannot be initialised: no weights here",
    ),
    "parameters of two types": (
        lambda: simulation(model=typed(jnp.float16)),
        "model: mlp has parameters of float16 and float32, they must all be of one floating type",
    ),
    "parameters of whole numbers": (
        lambda: simulation(model=typed(jnp.int32)),
        "model: mlp has parameters of float32 and int32, they must all be of one floating type",
    ),
    "a number that is several": (
        lambda: one_round(fx.fedavg(learning_rate=np.array([0.1, 0.2]))),
        "hyperparameters: algorithm.learning_rate: shape (2,) is not allowed, it must be one numb",
    ),
    "an optimizer with a key of its own": (
        lambda: simulation(fx.fedavg(optimizer=lambda rate, _: optax.noisy_sgd(rate, key=1))),
        "fedavg: optimizer, an optax transformation with a random key, is not allowed, all client",
    ),
    "a callback that is none": (
        lambda: fx.run(BUILT, rounds=1, on_progress=True),
        "on_progress: True is not allowed, it must be a function",
    ),
    "more parameters than memory": (
        lambda: simulation(model=fx.models.mlp(DATA.spec, hidden=(10**10,))),
        "model mlp: its 710,000,000,010 parameters take 2.64e+03 GiB, which is not allowed on a d",
    ),
    "more steps than can be counted": (
        lambda: simulation(local_epochs=2**31),
        "local_epochs: 2147483648 is not allowed, it must be a whole number from 1 to 2147483647",
    ),
    "more steps than can be kept": (
        lambda: simulation(fx.fedavg(regulator=fx.ecgr()), local_epochs=10**8),
        "regulator ecgr: one client's 100,000,000 local steps take ",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake):
    make, said = MISTAKES[mistake]
    with pytest.raises(fx.InputError) as caught:
        make()
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_schedule_that_ends_at_0_is_fine():
    history = scheduled(lambda t: 0.1 * (2 - t))
    np.testing.assert_allclose(history.table["learning_rate"], [0.2, 0.1, 0.0], rtol=1e-6)


def test_numbers_of_an_own_method_are_not_judged_by_its_namesake():
    own = METHOD._replace(name="fedprox", hyperparameters=METHOD.hyperparameters)
    built = simulation(own)
    numbers = {**built.hyperparameters["algorithm"], "momentum": 0.5}
    fx.run(built, rounds=1, hyperparameters={**built.hyperparameters, "algorithm": numbers})
