"""A sweep's folder: exact to any reader, gone on with, and sound where its files are not."""

import json
import os
import resource
import shutil
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr import InputError, reports, runs
from fedjax_ecgr.cli import main
from fedjax_ecgr.kinds import write
from fedjax_ecgr.models import MODELS
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.runs.checkpoints import Checkpoints
from fedjax_ecgr.runs.config import flat
from fedjax_ecgr.sweeps import conduct, members_of, study
from fedjax_ecgr.sweeps.store import opened
from tests.sweeps.tables import TIMES, assert_same

module = import_module("fedjax_ecgr.sweeps.conduct")  # which the function hides

BASE = {
    "model": "logistic_regression",
    "num-clients": 4,
    "cohort-size": 2,
    "batch-size": 128,
    "rounds": 3,
    "eval-every": 2,
}
POINTS = [
    {"seed": 0},
    {"seed": 1, "partition.alpha": 2.0},
    {"seed": 0, "learning-rate": 1.7e308},
    {"seed": 0, "regulator": "ecgr", "beta": 0.5},
]
STUDY = study(BASE, list=POINTS)


def in_float64(spec: fx.Spec, initial: str = "pytorch") -> Model:
    return fx.models.logistic_regression(spec, initial, dtype=jnp.float64)


@pytest.fixture(scope="module")
def float64():
    """Trains members, and their lone runs, in float64."""
    with jax.enable_x64(True), pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "logistic_regression", in_float64)
        yield


@pytest.fixture(scope="module")
def swept_and_told(float64, tmp_path_factory):
    """A folder in which the study was swept, and what was told meanwhile."""
    folder, told = tmp_path_factory.mktemp("sweeps") / "swept", []
    conduct(STUDY, folder, num_devices=1, on_progress=told.append)
    return folder, told


@pytest.fixture(scope="module")
def swept(swept_and_told):
    return swept_and_told[0]


@pytest.fixture
def copied(swept, tmp_path):
    """A folder of the same, to be changed."""
    return Path(shutil.copytree(swept, tmp_path / "copied"))


@pytest.fixture(scope="module")
def alone(float64):
    """Each member's configuration, its lone run and how that diverged, by the member's name."""
    found = {}
    for name, config in members_of(STUDY).configs.items():
        diverged = None
        try:
            history = fx.run(
                runs.build(config),
                rounds=config.rounds,
                seed=config.seed,
                eval_every=config.eval_every,
            )
        except fx.DivergedError as error:
            history, diverged = error.history, error.round
        found[name] = config, history, diverged
    return found


def by_pyarrow(path):
    return pq.read_table(path).to_pydict()


def by_pandas(path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    return pandas.read_parquet(path).astype(object).to_dict("list")


def by_polars(path):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    return polars.read_parquet(path).to_dict(as_series=False)


def by_duckdb(path):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    found = duckdb.sql(f"SELECT * FROM '{path}'")
    return dict(zip(found.columns, map(list, zip(*found.fetchall(), strict=True)), strict=True))


READERS = [by_pyarrow, by_pandas, by_polars, by_duckdb]


def missing(value):
    return value is None or (isinstance(value, float) and np.isnan(value))


def assert_alike(told, expected, name):
    """A value as readers give it: a whole number may be a float beside missing ones."""
    if missing(expected):
        assert missing(told), name
    elif isinstance(expected, str):
        assert told == expected, name
    else:
        np.testing.assert_allclose(told, expected, rtol=1e-9, atol=1e-300, err_msg=name)


def option(value):
    """An option's value as a table has it: numbers and truths as they are, the rest as text."""
    return value if value is None or isinstance(value, bool | int | float) else write(value)


@pytest.mark.parametrize("read", READERS)
def test_members_are_all_there_with_their_whole_configuration(swept, alone, read):
    columns = read(swept / "members.parquet")
    assert columns["member"] == list(alone)
    for row, (config, _, diverged) in enumerate(alone.values()):
        assert columns["status"][row] == ("finished" if diverged is None else "diverged")
        assert_alike(columns["diverged_in_round"][row], diverged, "diverged_in_round")
        assert all(columns[name][row] > 0 for name in TIMES)
        for name, value in flat(config).items():
            assert_alike(columns[name][row], option(value), name)
    (beta,) = {name for name in columns if name.startswith("regulator.beta")}
    assert [missing(value) for value in columns[beta]] == [True, True, True, False]


@pytest.mark.parametrize("read", READERS)
def test_every_round_is_that_of_the_lone_run(swept, alone, read):
    columns = read(swept / "history.parquet")
    row = 0
    for name, (config, history, _) in alone.items():
        for i, cohort in enumerate(history.cohorts):
            assert columns["member"][row] == name
            for column, values in history.table.items():
                assert_alike(columns[column][row], values[i].item(), column)
            assert list(columns["cohort"][row]) == cohort.tolist()
            for column, value in flat(config).items():
                assert_alike(columns[column][row], option(value), column)
            row += 1
    assert row == len(columns["member"])
    assert sum(diverged is not None for *_, diverged in alone.values()) == 1


def test_how_far_it_is_is_told(swept_and_told, alone):
    _, told = swept_and_told
    assert told[-1][:6] == (1, 2, 4, 4, 12, 12)
    done = [one for one in told if one.standing is not None]
    assert [(one.group, one.rounds, one.diverged) for one in done] == [
        (0, 6, 1), (0, 9, 1), (1, 11, 1), (1, 12, 1),
    ]  # fmt: skip
    first = [
        history.table["test_accuracy"][2]
        for config, history, diverged in alone.values()
        if config.regulator.name == "identity" and diverged is None
    ]
    np.testing.assert_allclose(done[1].accuracy, np.mean(first), rtol=1e-9)


def test_a_column_has_one_name_and_one_type(swept):
    members = pq.read_schema(swept / "members.parquet")
    history = pq.read_schema(swept / "history.parquet")
    for schema in (members, history):
        assert len(set(schema.names)) == len(schema.names)
    assert json.loads(members.metadata[b"axes"]) == [
        "seed", "partition.alpha", "algorithm.learning_rate", "regulator",
    ]  # fmt: skip
    assert history.field("test_accuracy").type == pa.float64()
    assert history.field("round").type == pa.int64()
    assert history.field("cohort").type.value_type == pa.int32()
    for name in ("seed", "rounds", "partition.alpha", "shuffle", "model.initial"):
        assert members.field(name).type == history.field(name).type


def test_a_report_reads_a_sweep(swept, alone):
    results = reports.read(swept)
    assert results.axes[0] == "seed"
    assert list(results.members["member"]) == list(alone)
    assert set(results.options) == {name for one, *_ in alone.values() for name in flat(one)}
    last = results.history["round"] == 3
    assert sorted(results.history["member"][last]) == sorted(
        name for name, (*_, diverged) in alone.items() if diverged is None
    )


@pytest.mark.parametrize(("budget", "shown"), [(1e9, [3, 4]), (1e-12, [3, 3])])
def test_a_report_reads_a_sweep_under_way(swept, tmp_path, monkeypatch, budget, shown):
    monkeypatch.setattr(import_module("fedjax_ecgr.sweeps.store"), "_BUDGET", budget)
    folder, in_tables, whole = tmp_path / "sweep", {}, reports.read(swept)

    def look(told):
        if told.members and told.standing is None:
            found = reports.read(folder)
            there = found.members["member"][found.members["status"] != "waiting"]
            of_these = np.isin(whole.history["member"].astype(str), there.astype(str))
            for name in ("member", "round", "test_accuracy"):
                np.testing.assert_array_equal(found.history[name], whole.history[name][of_these])
            in_tables[told.members] = len(there)

    conduct(STUDY, folder, num_devices=1, on_progress=look)
    assert list(in_tables.values()) == shown
    for name in ("members.parquet", "history.parquet"):
        assert_same(folder / name, swept / name)


def run_and_told(asked, folder, **options):
    """What came of a sweep that goes on: the waves that were run, and the last word of progress."""
    waves, told, run_wave = [], [], module.run_wave

    def watched(group, compiled, members, wave, rounds, standing=None):
        waves.append((wave, 0 if standing is None else standing.done))
        return run_wave(group, compiled, members, wave, rounds, standing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_wave", watched)
        conduct(asked, folder, num_devices=1, on_progress=told.append, **options)
    return waves, told


def test_a_study_that_gains_an_axis_runs_what_is_new(copied, alone):
    before = pq.read_table(copied / "history.parquet")
    points = [{"seed": 5}, *POINTS, {"seed": 6}]
    waves, told = run_and_told(study(BASE, list=points), copied)
    assert waves == [((0, 5), 0)]  # and not the one that diverged
    assert (told[-1].members, told[-1].of_members) == (2, 2)
    assert (told[-1].rounds, told[-1].of_rounds) == (6, 6)
    members = pq.read_table(copied / "members.parquet")
    names = list(members_of(study(BASE, list=points)).configs)
    assert members["member"].to_pylist() == names
    assert members["status"].to_pylist() == ["finished"] * 3 + ["diverged"] + ["finished"] * 2
    after = pq.read_table(copied / "history.parquet")
    assert_same(after.slice(0, len(before)), before)
    assert after["member"].to_pylist()[len(before) :] == [names[0]] * 3 + [names[5]] * 3

    # what is no longer asked for stays, what is asked for and not run yet is waiting
    with opened(copied, study(BASE), members_of(study(BASE, grid={"seed": [0, 9]}))) as (store, _):
        store.tables()
    members = pq.read_table(copied / "members.parquet").to_pydict()
    assert members["seed"] == [0, 9, 1, 0, 0, 5, 6]
    assert members["status"][:2] == ["finished", "waiting"]
    assert members["run_seconds"][1] is None
    assert_same(copied / "history.parquet", after)


def test_parts_of_a_version_with_fewer_columns_are_read(copied):
    before = pq.read_table(copied / "history.parquet")
    part = min((copied / "parts").iterdir())
    table = pq.read_table(part)
    pq.write_table(table.drop_columns(["validation_loss", "validation_accuracy"]), part)
    with opened(copied, STUDY, members_of(STUDY)) as (store, _):
        store.tables()
    assert_same(copied / "history.parquet", before)


@pytest.fixture
def study_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lists = [
        "[[list]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in point.items())
        for point in POINTS
    ]
    base = "".join(f"{name} = {json.dumps(value)}\n" for name, value in BASE.items())
    Path("study.toml").write_text("\n".join([base, *lists]))
    return "study.toml"


def swept_again(capsys, study_file):
    status = main(["sweep", study_file, "--out", "copied"])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_what_another_study_recorded_there_is_told_apart(copied):
    """Its members stay, and differ in what this study holds fixed."""
    before = reports.read(copied)
    conduct(study({**BASE, "rounds": 1}, grid={"seed": [0]}), copied)
    after = reports.read(copied)
    assert len(after.members["member"]) == len(before.members["member"]) + 1
    assert set(after.axes) == {*before.axes, "rounds"}
    labels = [setting.label for setting in reports.study(after).settings]
    assert any("rounds=1" in label for label in labels)
    assert any("rounds=3" in label for label in labels)


def test_a_second_process_on_a_folder_is_one_line(copied, study_file, capsys):
    with opened(copied, STUDY, members_of(STUDY)):
        status, _, said = swept_again(capsys, study_file)
    assert status == 2
    assert said == f"error: out: 'copied' is being written by process {os.getpid()}\n"
    assert swept_again(capsys, study_file)[0] == 0


def test_what_is_different_from_when_a_sweep_was_begun_is_told(copied, study_file, capsys):
    path = copied / "environment.json"
    begun = json.loads(path.read_text())
    path.write_text(json.dumps({**begun, "jax": "0.1", "started": "long ago"}))
    status, said, _ = swept_again(capsys, study_file)
    assert status == 0
    assert said == (
        f"since it was begun: jax: 0.1 then, {jax.__version__} now\n"
        "all members are recorded already\nsweep folder: copied\n"
    )
    path.write_bytes(b"\xff")  # nothing is known, then
    assert swept_again(capsys, study_file)[1].startswith("all members are recorded already")


@pytest.mark.parametrize("harm", ["cut", "emptied", "inside"])
def test_a_damaged_part_is_named_in_one_line(copied, study_file, capsys, harm):
    part = min((copied / "parts").iterdir())
    whole = part.read_bytes()
    harmed = {
        "cut": whole[: len(whole) // 2],
        "emptied": b"",
        "inside": whole[:4] + b"\xff" * 200 + whole[204:],  # with all that is said of it intact
    }
    part.write_bytes(harmed[harm])
    status, _, said = swept_again(capsys, study_file)
    assert status == 2
    told = f"error: out: 'copied/parts/{part.name}' cannot be read as a part of a sweep, without it"
    assert said.startswith(told)
    assert said.count("\n") == 1


def test_what_a_killed_process_left_half_written_goes(copied):
    left = [copied / f".members.parquet.{'0' * 32}", copied / "parts" / f".0.parquet.{'a' * 32}"]
    for path in left:
        path.write_bytes(b"PAR1")
    (copied / ".mine").write_text("stays")
    (copied / "checkpoints" / "wave-000000002").mkdir()  # that is recorded by now
    (copied / "checkpoints" / "wave-000000003.orbax-checkpoint-tmp").mkdir()
    before = pq.read_table(copied / "history.parquet")
    assert run_and_told(STUDY, copied) == ([], [])
    assert not any(path.exists() for path in left)
    assert (copied / ".mine").exists()
    assert os.listdir(copied / "checkpoints") == []
    assert_same(copied / "history.parquet", before)


class Stop(Exception):
    pass


LONG = study({**BASE, "rounds": 4, "eval-every": 1}, grid={"seed": [0, 1]})


def stopped(folder, after):
    """Begins a sweep that is stopped after so many rounds, and saved after each before."""

    def stop(progress):
        if progress.standing is not None and progress.standing.done == after:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Checkpoints", partial(Checkpoints, seconds=0.0))
        with pytest.raises(Stop):
            conduct(LONG, folder, num_devices=1, on_progress=stop)


@pytest.fixture(scope="module")
def under_way(float64, tmp_path_factory):
    """A folder of a sweep that was stopped after its third round of four, and the whole of it."""
    base = tmp_path_factory.mktemp("stopped")
    stopped(base / "sweep", 3)
    conduct(LONG, base / "whole", num_devices=1)
    return base / "sweep", base / "whole"


def damage(path):
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:7])


def of_other_shapes(path):
    (name, done) = path.name.rpartition("-")[::2]
    shutil.rmtree(path)
    checkpoints = Checkpoints(path.parent)
    checkpoints.save(name, int(done), {"a": np.zeros(3)})
    checkpoints.close()


@pytest.mark.parametrize("harm", [None, damage, of_other_shapes, shutil.rmtree])
def test_a_sweep_goes_on_from_the_last_sound_checkpoint(under_way, tmp_path, harm):
    folder, whole = under_way
    folder = Path(shutil.copytree(folder, tmp_path / "sweep"))
    members = pq.read_table(folder / "members.parquet")
    assert members["status"].to_pylist() == ["waiting"] * 2
    saved = sorted((folder / "checkpoints").iterdir())
    assert [path.name.rpartition("-")[2] for path in saved] == ["000000001", "000000002"]
    begun = 2
    if harm is not None:
        harm(saved[1])
        begun = 1
    waves, told = run_and_told(LONG, folder)
    assert waves == [((0, 1), begun)]
    assert (told[-1].rounds, told[-1].of_rounds) == (2 * (4 - begun),) * 2
    assert os.listdir(folder / "checkpoints") == []
    assert_same(folder / "history.parquet", whole / "history.parquet")


def test_a_sweep_whose_checkpoints_are_all_damaged_begins_again(under_way, tmp_path):
    folder, whole = under_way
    folder = Path(shutil.copytree(folder, tmp_path / "sweep"))
    for path in (folder / "checkpoints").iterdir():
        damage(path)
    assert run_and_told(LONG, folder)[0] == [((0, 1), 0)]
    assert_same(folder / "history.parquet", whole / "history.parquet")


def test_a_damaged_checkpoint_is_written_anew_when_its_round_comes_again(tmp_path, capsys):
    like = {"a": np.arange(3), "b": np.zeros((0, 2))}
    checkpoints = Checkpoints(tmp_path, seconds=0)
    checkpoints.save("one", 1, like)
    checkpoints.save("one", 2, like)
    checkpoints.wait()
    damage(tmp_path / "one-000000002")
    assert checkpoints.latest("one", like)[0] == 1
    checkpoints.save("one", 2, {**like, "a": np.arange(3) + 1})
    checkpoints.wait()
    done, found = checkpoints.latest("one", like)
    checkpoints.close()
    assert done == 2
    assert capsys.readouterr() == ("", "")
    np.testing.assert_array_equal(found["a"], [1, 2, 3])
    assert found["b"].shape == (0, 2)


@contextmanager
def files_of_at_most(size):
    """Lets the system refuse longer files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    with files_of_at_most(4096):
        checkpoints.save("one", 1, np.random.default_rng(0).normal(size=10_000))
        with pytest.raises(OSError, match="File too large") as caught:
            checkpoints.wait()
    checkpoints.close()
    assert caught.value.filename == str(tmp_path)
    assert "\n" not in caught.value.strerror
    assert capsys.readouterr() == ("", "")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_no_sweep_s_is_refused(tmp_path):
    (tmp_path / "parts").mkdir()
    with pytest.raises(InputError, match="is no sweep's folder"):
        conduct(STUDY, tmp_path)
    assert os.listdir(tmp_path) == ["parts"]
