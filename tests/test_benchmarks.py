"""The benchmark at small sizes, against a side in NumPy; no timing is asserted."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from rich.console import Console

from benchmarks import __main__ as cli
from benchmarks import disturbance, measure, peers, record, table, work
from benchmarks.measure import Bench, Comparison, DifferentWorkError, Target, at_least, compare
from benchmarks.programs import ours
from benchmarks.rows import (
    ROWS,
    fashion_torch,
    memory,
    scale,
    sweep_processes,
    sweep_thousand,
)
from benchmarks.side import Side, SideError
from benchmarks.work import Task, Work
from tests.data import sources

TASK = Work("logistic", batch_size=4, local_epochs=2, learning_rate=0.1, cohort_size=3)
SIZES = [5, 9, 1, 12]  # ragged: partial batches, a client of one example


def federation():
    drawn = work.images(1, sum(SIZES), (60,))
    return drawn._replace(sizes=np.array(SIZES, np.int32))


def commands(*arguments):
    """This project's side as it is, any other in NumPy."""

    def command(program):
        if program == "ours":
            return [sys.executable, "-m", "benchmarks.programs.ours"]
        return [sys.executable, "-m", "tests.numpy_side", *arguments]

    return command


def bench(*arguments, **options):
    return Bench(commands(*arguments), **{"kind": "cpu", "repeats": 2, "quick": True, **options})


def comparison(**options):
    defaults = {"targets": {"cpu": at_least(0)}, "rounds": 2}
    return Comparison("logistic", TASK, federation(), "numpy", **{**defaults, **options})


@pytest.fixture(scope="module")
def measured():
    return compare(bench(), comparison())


def test_both_sides_are_measured_and_agree(measured):
    assert measured.against == "NumPy"
    assert len(measured.ours) == len(measured.theirs) == 2
    assert measured.figure == measure.speed_up(measured.ours, measured.theirs) > 0
    assert measured.reached
    assert measured.compile_seconds > 0
    assert measured.updates_a_second > 0
    assert 0 < measured.share < 1
    assert set(measured.peak_bytes) == {"ours", "theirs"}
    said = measured.details["agreement"]
    np.testing.assert_allclose(said["ours"]["losses"], said["theirs"]["losses"], rtol=1e-5)
    np.testing.assert_allclose(said["ours"]["moved"], said["theirs"]["moved"], rtol=1e-4)
    assert measured.details["clients"] == 4


def test_sides_that_do_different_work_are_not_timed():
    with pytest.raises(DifferentWorkError, match="losses"):
        compare(bench("wrong"), comparison())
    with pytest.raises(DifferentWorkError, match="runs on the cpu and NumPy on the tpu"):
        compare(bench("elsewhere"), comparison())


def test_a_side_that_stops_is_an_error():
    with pytest.raises(SideError, match="exit status 3"):
        Side([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(SideError, match="'hello' is not an answer"):
        Side([sys.executable, "-c", "print('hello')"])
    with pytest.raises(SideError, match="cannot run"):
        Side(["/nowhere/python"])
    echo = "import sys; print('{}', flush=True); sys.stdin.readline(); raise SystemExit(4)"
    with Side([sys.executable, "-c", echo]) as side, pytest.raises(SideError, match="status 4"):
        side.ask(rounds=1)


def test_a_missed_target_and_a_long_compilation_are_told_apart(measured):
    def result(target, compile_seconds):
        return measure.result(
            bench(),
            TASK,
            federation(),
            ours=[1.0],
            figure=2.0,
            target=target,
            compile_seconds=compile_seconds,
            rate=1e9,
            details={},
            **{name: getattr(measured, name) for name in ("title", "against", "theirs", "shown")},
            peak_bytes={},
            others_share=None,
        )

    def shown(target, compile_seconds):
        row = result(target, compile_seconds)
        cells = record.cells(row)
        return row.passed, cells["target"], cells["compile, s"]

    assert shown(at_least(2), 15) == (True, "≥ 2×", "15.0")
    assert shown(None, 15) == (True, "—", "15.0")
    assert shown(at_least(2.1), 1) == (False, "≥ 2.1× (missed)", "1.0")
    assert shown(at_least(2), 15.1) == (False, "≥ 2×", "15.1 (above 15)")
    assert shown(Target("less", lambda figure: figure < 2), 1) == (False, "less (missed)", "1.0")


def test_record_is_kept_and_shown(measured, tmp_path):
    environment = {"started": "2026-01-02T03:04:05+00:00", "kind": "cpu"}
    path = record.write({"row": measured}, environment, tmp_path / "results")
    assert path.name == "2026-01-02T030405Z-cpu.json"
    rows, kept = record.read(path)
    assert rows == {"row": measured}
    assert kept.items() >= environment.items()
    assert kept["load_at_the_end"] >= 0
    with pytest.raises(FileExistsError):
        record.write({"row": measured}, environment, tmp_path / "results")
    console = Console(width=200)
    with console.capture() as captured:
        console.print(record.table(rows))
    text = captured.get()
    assert "NumPy" in text
    assert "≥ 0×" in text
    assert f"{measured.compile_seconds:.1f}" in text


@pytest.mark.parametrize("path", table.FILES, ids=lambda path: path.name)
def test_the_documents_show_what_their_records_give(path):
    text = path.read_text()
    assert table.renewed(text) == text, "python -m benchmarks.table --write"


def test_tables_are_made_from_records(measured, tmp_path, monkeypatch, capsys):
    first = measured._replace(ours=[1.0, 3.0, 2.0], theirs=[4.0], shown="2.00×", title="first")
    again = first._replace(title="again")
    peaks = measured._replace(title="peaks", peak_bytes={"ours": 2_000_000, "theirs": 1_000_000})
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "ROOT", tmp_path)
    monkeypatch.setattr(table, "FILES", (tmp_path / "page.md",))
    scaled = {"memory": peaks, "mlp-pfl": first, "scale": first}
    a = record.write(scaled, {"started": "a", "kind": "cpu"}, tmp_path).name
    b = record.write({"mlp-pfl": again}, {"started": "b", "kind": "cpu"}, tmp_path).name
    page = tmp_path / "page.md"
    page.write_text(
        f"before\n<!-- speed table, short, of {a}: made by python -m benchmarks.table -->\n"
        "| typed |\n<!-- end of it -->\nafter\n"
    )
    assert table.main([]) == 1
    assert "page.md" in capsys.readouterr().out
    assert table.main(["--write"]) == 0
    head, *lines, foot = page.read_text().splitlines()[1:-1]
    assert (head.split()[5], foot) == (f"{a}:", "<!-- end of it -->")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == list(table.SHORT)
    assert rows[2] == ["first", "2 (1 to 3)", "NumPy", "4 (4 to 4)", "2.00×", "≥ 0×"]
    assert rows[3][:4] == ["peaks", "2 MB", "NumPy", "1 MB"]
    assert len(rows) == 4
    assert table.main([]) == 0
    assert table.main(["--records", a, b]) == 1
    assert table.main(["--write", "--records", a, b]) == 0
    assert "| again |" in page.read_text()
    assert f"of {a} {b}:" in page.read_text()
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("\nafter\n")
    assert table.main(["--records", "none.json"]) == 2
    with pytest.raises(ValueError, match="no speed table"):
        table.renewed("| typed |")


def test_rows_of_studies_show_what_the_study_takes(measured):
    thousand = {
        "seconds_of_the_study": 22.2,
        "seconds_of_theirs_extrapolated": 548.6,
        "members_of_theirs": 10,
    }
    lone = {"seconds": 42.4, "seconds_of_lone_runs": [7.0, 8.0], "members": 240}
    for details, shown in (
        (thousand, ["22, the study", "549, by 10 members"]),
        (lone, ["42, the study", "1,800, by 2 members"]),
    ):
        made = table.cells("sweep", measured._replace(details=details))
        assert [made[side] for side in ("ours, s", "theirs, s")] == shown


WHOLE = ("memory", "scale", "sweep-processes", "sweep-thousand-pfl", "sweep-thousand-flower")


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize("name", sorted(set(ROWS) - {*WHOLE}))
def test_rows_are_whole(name, kind, monkeypatch):
    seen = []
    module = sys.modules[ROWS[name].__module__]
    monkeypatch.setattr(module, "compare", lambda bench, row: seen.append(row))
    ROWS[name](bench(kind=kind))
    (row,) = seen
    layers = work.ARCHITECTURES[row.task.model]
    features = math.prod(row.federation.inputs.shape[1:])
    if layers[0].name == "fc1":
        assert features == layers[0].kernel[0]
    else:
        assert row.federation.inputs.shape[-1] == layers[0].kernel[2]
    assert row.federation.sizes.sum() == len(row.federation.labels) == len(row.federation.inputs)
    assert row.program == "ours" or row.program in peers.PROGRAMS
    assert (Path(work.__file__).parent / "programs" / f"{row.program}.py").exists()
    untargeted = name in (
        "mlp-flower",
        "mlp-blazefl",
        "bncnn-torch-channels-last",
        "ecgr-short-torch",
    )
    without = (
        untargeted
        or name
        in {
            "cpu": ("sweep-lenet", "sweep-lenet-small"),
            "gpu": ("logistic-torch", "ecgr-short", "fashion-torch"),
        }[kind]
    )
    assert (kind in row.targets) != without


@pytest.mark.parametrize("name", sorted(work.ARCHITECTURES))
def test_layers_are_those_of_the_models(name):
    shape = {
        "logistic": (60,),
        "mlp": (784,),
        "mlp64": (64,),
        "digits": (64,),
        "lenet": (28, 28, 1),
    }.get(name, (32, 32, 3))
    model = ours.MODELS[name](ours.fx.Spec(shape, 10))
    parameters = work.first_parameters(name)
    params, stats = ours._first(Task(TASK._replace(model=name), federation(), parameters))
    if name != "cnn":  # which has no parameters of its own to compare with
        drawn = jax.eval_shape(model.init, jax.random.key(0))
        assert jax.tree.map(np.shape, (params, stats)) == jax.tree.map(np.shape, drawn)
    inputs = jax.ShapeDtypeStruct((2, *shape), np.float32)
    outputs, _ = jax.eval_shape(
        lambda x: model.apply(params, stats, x, mask=np.ones(2, bool), train=True, key=None), inputs
    )
    assert outputs.shape == (2, 10)


def test_useful_operations():
    # LeNet: 117,600 multiply-adds in its first convolution, 416,520 in all
    assert work.operations("lenet") == 2 * (3 * 416_520 - 117_600)
    assert work.operations("logistic") == 2 * 2 * 600
    assert work.operations_a_round(TASK, federation()) == 2400 * 27 * 2 * 3 / 4


def test_others_on_the_same_cores_are_noticed():
    spin = "import time; e = time.time() + 3\nwhile time.time() < e: pass"
    before = disturbance.reading()
    with subprocess.Popen([sys.executable, "-c", spin]) as spinning:
        time.sleep(1)
        ours_counted = disturbance.reading()
        spinning.kill()
    assert ours_counted.own - before.own > 0.1  # a child is no other
    assert ours_counted.busy > before.busy
    later = before._replace(wall=before.wall + 1, busy=before.busy + 1, own=before.own + 0.5)
    cores = len(os.sched_getaffinity(0))
    assert disturbance.others_share(before, later) == pytest.approx(0.5 / cores)
    assert disturbance.others_share(None, later) is None


def test_task_survives_its_file(tmp_path):
    task = Task(TASK, federation(), work.first_parameters("logistic"))
    work.write(tmp_path / "task.npz", task)
    read = work.read(tmp_path / "task.npz")
    assert read.work == task.work
    chex.assert_trees_all_equal(read[1:], task[1:])


def test_memory_is_that_of_a_round_with_the_whole_cohort():
    used = memory.use(bench(), TASK._replace(placement="vmap", chunk_size=2), federation())
    assert used.answer["peak_bytes"] > federation().num_bytes
    assert used.rate > 0


def test_memory_row(monkeypatch):
    def use(bench, task, federation):
        peak = federation.num_bytes + 1000 + task.cohort_size
        return memory.Used({"peak_bytes": peak, "seconds": 1.0, "compile_seconds": 1.0}, rate=1e9)

    monkeypatch.setattr(memory, "use", use)
    done = memory.measure(bench(repeats=3))
    assert done.figure == pytest.approx(1100 / 1010 - 1)
    assert done.reached
    assert done.peak_bytes["ours"] - done.peak_bytes["theirs"] == 90


def test_a_study_against_a_process_a_member(monkeypatch):
    asked = []

    def seconds(cache, *command):
        asked.append((cache.name, command[0]))
        return {"sweep": 10.0, "run": 2.0}[command[0]]

    monkeypatch.setattr(sweep_processes, "_seconds", seconds)
    done = sweep_processes.measure(bench())
    assert done.figure == pytest.approx(16 * 2 / 10)
    assert not done.reached
    assert asked == [("ours", "sweep")] + [("theirs", "run")] * 6


def test_a_thousand_members_against_lone_ones():
    done = sweep_thousand._measure(bench(), "ours")
    ours, theirs = (2 * np.median(side) for side in (done.ours, done.theirs))
    assert done.details["seconds_of_the_study"] == pytest.approx(ours)
    assert done.figure == pytest.approx(20 * theirs / ours)
    assert done.details["bytes_more_foretold"] > 0
    assert done.details["agreement"]["ours"] == done.details["agreement"]["theirs"]


def test_growth_is_less_the_data():
    large, small = ({"peak_bytes": peak} for peak in (160, 140))
    assert memory.grown(large, small, data_bytes=100) == pytest.approx(0.5)


def test_scale_is_of_fresh_processes_that_do_the_same():
    task = TASK._replace(beta=0.2)
    two_devices = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    cases = [
        scale.Case(task._replace(placement="scan"), federation(), rounds=2),
        scale.Case(
            task._replace(placement="devices"), federation(), rounds=2, environment=two_devices
        ),
    ]
    turns = scale.in_turn(bench(), cases)
    one, two = turns.taken
    assert turns.rate > 0
    assert len(one.seconds) == 2
    assert one.update_seconds == pytest.approx(sum(one.seconds) / 2 / 3)
    assert set(one.set_up) == {"federation", "simulation", "init"}
    assert one.peak_bytes >= one.set_up_bytes > one.data_bytes == federation().num_bytes
    scale.check_same({"scan": one, "2": two})
    with pytest.raises(DifferentWorkError, match="scan and 2 differ, moved"):
        scale.check_same({"scan": one, "2": two._replace(moved=1.1 * two.moved)})


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_scale_row(kind, monkeypatch, tmp_path):
    def in_turn(bench, cases):
        # a large cohort's update takes 5 % more time, and 20 % more memory beyond the data
        taken = [taken_as(case, 1.05 if case.task.cohort_size == 10_000 else 1.0) for case in cases]
        return scale.Turns(taken, rate=1e9, others_share=0.0)

    def taken_as(case, times):
        cohort, data_bytes = case.task.cohort_size, case.federation.num_bytes
        assert 0 <= scale.FULL.updates - case.rounds * cohort < cohort
        assert cohort % (case.task.chunk_size or 1) == 0
        peak = data_bytes + (1200 if times > 1 else 1000)
        seconds = [times * cohort] * 3
        return scale.Taken(
            *(len(case.federation.sizes), cohort, seconds, times, 1.0, {}, 1, peak, 1),
            *(data_bytes, 2.0, 1.0),
        )

    monkeypatch.setattr(scale, "in_turn", in_turn)
    monkeypatch.setattr(scale, "PLOT", tmp_path / "docs" / "scale.png")
    done = scale.measure(bench(kind=kind, quick=False))
    assert scale.PLOT.read_bytes().startswith(b"\x89PNG")
    assert done.figure == pytest.approx(1.2)
    assert not done.reached
    assert done.details["update_seconds_dearest_to_cheapest"] == pytest.approx(1.05)
    assert done.details["update_seconds_to_smaller_federations"] == [1.0]
    assert set(done.details["cohorts"]) == set(scale.LAYOUTS_OF[kind])
    assert list(done.details["devices"]["taken"]) == ["scan", "1", "2", "4"]
    assert record.read(record.write({"scale": done}, {"started": "now", "kind": kind}, tmp_path))


def test_command_line(measured, tmp_path, monkeypatch, capsys):
    rows = {"hit": lambda bench: measured, "miss": lambda bench: measured._replace(reached=False)}
    monkeypatch.setattr(cli, "ROWS", rows)
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    assert cli.main(["--rows", "miss", "--quick"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert cli.main(["--rows", "hit", "miss", "--repeats", "1"]) == 1
    (path,) = tmp_path.iterdir()
    environment = record.read(path)[1]
    for known in ("started", "commit", "processor", "cores_usable", "memory_bytes", "jax", "load"):
        assert known in environment
    shown = capsys.readouterr()
    assert "[2/2] miss" in shown.err
    assert str(path) in shown.out.replace("\n", "")
    for wrong in (["--rows", "none"], ["--repeats", "0"], ["--peer", "none=x"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(wrong)


def test_an_error_is_one_line(monkeypatch, capsys):
    def fails(bench):
        raise DifferentWorkError("they differ")

    monkeypatch.setattr(cli, "ROWS", {"row": fails})
    assert cli.main(["--rows", "row"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: they differ"


def test_environments_are_made_whole_or_again(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(peers.subprocess, "run", lambda command, check: calls.append(command))
    (tmp_path / "torch").mkdir()  # half made
    python = peers.environment("torch", tmp_path)
    assert calls[0][1:4] == ["-m", "venv", "--clear"]
    assert calls[1][0] == str(python)
    assert set(peers.PEERS["torch"].requirements) <= set(calls[1])
    assert peers.environment("torch", tmp_path) == python
    assert len(calls) == 2
    other = peers.PEERS["torch"]._replace(requirements=("torch==0",))
    monkeypatch.setitem(peers.PEERS, "torch", other)
    peers.environment("torch", tmp_path)
    assert len(calls) == 4


def test_a_peer_that_needs_another_python_says_which(tmp_path, monkeypatch):
    monkeypatch.setitem(peers.PEERS, "old", peers.Peer(("old",), oldest=(3, 1), newest=(3, 2)))
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    with pytest.raises(peers.PeerError, match=r"old: needs a Python from 3\.1 to 3\.2"):
        peers.environment("old", tmp_path)
    monkeypatch.setattr(peers.shutil, "which", lambda name: f"/bin/{name}")
    assert peers._python_for("old", peers.PEERS["old"]) == "/bin/python3.2"
    this = peers.PEERS["torch"]
    assert peers._python_for("torch", this) == sys.executable
    assert peers._python_for("torch", this._replace(free_threaded=True)) == "/bin/python3.14t"


PEER_TASKS = {
    "torch_loop": (TASK, federation()),
    **dict.fromkeys(
        ("pfl_loop", "flower_loop", "blazefl_loop"),
        (
            Work("mlp", batch_size=4, cohort_size=2, learning_rate=0.05),
            work.images(3, 6, (784,)),
        ),
    ),
}


def test_the_published_set_up_is_divided_client_by_client(tmp_path):
    shape, sizes = (28, 28, 1), {"train": 3000, "test": 20}
    train, test = (sources.images(size, shape, classes=10) for size in sizes.values())
    train[0][:, 0, :2, 0] = np.stack(np.divmod(np.arange(3000), 256), axis=1)  # its number
    sources.write_idx(tmp_path, train, test)
    found = fashion_torch.federation(tmp_path)
    assert found.sizes.sum() == 3000
    assert len(found.sizes) == 10
    places = found.inputs[:, 0, :2, 0].astype(int) @ [256, 1]
    np.testing.assert_array_equal(found.inputs, train[0][places])
    np.testing.assert_array_equal(found.labels, train[1][places])
    assert np.unique(places).size == 3000
    np.testing.assert_array_equal(found.test_inputs, test[0])
    np.testing.assert_allclose(found.mean, train[0].mean(), rtol=1e-6)


class Accurate:
    """A side that has an accuracy after training."""

    def __init__(self, accuracy):
        self.accuracy = accuracy

    def ask(self, **order):
        assert order == {"rounds": 9, "shuffle": True, "cohorts": None, "evaluate": True}
        return {"accuracy": self.accuracy}


def test_sides_whose_accuracies_differ_are_not_compared():
    found = measure.check_accuracy(9, Accurate(0.725), Accurate(0.719))
    assert found == {"ours": 0.725, "theirs": 0.719}
    with pytest.raises(DifferentWorkError, match=r"after 9 rounds: 0\.7250 and 0\.7100"):
        measure.check_accuracy(9, Accurate(0.725), Accurate(0.71))


@pytest.mark.parametrize("program", sorted(peers.PROGRAMS))
def test_other_projects_agree(program):
    peer = peers.PROGRAMS[program]
    if peers.installed(peer) is None:
        pytest.skip(f"{peer} is not installed in .venv-peers; `python -m benchmarks` does that")
    task, data = PEER_TASKS[program]
    row = Comparison(program, task, data, program, targets={}, rounds=1)
    if program == "blazefl_loop":  # whose trainer reports no losses
        row = row._replace(agree_on=("moved",))
    assert compare(bench()._replace(commands=peers.commands({})), row).figure > 0
