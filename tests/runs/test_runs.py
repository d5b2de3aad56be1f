"""Recorded runs: exact, repeatable, never overwritten, kept however they end."""

import errno
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import chex
import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from fedjax_ecgr import DivergedError, InputError, metrics, runs
from fedjax_ecgr.engine import COLUMNS, simulation
from fedjax_ecgr.runs import Choice, RunConfig, config, store
from fedjax_ecgr.runs.config import LISTINGS, SEVERAL, options_of
from fedjax_ecgr.runs.report import curves

SMALL = RunConfig(
    model=Choice("logistic_regression"),
    regulator=Choice("ecgr", {"beta": 0.1}),
    num_clients=4,
    cohort_size=2,
    rounds=3,
    eval_every=2,
    seed=3,
    target_accuracy=0.1,
)


@pytest.fixture(scope="module")
def built():
    return runs.build(SMALL)  # once, so that the tests share one compilation


@pytest.fixture(scope="module")
def finished(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return folder, runs.record(SMALL, built, folder)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_configuration_reads_back_as_it_was():
    assert runs.from_json(runs.to_json(SMALL)) == SMALL
    assert runs.from_json("{}") == RunConfig()
    hidden = RunConfig(model=Choice("mlp", {"hidden": [8, 4]}))
    assert hidden.model.options["hidden"] == (8, 4)
    assert runs.from_json(runs.to_json(hidden)) == hidden


def test_an_older_configuration_has_what_is_new_at_its_default():
    known = json.loads(runs.to_json(SMALL))
    new = ["transforms", "aggregator", "attack", "sampler", "system", "malicious_share"]
    for name in [*new, "client_test_fraction", "augmentations"]:
        del known[name]
    assert runs.from_json(json.dumps(known)) == SMALL


def test_a_configuration_holds_every_option_of_its_choices():
    for kind in LISTINGS:
        choices = getattr(SMALL, kind)
        for choice in choices if kind in SEVERAL else [choices]:
            assert list(choice.options) == list(options_of(kind, choice.name))
    assert SMALL.regulator.options == {
        "beta": 0.1,
        "select_ratio": 0.5,
        "rule": "greedy",
        "storage": "full",
        "sketch_size": 1024,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "config: [] is not allowed"),
        ("[" * 100_000, "config: not allowed, it is nested too deeply"),
        ('{"seed": 1, "seed": 2}', "config: 'seed' is there twice"),
        ('{"seed": ' + "1" * 5000 + "}", "config: not JSON: Exceeds the limit"),
        ('{"learning_rate": 1}', "config: unknown option 'learning_rate'"),
        ('{"round": 3}', "config: unknown option 'round', did you mean 'rounds'?"),
        ('{"rounds": "3"}', "rounds: '3' is not allowed, it must be a whole number"),
        ('{"shuffle": 1}', "shuffle: 1 is not allowed, it must be true or false"),
        (
            '{"transforms": {"name": "clip"}}',
            "transforms: {'name': 'clip'} is not allowed, it must",
        ),
        ('{"transforms": [{"name": "cilp"}]}', "transforms: unknown 'cilp', did you mean 'clip'?"),
        ('{"algorithm": "fedavg"}', "algorithm: 'fedavg' is not allowed"),
        ('{"algorithm": {"options": {}}}', "algorithm: a name is missing"),
        ('{"algorithm": {"name": "fedavg", "options": {"mu": 1}}}', "fedavg: unknown option 'mu'"),
        ('{"model": {"name": "mlp", "options": {"hidden": 3}}}', "mlp: hidden: 3 is not allowed"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(text, message):
    with pytest.raises(InputError) as caught:
        runs.from_json(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_folder_holds_all_of_a_run(built, finished):
    folder, history = finished
    files = {name for name in contents(folder) if not name.startswith("model/")}
    assert files == {
        "config.json",
        "environment.json",
        "history.parquet",
        "summary.json",
        "lock",
        "curves.png",
    }
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["jax"] == jax.__version__
    assert environment["backend"] == jax.default_backend()
    assert environment["placement"] == str(built.placement)
    assert environment["devices_used"] == built.placement.num_devices
    assert environment["chunk_size"] == built.placement.chunk_size
    summary = json.loads((folder / "summary.json").read_text())
    expected = {"status": "finished", "model_round": 3, **history.summary(SMALL.target_accuracy)}
    assert summary == expected
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_model_of_a_finished_run_is_recorded(built, finished):
    """Read back and judged again it has the recorded accuracy."""
    folder, history = finished
    run = runs.load(folder)
    assert jax.tree.structure(run.params) == jax.tree.structure(history.state.params)
    for read, trained in zip(
        jax.tree.leaves(run.params), jax.tree.leaves(history.state.params), strict=True
    ):
        assert read.dtype == trained.dtype
        np.testing.assert_array_equal(read, trained)
    assert run.batch_stats == {}
    fresh = built.init(jax.random.key(9))
    judged = built.evaluate(fresh._replace(params=jax.tree.map(jax.numpy.asarray, run.params)))
    assert float(judged.accuracy) == run.summary["final_accuracy"]


def test_the_recorded_history_is_exact(finished):
    folder, history = finished
    table = pq.read_table(folder / "history.parquet")
    assert table.column_names == [*history.table, "cohort"]
    columns = {name: table[name].to_numpy() for name in history.table}
    chex.assert_trees_all_equal(columns, history.table, strict=True)
    assert table["cohort"].to_pylist() == history.cohorts.tolist()
    recorded = runs.load(folder)
    chex.assert_trees_all_equal(recorded.table, history.table, strict=True)
    np.testing.assert_array_equal(recorded.cohorts, history.cohorts)
    assert recorded.config == SMALL


def test_a_folder_that_exists_is_left_as_it_is(built, finished):
    folder, _ = finished
    before = contents(folder)
    with pytest.raises(InputError, match="exists, it must be a new name"):
        runs.record(SMALL, built, folder)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_data_and_partition_follow_the_seed_unless_given_their_own(monkeypatch):
    monkeypatch.setattr(config, "simulation", lambda algorithm, model, clients, **_: clients)

    def sizes(described):
        return runs.build(described).sizes.tolist()

    other = replace(SMALL, seed=8)
    assert sizes(SMALL) != sizes(other)
    assert sizes(SMALL) == sizes(replace(other, partition_seed=3))


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("raised", "status"), [(KeyboardInterrupt, "interrupted"), (Stop, "failed")]
)
def test_a_run_that_is_stopped_keeps_its_history(built, finished, tmp_path, raised, status):
    def stop(progress):
        raise raised

    with pytest.raises(raised):
        runs.record(SMALL, built, tmp_path / "run", on_progress=stop)
    recorded = runs.load(tmp_path / "run")
    assert recorded.summary["status"] == status
    assert recorded.summary["rounds"] == recorded.summary["model_round"] == 2
    key = jax.random.key(SMALL.seed)
    state, _ = built.block(built.init(key), key, built.hyperparameters, 2, 2)
    for read, trained in zip(
        jax.tree.leaves(recorded.params), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_array_equal(read, trained)
    begun = {name: column[:2] for name, column in finished[1].table.items()}
    chex.assert_trees_all_equal(recorded.table, begun, strict=True)
    np.testing.assert_array_equal(recorded.cohorts, finished[1].cohorts[:2])


def test_a_run_that_is_killed_keeps_what_was_saved_and_does_not_look_finished(
    built, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(store, "_SAVE_SECONDS", -1.0)
    seen = []
    folder = tmp_path / "run"
    runs.record(SMALL, built, folder, on_progress=lambda _: seen.append(runs.load(folder)))
    assert [recorded.summary["rounds"] for recorded in seen] == [2, 3]
    assert {recorded.status for recorded in seen} == {"running"}
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    killed = {**seen[-1].summary, "process": ended.pid}
    assert seen[-1]._replace(summary=killed).status == "killed"
    elsewhere = {**killed, "host": "another host"}  # of which nothing is known
    assert seen[-1]._replace(summary=elsewhere).status == "running"
    assert [len(recorded.table["round"]) for recorded in seen] == [2, 3]
    chex.assert_trees_all_equal(seen[-1].table, finished[1].table, strict=True)


def test_a_run_that_diverges_keeps_its_history(built, tmp_path):
    longer = replace(SMALL, rounds=6)
    # almost nothing moves for two rounds, and far too much from the third on
    numbers = {"learning_rate": 1e-30, "decay": 1e35, "decay_every": 3}
    algorithm = {**built.hyperparameters["algorithm"], **numbers}
    built = built._replace(
        hyperparameters={**built.hyperparameters, "algorithm": algorithm},
        check=lambda key, numbers: None,  # which would not let such numbers pass
    )
    with pytest.raises(DivergedError) as caught:
        runs.record(longer, built, tmp_path / "run")
    recorded = runs.load(tmp_path / "run")
    assert recorded.summary["status"] == "diverged"
    assert recorded.summary["diverged_in_round"] == caught.value.round > 1
    assert recorded.summary["diverged_clients"] == caught.value.clients
    chex.assert_trees_all_equal(recorded.table, caught.value.history.table, strict=True)
    assert len(recorded.table["round"]) == caught.value.round - 1
    last_block = (caught.value.round - 1) // SMALL.eval_every * SMALL.eval_every
    assert recorded.summary["model_round"] == last_block > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(recorded.params))


def test_a_run_that_came_to_no_model_says_so(built, tmp_path):
    broken = built._replace(block=lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runs.record(SMALL, broken, tmp_path / "run")
    recorded = runs.load(tmp_path / "run")
    assert "model_round" not in recorded.summary
    with pytest.raises(InputError, match="no model is recorded, the run is failed"):
        _ = recorded.params


def test_a_run_is_read_without_its_model(finished):
    """What a table of runs takes does not wait for Orbax, nor for parameters."""
    folder, _ = finished
    code = f"import sys; from fedjax_ecgr import runs; runs.load({str(folder)!r}); " + (
        "print([name for name in sys.modules if name.startswith('orbax')])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jax.numpy.bfloat16])
def test_models_of_any_dtype_and_their_statistics_read_back_bit_for_bit(tmp_path, dtype):
    rng = np.random.default_rng(0)
    params = {"fc1": {"kernel": rng.normal(size=(3, 2)).astype(dtype), "bias": np.zeros(2, dtype)}}
    stats = {"bn1": {"mean": rng.normal(size=2).astype(np.float32)}}
    store._write_model(tmp_path / "model", store._Model(1, params, stats))
    read = runs.Recorded(tmp_path, SMALL, {}, {}, np.zeros((0, 0)), {})
    for left, right in ((params, read.params), (stats, read.batch_stats)):
        assert jax.tree.structure(left) == jax.tree.structure(right)
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
            assert a.dtype == b.dtype
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    runs.write(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise Stop

    with pytest.raises(Stop):
        runs.write(path, fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("file", "status"), [("curves.png", "finished"), ("history.parquet", "failed")]
)
def test_no_space_left_is_said_of_the_file_and_no_run_looks_alive(
    built, finished, tmp_path, monkeypatch, file, status
):
    folder, replace_ = tmp_path / "run", Path.replace

    def full(path, target):
        if Path(target).name == file:
            raise NO_SPACE
        return replace_(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left") as caught:
        runs.record(SMALL, built, folder)
    assert caught.value.filename == str(folder / file)
    monkeypatch.undo()
    recorded = runs.load(folder)
    assert recorded.status == status
    if status == "failed":
        assert recorded.summary["error"] == f"{folder / file}: No space left on device"
    else:
        chex.assert_trees_all_equal(recorded.table, finished[1].table, strict=True)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


ENDED = """
import os, signal, sys
from fedjax_ecgr import runs
from fedjax_ecgr.runs import store
from tests import quick
from tests.runs.test_runs import SMALL

quick.use()
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is without
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and one under nohup
write_model, built = store._write_model, runs.build(SMALL)

def send(name):
    os.kill(os.getpid(), getattr(signal, name))

for pair in sys.argv[2:]:
    first, second = pair.split("-")

    def slow(*arguments):
        send(second)  # while the end is being written
        write_model(*arguments)

    store._write_model = slow
    try:
        runs.record(SMALL, built, f"{sys.argv[1]}/{pair}", on_progress=lambda p: send(first))
    except KeyboardInterrupt as error:
        print(pair, type(error).__name__, error)
"""


def test_a_run_that_a_signal_ends_says_so(tmp_path):
    said = {
        "SIGTERM-SIGTERM": "Terminated SIGTERM",
        "SIGHUP-SIGINT": "Terminated SIGHUP",
        "SIGINT-SIGINT": "KeyboardInterrupt",
    }
    done = subprocess.run(
        [sys.executable, "-c", ENDED, str(tmp_path), *said],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.strip() for line in done.stdout.splitlines()] == [
        f"{pair} {words}" for pair, words in said.items()
    ]
    for pair in said:
        recorded = runs.load(tmp_path / pair)
        assert recorded.status == "interrupted"
        assert recorded.summary["rounds"] == recorded.summary["model_round"] == 2
        assert len(recorded.table["round"]) == 2


def test_a_signal_that_the_user_handles_stays_the_user_s(built, tmp_path):
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    try:
        end = os.getpid(), signal.SIGTERM
        runs.record(SMALL, built, tmp_path / "run", on_progress=lambda p: os.kill(*end))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [signal.SIGTERM] * 2
    assert runs.load(tmp_path / "run").status == "finished"


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is not a recorded run: config\.json: No such file"):
        runs.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("history.parquet", b"PAR1 and no more", "cannot be read as a run's history"),
        ("history.parquet", None, "cannot be read as a run's history"),
        ("summary.json", b"[]", "summary.json: [] is not allowed, it must be an object"),
        ("summary.json", b"{}", "summary.json: a status is missing"),
        ("summary.json", b'{"status": 3}', "summary.json: a status is missing"),
        ("summary.json", b'{"status": ', "summary.json: not JSON"),
        ("environment.json", b"\xff", "environment.json: not text"),
        ("config.json", b"[" * 100_000, "config: not allowed, it is nested too deeply"),
    ],
)
def test_a_damaged_run_is_one_line(finished, tmp_path, file, content, said):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(InputError) as caught:
        runs.load(folder)
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def recorded(seed, accuracy, status="finished", **fields):
    described = replace(SMALL, seed=seed, **fields)
    accuracy = np.asarray(accuracy, np.float64)
    summary = {
        "status": status,
        "final_accuracy": float(accuracy[-1]),
        "best_accuracy": float(accuracy.max()),
        "oscillation": metrics.oscillation(accuracy),
        "bytes_up": 8_000_000,
        "rounds_per_second": 2.0,
    }
    table = {"round": np.arange(1, 1 + len(accuracy)), "test_accuracy": accuracy}
    return runs.Recorded(Path(f"run{seed}"), described, {}, table, np.zeros((3, 2)), summary)


def test_curves_go_on_over_rounds_without_anybody():
    table = {name: np.arange(1.0, 25.0) for name in COLUMNS}
    for name in ("train_loss", "drift", "update_variance"):
        table[name] = np.where(table["round"] % 2 == 0, np.nan, table["round"])
    axes = curves(table, "every other round").axes
    for panel, line in ((1, 1), (2, 0), (3, 0)):
        x, y = axes[panel].lines[line].get_data()
        assert x.tolist() == y.tolist() == list(range(1, 25, 2))


def test_runs_are_compared_over_seeds():
    plain = Choice("identity")
    curves = np.array([[0.1, 0.5, 0.4], [0.2, 0.3, 0.9], [0.3, 0.2, 0.5]])
    members = [recorded(seed, curve) for seed, curve in enumerate(curves)]
    others = [recorded(9, [0.9, 0.9, 0.9], regulator=plain)]
    others += [recorded(10, [0.0, 0.0, 0.0], "diverged", regulator=plain)]
    ecgr, fedavg = runs.group([members[0], others[0], *members[1:], others[1]])
    assert (ecgr.label, fedavg.label) == ("fedavg + ecgr", "fedavg")
    row = runs.row(ecgr, target_accuracy=0.5)
    assert row.final_accuracy.mean == np.mean(curves[:, -1])
    assert row.final_accuracy.std == np.std(curves[:, -1], ddof=1)
    assert row.best_accuracy.mean == np.mean(curves.max(axis=1))
    assert (row.rounds_to_target.mean, row.rounds_to_target.number) == (8 / 3, 3)
    row = runs.row(fedavg, target_accuracy=0.95)
    assert (row.runs, row.unfinished) == (1, 1)
    assert row.final_accuracy.mean == 0.9
    assert np.isnan(row.final_accuracy.std)
    assert row.rounds_to_target.number == 0


def test_groups_of_one_method_are_told_apart_by_what_differs():
    groups = runs.group([recorded(0, [1.0]), recorded(1, [1.0]), recorded(0, [1.0], num_clients=9)])
    assert [group.label for group in groups] == [
        "fedavg + ecgr, num_clients=4",
        "fedavg + ecgr, num_clients=9",
    ]
    assert [len(group.runs) for group in groups] == [2, 1]


def test_options_of_one_name_are_told_apart_in_labels():
    def labels(*several):
        return [group.label for group in runs.group([recorded(0, [1.0], **c) for c in several])]

    def dyn(ours, theirs):
        return {
            "algorithm": Choice("feddyn", {"alpha": ours}),
            "partition": Choice("dirichlet", {"alpha": theirs}),
        }

    assert labels(dyn(0.1, 0.1), dyn(0.2, 0.1)) == [
        "feddyn + ecgr, alpha=0.1",
        "feddyn + ecgr, alpha=0.2",
    ]
    assert labels(dyn(0.1, 0.1), dyn(0.2, 0.3)) == [
        "feddyn + ecgr, partition.alpha=0.1, algorithm.alpha=0.1",
        "feddyn + ecgr, partition.alpha=0.3, algorithm.alpha=0.2",
    ]
    attacked = {"attack": Choice("sign_flip"), "malicious_share": 0.2}
    sent = [{"transforms": (Choice("top_k", {"share": share}),)} for share in (0.1, 0.2)]
    assert labels({}, attacked, *sent) == [
        "fedavg + ecgr, attack=none, malicious_share=0.0",
        "fedavg + ecgr, attack=sign_flip, malicious_share=0.2",
        "fedavg + ecgr + top_k, share=0.1",
        "fedavg + ecgr + top_k, share=0.2",
    ]


def test_the_comparison_draws_mean_and_band():
    groups = runs.group([recorded(0, [0.1, 0.3]), recorded(1, [0.3, 0.7])])
    (axes,) = runs.comparison(groups, "title").axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0.2, 0.5])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose(band.max(), 0.5 + np.std([0.3, 0.7], ddof=1))


def test_everything_that_decides_a_run_is_in_its_configuration():
    needs_code = {"algorithm", "model", "data", "test", "client_test", "validation", "loss"}
    taken = set(inspect.signature(simulation).parameters) - needs_code
    assert taken <= set(RunConfig.__annotations__)
