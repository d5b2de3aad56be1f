"""The sweep files describe what they say they do, and the same runs as the commands beside them."""

from pathlib import Path

import pytest

from experiments import fashion_mnist
from fedjax_ecgr import sweeps

FOLDER = Path(fashion_mnist.__file__).parent
METHODS = {"fedavg", "fedprox", "fednova", "scaffold"}


def members(name):
    return sweeps.members_of(sweeps.read(FOLDER / f"{name}.toml")).configs


@pytest.mark.parametrize(
    ("name", "count"), [("combinations", 320), ("niid_bench", 28), ("published", 80)]
)
def test_all_methods_meet_the_same_settings(name, count):
    configs = list(members(name).values())
    assert len(configs) == count
    settings = {}
    for config in configs:
        met = config.partition, config.dataset, config.seed
        settings.setdefault(repr(met), []).append((config.algorithm.name, config.regulator.name))
    (methods,) = {frozenset(met) for met in settings.values()}
    assert all(len(met) == len(methods) for met in settings.values())
    assert {algorithm for algorithm, _ in methods} == METHODS


def test_a_published_run_is_the_same_by_either_way():
    recorded = members("published")
    for regulator in fashion_mnist.REGULATORS.values():
        config = fashion_mnist.published(regulator)
        for seed in range(5):
            member = fashion_mnist._member(config, fashion_mnist.DEBIAN, seed)
            assert sweeps.identity(member) in recorded
