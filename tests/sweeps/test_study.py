"""What a study asks for: its members, one by one and in order, against configurations by hand."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pytest

from fedjax_ecgr import InputError
from fedjax_ecgr.algorithms import ALGORITHMS
from fedjax_ecgr.runs import Choice, RunConfig
from fedjax_ecgr.sweeps import members_of, of_configs, read, study
from fedjax_ecgr.sweeps.study import identity


def members(asked):
    return list(members_of(asked).configs.values())


def written(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return read(path)


def test_a_grid_is_every_value_with_every_other_the_last_axis_fastest(tmp_path):
    asked = written(
        tmp_path,
        """
        rounds = 3
        partition = { name = "dirichlet", alpha = 0.3 }
        [grid]
        batch-size = [8, 16]
        seed = { first = 1, last = 5, step = 2 }
        algorithm.learning-rate = { low = 0.01, high = 1, count = 3, scale = "log" }
        """,
    )
    found = members_of(asked)
    partition = Choice("dirichlet", {"alpha": 0.3})
    assert list(found.configs.values()) == [
        RunConfig(
            partition=partition,
            algorithm=Choice("fedavg", {"learning_rate": rate}),
            rounds=3,
            batch_size=size,
            seed=seed,
        )
        for size, seed, rate in product((8, 16), (1, 3, 5), (0.01, 0.1, 1.0))
    ]
    assert found.axes == ("batch_size", "seed", "algorithm.learning_rate")


def test_an_option_concerns_the_members_that_take_it_and_equal_ones_are_one():
    asked = study({"rounds": 2}, grid={"regulator": ["identity", "ecgr"], "beta": [0.1, 0.2]})
    assert asked.size == 4
    assert members(asked) == [
        RunConfig(rounds=2),
        RunConfig(rounds=2, regulator=Choice("ecgr", {"beta": 0.1})),
        RunConfig(rounds=2, regulator=Choice("ecgr", {"beta": 0.2})),
    ]
    assert members_of(asked).axes == ("regulator", "regulator.beta")


def test_a_method_that_is_listed_late_takes_options_as_others_do(monkeypatch):
    options = {"learning-rate": 0.3, "algorithm.decay": 0.5}
    before = members(study({"algorithm": "fedavg", **options}))
    monkeypatch.setitem(ALGORITHMS, "late", ALGORITHMS["fedavg"])
    after = members(study(options, grid={"algorithm": ["fedavg", "late"]}))
    assert [one.algorithm.name for one in after] == ["fedavg", "late"]
    assert after[1].algorithm.options == after[0].algorithm.options == before[0].algorithm.options
    assert after[1].algorithm.options["learning_rate"] == 0.3


def test_values_zipped_go_together(tmp_path):
    asked = written(
        tmp_path,
        """
        [zip]
        num-clients = [10, 20, 30]
        batch-size = [32, 16, 16]
        [grid]
        seed = [0, 1]
        """,
    )
    zipped = [(10, 32), (20, 16), (30, 16)]
    assert members(asked) == [
        RunConfig(seed=seed, num_clients=n, batch_size=b)
        for seed, (n, b) in product([0, 1], zipped)
    ]
    several = study(zip=[{"seed": [0, 1], "rounds": [5, 6]}, {"num_clients": range(3, 5)}])
    assert members(several) == [
        RunConfig(seed=seed, rounds=rounds, num_clients=n)
        for (seed, rounds), n in product([(0, 5), (1, 6)], (3, 4))
    ]


def test_a_list_is_one_point_after_another_and_lists_have_names(tmp_path):
    asked = written(
        tmp_path,
        """
        [[list.method]]
        algorithm = "fedavg"
        [[list.method]]
        algorithm = { name = "fedprox", mu = 0.3 }
        [[list.data]]
        partition = "iid"
        [[list.data]]
        partition = "shards"
        num-clients = 5
        """,
    )
    methods = Choice("fedavg"), Choice("fedprox", {"mu": 0.3})
    data = {"partition": Choice("iid")}, {"partition": Choice("shards"), "num_clients": 5}
    assert members(asked) == [RunConfig(algorithm=m, **d) for m, d in product(methods, data)]
    plain = written(tmp_path, "[[list]]\nseed = 3\n[[list]]\nseed = 1\nrounds = 2\n")
    assert members(plain) == [RunConfig(seed=3), RunConfig(seed=1, rounds=2)]


def test_draws_are_the_same_whenever_they_are_made_and_within_their_bounds():
    numbers = {
        "learning-rate": {"low": 0.001, "high": 1.0, "scale": "log"},
        "momentum": {"low": 0.0, "high": 0.9},
        "batch-size": [8, 16],
        "seed": {"first": 3, "last": 5},
    }

    def drawn(from_seed):
        (axis,) = study(random={"count": 400, "from-seed": from_seed, **numbers}).axes
        assert {tuple(point) for point in axis} == {tuple(numbers)}
        return [tuple(point.values()) for point in axis]

    draws = drawn(0)
    assert draws == drawn(0) != drawn(1)
    assert len(draws) == 400
    rates, momenta, sizes, seeds = zip(*draws, strict=True)
    assert all(0.001 <= rate <= 1 for rate in rates)
    assert all(0 <= momentum <= 0.9 for momentum in momenta)
    # means of 400 even draws, within five standard errors
    assert abs(sum(map(math.log10, rates)) / 400 + 1.5) < 5 * 3 / math.sqrt(12 * 400)
    assert abs(sum(momenta) / 400 - 0.45) < 5 * 0.9 / math.sqrt(12 * 400)
    assert set(sizes) == {8, 16}
    assert set(seeds) == {3, 4, 5}


def test_ranges_have_both_their_ends():
    (evenly,) = study(grid={"momentum": {"low": 0.1, "high": 0.9, "count": 5}}).axes
    assert [point["momentum"] for point in evenly] == [0.1, 0.3, 0.5, 0.7, 0.9]
    (log,) = study(
        grid={"learning-rate": {"low": 1e-4, "high": 1.0, "count": 5, "scale": "log"}}
    ).axes
    assert [point["learning-rate"] for point in log] == [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    (seeds,) = study(grid={"seed": {"first": 0, "last": 9, "step": 4}}).axes
    assert [point["seed"] for point in seeds] == [0, 4, 8]


def test_several_transforms_are_a_value(tmp_path):
    asked = written(
        tmp_path, '[grid]\ntransforms = ["none", ["clip", "top_k"]]\ntop-k.share = [0.1, 0.2]\n'
    )
    chosen = [
        (),
        (Choice("clip"), Choice("top_k", {"share": 0.1})),
        (Choice("clip"), Choice("top_k", {"share": 0.2})),
    ]
    assert members(asked) == [RunConfig(transforms=several) for several in chosen]


def test_an_option_is_one_however_it_is_written(tmp_path):
    dotted = written(tmp_path, 'algorithm.name = "fedprox"\nalgorithm.mu = 0.2\nnum_clients = 4')
    table = written(
        tmp_path, 'num-clients = 4\n[algorithm]\nname = "fedprox"\n[grid]\nmu = [0.2]\nseed = [0]'
    )
    (one,) = members(dotted)
    assert members(table) == [one]
    assert one == RunConfig(algorithm=Choice("fedprox", {"mu": 0.2}), num_clients=4)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"base": {"seed": 1}, "grid": {"seed": [0, 1]}},
            "grid: seed: not allowed, it is in the options of all members already",
        ),
        (
            {"grid": {"seed": [0, 1]}, "zip": {"seed": [0, 1], "rounds": [1, 2]}},
            "zip 0: seed: not allowed, it is in grid already",
        ),
        (
            {"list": {"a": [{"rounds": 1}], "b": [{"rounds": 2}]}},
            "list.b: rounds: not allowed, it is in list.a already",
        ),
        ({"base": {"num_clients": 3, "num-clients": 4}}, "num-clients is there twice"),
        ({"grid": {"seed": [1, 1]}}, "grid: seed: 1 is there twice"),
        ({"grid": {"seed": []}}, "grid: seed: an empty axis is not allowed"),
        ({"grid": {"seed": 3}}, "grid: seed: 3 is not allowed, it must be a list of values"),
        ({"grid": {"seed": "0,1"}}, "grid: seed: '0,1' is not allowed, it must be a list"),
        ({"grid": [0]}, "grid: [0] is not allowed, it must be a table of options"),
        ({"zip": {}}, "zip: an empty axis"),
        ({"zip": []}, "zip: an empty axis"),
        ({"zip": 3}, "zip: 3 is not allowed, it must be a table"),
        (
            {"zip": {"seed": [0, 1], "rounds": [1, 2, 3]}},
            "zip: rounds: 3 values are not allowed beside the 2 of seed",
        ),
        ({"list": []}, "list: an empty axis"),
        ({"list": {"a": []}}, "list.a: an empty axis"),
        ({"list": [3]}, "list[0]: 3 is not allowed, it must be a table of options"),
        ({"list": "ab"}, "list: 'ab' is not allowed, it must be a list of tables"),
        ({"random": {"seed": [0]}}, "random: count is missing"),
        ({"random": {"count": 2}}, "random: an empty axis"),
        ({"random": {"count": 0, "seed": [0]}}, "random: count: 0 is not allowed"),
        ({"random": {"count": 10**12, "seed": [0]}}, "random: count: 1000000000000 is not"),
        (
            {"random": {"count": 2, "momentum": {"low": 0, "high": 1, "count": 3}}},
            "random: momentum: {'low': 0, 'high': 1, 'count': 3} is not allowed, it must be a list",
        ),
        ({"grid": {"seed": {"first": 3, "last": 1}}}, "grid: seed: last: 1 is not allowed"),
        ({"grid": {"seed": {"first": 0, "last": 9, "step": 0}}}, "grid: seed: step: 0 is not"),
        ({"grid": {"seed": {"first": 0.5, "last": 2}}}, "grid: seed: first: 0.5 is not allowed"),
        (
            {"grid": {"seed": {"first": 0, "last": 10**15}}},
            "grid: seed: 1,000,000,000,000,001 values are not allowed, 1,000,000 at most",
        ),
        (
            {"grid": {"momentum": {"low": 0, "high": 1}}},
            "grid: momentum: {'low': 0, 'high': 1} is not allowed, it must be a list, {first",
        ),
        ({"grid": {"beta": {"low": 1, "high": 0, "count": 2}}}, "grid: beta: high: 0 is not allow"),
        ({"grid": {"beta": {"low": [0], "high": 1, "count": 2}}}, "grid: beta: low: list is not"),
        ({"grid": {"beta": {"low": 0, "high": True, "count": 2}}}, "beta: high: True is not a n"),
        ({"grid": {"beta": {"low": 0, "high": 1, "count": 1}}}, "grid: beta: count: 1 is not"),
        (
            {"grid": {"beta": {"low": 0, "high": 1, "count": 2, "scale": "log"}}},
            "grid: beta: low: 0 is not allowed, it must be in (0,",
        ),
        (
            {"grid": {"beta": {"low": 1, "high": 2, "count": 2, "scale": "lg"}}},
            "grid: beta: scale: unknown 'lg', did you mean 'log'?",
        ),
        (
            {"grid": {"beta": {"low": 1, "high": 2, "count": 2, "scale": ["log"]}}},
            "grid: beta: scale: unknown ['log']",
        ),
    ],
)
def test_what_is_no_study_is_refused_by_table_and_key(asked, said):
    with pytest.raises(InputError) as caught:
        study(**asked)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"base": {"betta": 1}}, "betta: no such option, did you mean 'beta'?"),
        ({"base": {"rounds": "many"}}, "rounds: 'many' is not allowed, it must be a whole number"),
        ({"base": {"rounds": {"first": 0, "last": 1}}}, "rounds: {'first': 0, 'last': 1} is not"),
        ({"base": {"model": 3}}, "model: 3 is not allowed, it must be a name"),
        ({"grid": {"seed": [0, "x"]}}, "seed: 'x' is not allowed, it must be a whole number"),
        ({"grid": {"algorithm": ["fedavg", "fedprocks"]}}, "unknown 'fedprocks', did you mean"),
        # taken by none of them
        ({"grid": {"beta": [0.1, 0.2]}}, "beta: 0.1 is not allowed with dataset digits and reg"),
        # full and short are one option
        (
            {"base": {"regulator": "ecgr", "beta": 0.1}, "grid": {"regulator.beta": [0.2]}},
            "beta: 0.1 is not allowed beside --regulator.beta",
        ),
        (
            {"base": {"regulator": "ecgr"}, "grid": {"regulator.beta": [0.2], "beta": [0.3]}},
            "beta: 0.3 is not allowed beside --regulator.beta",
        ),
        ({"base": {"algorithm": "feddyn", "alpha": 1.0}}, "alpha: ambiguous, one of"),
    ],
)
def test_what_no_member_can_be_is_refused(asked, said):
    with pytest.raises(InputError) as caught:
        members_of(study(**asked))
    assert said in str(caught.value)


ONE = RunConfig(algorithm=Choice("fedavg", {"learning_rate": 1.0}), target_accuracy=0.5)


def test_a_member_is_the_same_wherever_it_runs_and_another_for_anything_else():
    same = [
        replace(ONE, placement="vmap"),
        replace(ONE, chunk_size=2, num_devices=1, memory_budget=3.0),
        replace(ONE, target_accuracy=0.9),
        replace(ONE, eval_batch_size=8),
        replace(ONE, algorithm=Choice("fedavg", {"learning_rate": 1})),
    ]
    assert {identity(one) for one in same} == {identity(ONE)}
    others = [
        replace(ONE, seed=1),
        replace(ONE, data_seed=0),
        replace(ONE, partition_seed=0),
        replace(ONE, rounds=51),
        replace(ONE, eval_every=2),
        replace(ONE, cohort_size=5),
        replace(ONE, shuffle=False),
        replace(ONE, precision="high"),
        replace(ONE, client_test_fraction=0.2),
        replace(ONE, validation_fraction=0.2),
        replace(ONE, algorithm=Choice("fedavg", {"learning_rate": math.nextafter(1.0, 2.0)})),
        replace(ONE, algorithm=Choice("fedprox", {"learning_rate": 1.0})),
        replace(ONE, model=Choice("mlp", {"hidden": (8, 4)})),
        replace(ONE, model=Choice("mlp", {"hidden": (4, 8)})),
        replace(ONE, transforms=(Choice("clip"), Choice("top_k"))),
        replace(ONE, transforms=(Choice("top_k"), Choice("clip"))),
    ]
    assert len({identity(one) for one in [ONE, *others]}) == 1 + len(others)


def test_a_member_is_called_what_it_was_when_it_was_recorded():
    # what this version records under it, later ones must find: options that join later are None
    assert identity(ONE) == "668b43a169d40c38"


def test_another_process_calls_a_member_the_same():
    code = "from tests.sweeps.test_study import ONE, identity; print(identity(ONE))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == identity(ONE)


def test_members_keep_their_names_when_a_study_gains_an_axis():
    few = members_of(study(grid={"seed": [0, 1]})).configs
    more = members_of(study(grid={"regulator": ["ecgr", "identity"], "seed": [2, 1, 0]})).configs
    assert few.items() < more.items()
    assert all(len(name) == 16 for name in more)
    assert len(more) == 6
    assert [one.seed for one in more.values()] == [2, 1, 0] * 2
    assert all(a != b for a, b in pairwise(more))


def test_a_study_may_be_of_configurations():
    configs = [RunConfig(seed=seed, rounds=3) for seed in (1, 2, 1)]
    asked = of_configs(configs)
    found = members_of(asked)
    assert asked.size == 3
    assert list(found.configs.values()) == configs[:2]
    assert list(found.configs) == [identity(config) for config in configs[:2]]
    assert found.axes == ("seed",)
    with pytest.raises(InputError, match="configs: none is not allowed"):
        of_configs([])
