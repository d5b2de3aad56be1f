"""Shares of a study: together everything, of like work, few programs; and their folders."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedjax_ecgr as fx
from fedjax_ecgr import sweeps
from fedjax_ecgr.cli import main
from fedjax_ecgr.reports import merge, read
from fedjax_ecgr.runs.config import Choice, RunConfig
from fedjax_ecgr.sweeps.members import program_of
from fedjax_ecgr.sweeps.shares import share
from fedjax_ecgr.sweeps.study import Members

STUDY = """
rounds = 2
num-clients = 3
model = "logistic_regression"
[grid]
algorithm = ["fedavg", "fedprox"]
learning-rate = [0.1, 0.05]
seed = [0, 1]
"""


def members(*configs):
    return Members({f"{i:03d}": config for i, config in enumerate(configs)}, ("seed",))


def config(**options):
    return dataclasses.replace(RunConfig(), **options)


def shares(asked, count):
    return [share(asked, (i, count)).configs for i in range(1, count + 1)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 200), st.sampled_from((32, 8)), st.sampled_from(("fedavg", "scaffold"))
        ),
        min_size=1,
        max_size=40,
    ),
    st.data(),
)
def test_shares_are_disjoint_and_together_everything(given, data):
    asked = members(
        *(
            config(rounds=rounds, batch_size=batch, algorithm=Choice(name), seed=seed)
            for seed, (rounds, batch, name) in enumerate(given)
        )
    )
    count = data.draw(st.integers(1, len(given)))
    found = shares(asked, count)
    assert sorted(name for one in found for name in one) == list(asked.configs)
    assert all(found)
    for one in found:
        assert list(one) == sorted(one)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3))
def test_shares_of_equal_members_differ_by_one(of_each, count, programs, batches):
    """For each batch size; and those of all by one, as a remainder goes to who has least."""
    asked = members(
        *(
            config(batch_size=batch, algorithm=Choice(name), seed=seed)
            for batch in (8, 16, 32)[:batches]
            for name in ("fedavg", "scaffold", "fedprox")[:programs]
            for seed in range(of_each)
        )
    )
    count = min(count, len(asked.configs))
    found = shares(asked, count)
    sizes = [len(one) for one in found]
    assert max(sizes) - min(sizes) <= 1
    compiled = sum(len({program_of(c) for c in one.values()}) for one in found)
    assert compiled <= batches * (programs + count - 1)


def test_shares_count_rounds_epochs_and_cohorts():
    long = [config(rounds=300, seed=seed) for seed in range(2)]
    short = [config(rounds=100, seed=seed) for seed in range(6)]
    (first, second) = shares(members(*long, *short), 2)
    assert [len(first), len(second)] == [2, 6]
    few = [config(cohort_size=2, local_epochs=5, seed=seed) for seed in range(3)]
    all_ = [config(local_epochs=1, seed=seed) for seed in range(3)]
    assert [len(one) for one in shares(members(*few, *all_), 2)] == [3, 3]


def test_programs_stay_together_where_shares_are_equal():
    names = ("fedavg", "fedprox", "scaffold", "fednova")
    asked = members(
        *(config(algorithm=Choice(name), seed=seed) for seed in range(5) for name in names)
    )
    for one, name in zip(shares(asked, 4), names, strict=True):
        assert {c.algorithm.name for c in one.values()} == {name}


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ((0, 2), "shard: i: 0 is not allowed, it must be a whole number from 1 to 2"),
        ((3, 2), "shard: i: 3 is not allowed"),
        ((1, 0), "shard: n: 0 is not allowed"),
        ((1, 4), r"shard: n: 4 is not allowed.*\(the members there are\)"),
        ((1, 2, 3), r"shard: \(1, 2, 3\) is not allowed"),
        ("12", "shard: '12' is not allowed"),
        ((True, 2), "shard: i: True is not allowed"),
    ],
)
def test_refuses_shares_that_there_are_not(shard, message):
    with pytest.raises(fx.InputError, match=message):
        share(members(*(config(seed=seed) for seed in range(3))), shard)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shard", "3"], "shard: '3' is not allowed, it must be i/n, such as 1/8"),
        (["--shard", "1/"], "shard: '1/' is not allowed"),
        (["--shard", "-1/2"], "shard: '-1/2' is not allowed"),
        (["--shard", "0/2"], "shard: i: 0 is not allowed"),
        (["--shard", "1/9"], "shard: n: 9 is not allowed"),
        (["--tasks", "2"], "tasks: 2 is not allowed without --ray"),
        (["--ray", "local", "--shard", "1/2"], "ray: 'local' is not allowed with --shard"),
        (["--ray", "local", "--dry-run"], "ray: 'local' is not allowed with --dry-run"),
        (["--ray", "local", "--tasks", "9"], "tasks: 9 is not allowed"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(STUDY)
    assert main(["sweep", "study.toml", *options]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {said}")
    assert line.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_shares_have_folders_of_their_own_that_merge_to_the_whole_sweep(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(STUDY)
    for shard in ("2/3", "1/3", "3/3"):
        assert main(["sweep", "study.toml", "--shard", shard]) == 0
    assert main(["sweep", "study.toml", "--shard", "1/3"]) == 0
    assert "all members are recorded already" in capsys.readouterr().out
    assert main(["sweep", "study.toml"]) == 0
    folders = [tmp_path / "runs" / f"study-{i}-of-3" for i in (1, 2, 3)]
    parts, whole = [read(folder) for folder in folders], read(tmp_path / "runs" / "study")
    assert [len(part.members["member"]) for part in parts] == [3, 3, 2]
    assert_same(merge(parts), whole)
    assert main(["report", *map(str, folders)]) == 0


def assert_same(ours, theirs, tolerance=1e-5):
    """Asserts that two sweeps recorded the same, to rounding in float32."""
    assert set(ours.axes) == set(theirs.axes)
    assert sorted(ours.members["member"]) == sorted(theirs.members["member"])
    assert set(ours.members["status"]) == set(theirs.members["status"]) == {"finished"}
    keys = ("round", "member")
    orders = [np.lexsort([r.history[key].astype(str) for key in keys]) for r in (ours, theirs)]
    for name, column in ours.history.items():
        one, other = column[orders[0]], theirs.history[name][orders[1]]
        assert len(one) == len(other)
        if name == "member":
            assert one.tolist() == other.tolist()
        else:
            np.testing.assert_allclose(one, other, rtol=tolerance, err_msg=name)


def test_a_study_is_planned_in_shares():
    study = sweeps.study(
        {"rounds": 1, "num-clients": 3, "model": "logistic_regression"}, grid={"seed": [0, 1, 2]}
    )
    planned = [sweeps.plan(study, shard=(i, 2)) for i in (1, 2)]
    assert [len(one.members) for one in planned] == [2, 1]
    assert planned[0].asked.axes == ("seed",)
