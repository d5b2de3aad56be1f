"""Members against simulations built alone, by few programs and one copy of the data."""

import jax
import numpy as np
import pytest

from fedjax_ecgr import runs
from fedjax_ecgr.engine.groups import grouped
from fedjax_ecgr.sweeps import members_of, study
from fedjax_ecgr.sweeps.members import build

BASE = {"model": "logistic_regression", "num-clients": 4}


def built(**asked):
    """The members of a study on top of `BASE`: their configurations, and what runs them."""
    base = {**BASE, **asked.pop("base", {})}
    base = {option: value for option, value in base.items() if option not in asked.get("grid", {})}
    found = members_of(study(base, **asked))
    return list(found.configs.values()), build(found.configs, found.axes)


def groups(members):
    return [group.members for group in grouped(members, num_devices=1)]


def assert_as_alone(configs, members):
    """Each has the seed, the numbers and the data of its own configuration, built alone."""
    for config, member in zip(configs, members, strict=True):
        alone = runs.build(config)
        assert member.seed == config.seed
        assert member.numbers == alone.hyperparameters
        ours, theirs = member.simulation.inputs, alone.inputs
        assert jax.tree.structure(ours) == jax.tree.structure(theirs)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_array_equal(a, b)


HYPERPARAMETERS = [
    {"grid": {"seed": [0, 1, 7]}},
    {"grid": {"partition-seed": [0, 1], "seed": [0, 1]}},
    {"grid": {"partition.alpha": [0.1, 5.0]}},
    {"grid": {"learning-rate": [0.1, 0.01], "momentum": [0.0, 0.9]}},
    {"base": {"regulator": "ecgr"}, "grid": {"beta": [0.1, 0.2]}},
    {"base": {"algorithm": "fedprox"}, "grid": {"mu": [0.1, 1.0]}},
    {"base": {"attack": "sign_flip"}, "grid": {"malicious-share": [0.25, 0.5]}},
    {"base": {"transforms": "clip"}, "grid": {"max-norm": [1.0, 2.0]}},
    {"base": {"aggregator": "trimmed_mean"}, "grid": {"num-malicious": [0, 1]}},
    {"grid": {"target-accuracy": [0.5, 0.9], "seed": [0, 1]}},
]


@pytest.mark.parametrize("asked", HYPERPARAMETERS, ids=lambda asked: ",".join(asked["grid"]))
def test_members_that_differ_in_numbers_seeds_and_division_are_one_program(asked):
    configs, members = built(**asked)
    assert len(members) > 1
    assert groups(members) == [tuple(range(len(members)))]
    assert_as_alone(configs, members)
    data = [member.simulation.inputs.data.examples for member in members]
    assert all(one is data[0] for one in data)


OF_THEIR_OWN = [
    {"batch-size": [16, 32]},
    {"num-clients": [3, 4]},
    {"cohort-size": [2, 4]},
    {"rounds": [2, 3]},
    {"eval-every": [1, 2]},
    {"precision": ["highest", "default"]},
    {"shuffle": [True, False]},
    {"initial": ["pytorch", "he"]},
    {"regulator": ["identity", "ecgr"]},
    {"algorithm": ["fedavg", "scaffold"]},
    {"aggregator": ["mean", "median"]},
    {"transforms": ["none", "clip"]},
    {"sampler": ["uniform", "by_size"]},
]


@pytest.mark.parametrize("axis", OF_THEIR_OWN, ids=lambda axis: next(iter(axis)))
def test_members_that_differ_in_anything_else_are_programs_of_their_own(axis):
    configs, members = built(grid={"seed": [0, 1], **axis})
    assert groups(members) == [(0, 2), (1, 3)]
    assert_as_alone(configs, members)
    data = [member.simulation.inputs.data.examples for member in members]
    assert all(one is data[0] for one in data)


def test_data_that_follow_the_seed_are_each_member_s_own():
    configs, members = built(
        base={"dataset": "synthetic", "partition": "natural"},
        list=[{"seed": 0}, {"seed": 1}, {"seed": 2, "data-seed": 0}, {"seed": 3, "data-seed": 0}],
    )
    assert_as_alone(configs, members)
    data = [member.simulation.inputs.data.examples for member in members]
    assert data[2] is data[3]
    assert not np.array_equal(data[0].inputs, data[1].inputs)
    for group in groups(members):
        settings = {id(members[n].simulation.setting) for n in group}
        assert len(settings) == 1
    assert len({id(member.simulation.setting) for member in members}) == 1


def test_data_that_are_stored_otherwise_are_programs_of_their_own(tmp_path):
    rng = np.random.default_rng(0)
    inputs, labels = rng.integers(0, 9, (40, 3)), rng.integers(0, 2, 40)
    for name, dtype in (("whole", np.uint8), ("real", np.float32)):
        of = inputs.astype(dtype)
        arrays = {"train_inputs": of[:30], "test_inputs": of[30:]}
        arrays |= {"train_labels": labels[:30], "test_labels": labels[30:]}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    files = [str(tmp_path / f"{name}.npz") for name in ("whole", "real")]
    configs, members = built(base={"partition": "iid"}, grid={"dataset": files})
    assert groups(members) == [(0,), (1,)]
    assert_as_alone(configs, members)


def test_clients_judged_by_models_of_their_own_keep_their_own_tests():
    configs, members = built(
        base={"algorithm": "ditto"},
        grid={"client-test-fraction": [0.2, 0.4], "seed": [0, 1]},
    )
    assert_as_alone(configs, members)
    assert groups(members) == [(0, 1, 2, 3)]
    examples = [member.simulation.inputs.data.examples for member in members]
    assert all(one is examples[0] for one in examples)


def test_members_with_and_without_tests_of_the_clients_own():
    configs, members = built(list=[{}, {"client-test-fraction": 0.2}, {"seed": 1}])
    assert_as_alone(configs, members)
    assert groups(members) == [(0, 2), (1,)]
