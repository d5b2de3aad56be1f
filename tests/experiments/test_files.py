"""The sweep files describe what they say they do, and the same runs as the commands beside them."""

from pathlib import Path

import pytest

from experiments import claims, fashion_mnist
from fedjax_ecgr import sweeps

FOLDER = Path(fashion_mnist.__file__).parent
METHODS = {"fedavg", "fedprox", "fednova", "scaffold"}
PERSONAL = {
    "fedavg",
    "fedprox",
    "perfedavg",
    "pfedme",
    "ditto",
    "apfl",
    "fedper",
    "fedrep",
    "fedala",
    "fedbabu",
}


def members(name):
    return sweeps.members_of(sweeps.read(FOLDER / f"{name}.toml")).configs


@pytest.mark.parametrize(
    ("name", "count", "algorithms"),
    [
        ("combinations", 320, METHODS),
        ("niid_bench", 28, METHODS),
        ("published", 80, METHODS),
        ("pfllib", 20, PERSONAL),
    ],
)
def test_all_methods_meet_the_same_settings(name, count, algorithms):
    configs = list(members(name).values())
    assert len(configs) == count
    settings = {}
    for config in configs:
        met = config.partition, config.dataset, config.seed
        settings.setdefault(repr(met), []).append((config.algorithm.name, config.regulator.name))
    (methods,) = {frozenset(met) for met in settings.values()}
    assert all(len(met) == len(methods) for met in settings.values())
    assert {algorithm for algorithm, _ in methods} == algorithms


def test_a_published_run_is_the_same_by_either_way():
    recorded = members("published")
    for regulator in fashion_mnist.REGULATORS.values():
        config = fashion_mnist.published(regulator)
        for seed in range(5):
            member = fashion_mnist._member(config, fashion_mnist.DEBIAN, seed)
            assert sweeps.identity(member) in recorded


def test_claims_of_the_combinations_are_of_their_file():
    study = claims.combinations(claims.Given(Path("unused"), {})).study
    assert sweeps.members_of(study).configs.keys() == members("combinations").keys()


def test_claims_by_the_published_schedule_are_of_any_data_and_model():
    of = '{ name = "tfds", data-name = "cifar10" }'
    own = {"dataset": claims._written(of), "model": claims._written("bncnn")}
    given = claims.Given(Path("unused"), own)
    configs = list(sweeps.members_of(claims.published(given).study).configs.values())
    assert len(configs) == 4 * 2 * 10
    for config in configs:
        assert (config.dataset.name, config.dataset.options["data_name"]) == ("tfds", "cifar10")
        assert config.model.name == "bncnn"
    usual = claims.Given(Path("unused"), {})
    again = sweeps.members_of(claims.published(usual).study).configs
    assert len(again.keys() & members("published").keys()) == 4 * 2 * 5
