"""The command line: what it says, what it refuses, and what it leaves behind."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr import runs
from fedjax_ecgr.cli import main
from fedjax_ecgr.data import label_counts
from fedjax_ecgr.data.datasets import DATASETS
from fedjax_ecgr.data.partition import PARTITIONS
from fedjax_ecgr.options import PANELS, choices, dashed, flags, short_forms
from fedjax_ecgr.regulators import RULES, STORAGES
from fedjax_ecgr.runs import config
from fedjax_ecgr.runs.config import (
    LISTINGS,
    SEVERAL,
    Choice,
    RunConfig,
    from_json,
    options_of,
    run_fields,
    to_json,
)
from tests.data.sources import images, prepare_tfds

QUICK = ["--model", "logistic_regression", "--num-clients", "3", "--rounds", "2"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refused(capsys, *arguments) -> str:
    """Asserts that a command is refused in one line and leaves nothing; returns the line."""
    before = sorted(os.listdir())
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert sorted(os.listdir()) == before
    return line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dataset", "digit"], "dataset: unknown 'digit', did you mean 'digits'?"),
        (["--partition", "irichlet"], "did you mean 'dirichlet'?"),
        (["--model", "mpl"], "model: unknown 'mpl', did you mean 'mlp'?"),
        (["--algorithm", "fedprocks"], "did you mean 'fedprox'?"),
        (["--regulator", "egcr"], "regulator: unknown 'egcr', did you mean 'ecgr'?"),
        (
            ["--regulator", "ecgr", "--rule", "gredy"],
            "rule: unknown 'gredy', did you mean 'greedy'",
        ),
        (["--betta", "1"], "No such option: --betta (Possible options: "),
        (
            ["--mu", "1"],
            "mu: '1' is not allowed with algorithm fedavg, it is an option of adafedprox, ",
        ),
        (
            ["--regulator", "ecgr", "--beta", "1.5"],
            "beta: 1.5 is not allowed, it must be in [0, 1]",
        ),
        (["--regulator", "ecgr", "--beta", "-0.1"], "beta: -0.1 is not allowed"),
        (["--regulator", "ecgr", "--beta", "nan"], "beta: nan is not allowed"),
        (
            ["--regulator", "ecgr", "--storage", "ful"],
            "storage: unknown 'ful', did you mean 'full'?",
        ),
        (["--regulator", "ecgr", "--sketch-size", "0"], "sketch_size: 0 is not allowed"),
        (["--storage", "full"], "storage: 'full' is not allowed with regulator identity"),
        (
            ["--algorithm", "feddyn", "--alpha", "1"],
            "--alpha: ambiguous, one of --partition.alpha, --algorithm.alpha",
        ),
        (
            ["--dataset", "synthetic", "--alpha", "1"],
            "--alpha: ambiguous, one of --dataset.alpha, --partition.alpha",
        ),
        (
            ["--partition", "iid", "--alpha", "1"],
            "alpha: '1' is not allowed with dataset digits and partition iid and algorithm fedavg,"
            " it is an option of synthetic, colour, dirichlet, ",
        ),
        (
            ["--partition.alpha", "1", "--alpha", "2"],
            "alpha: '2' is not allowed beside --partition.alpha",
        ),
        (["--partition.alhpa", "1"], "--partition.alhpa (Possible options: "),
        (["--algorithm.alpha", "1"], "algorithm.alpha: '1' is not allowed with algorithm fedavg"),
        (["--transforms", "clip,cilp"], "transforms: unknown 'cilp', did you mean 'clip'?"),
        (["--transforms", "top_k", "--share", "0"], "share: 0.0 is not allowed, it must be in (0"),
        (["--levels", "7"], "levels: '7' is not allowed with transforms none"),
        (["--top-k.share", "1"], "top-k.share: '1' is not allowed with transforms none"),
        (
            ["--transforms", "top_k,random_k", "--share", "0.1"],
            "--share: ambiguous, one of --random-k.share, --top-k.share",
        ),
        (["--malicious-share", "0.2"], "malicious_share: nobody attacks, choose an attack"),
        (
            ["--attack", "sign_flip", "--malicious-share", "1"],
            "malicious_share: 1.0 is not allowed, it must be in [0, 1)",
        ),
        (["--client-test-fraction", "1"], "client_test_fraction: 1.0 is not allowed"),
        (["--algorithm", "ditto"], "client_test_fraction: None is not allowed with ditto"),
        (["--partition", "noise"], "client_test_fraction: None is not allowed with noise"),
        (["--partition", "rotation", "--rotations", "8"], "rotation: rotations: 8 is not allowed"),
        (["--partition", "mixture", "--similarity", "2"], "mixture: similarity: 2.0 is not allow"),
        (
            ["--system", "heterogeneous", "--deadline", "0.001"],
            "deadline: 0.001 s is not allowed, nobody can meet it: the quickest client needs ",
        ),
        (
            ["--sampler", "power_of_choice", "--candidates", "4", "--cohort-size", "5"],
            "candidates: 4 is not allowed, it must be from 5 (the cohort size) to 10",
        ),
        (
            ["--model", "bncnn", "--blocks", "4,x"],
            "blocks: '4,x' is not allowed, it must be groups",
        ),
        (["--memory-budget", "0"], "memory_budget: 0.0 is not allowed, it must be in (0, inf)"),
        (["--memory-budget", "2GiB"], "memory_budget: '2GiB' is not allowed, it must be a number"),
        ([*QUICK, "--memory-budget", "1e-4"], "memory_budget: 0.0001 GiB is not allowed, "),
        (
            ["--regulator", "ecgr", "--select-ratio", "0"],
            "select_ratio: 0.0 is not allowed, it must be in (0, 1]",
        ),
        (
            ["--batch-size", "0"],
            "batch_size: 0 is not allowed, it must be a whole number at least 1",
        ),
        (["--cohort-size", "0"], "cohort_size: 0 is not allowed"),
        (["--num-clients", "0"], "num_clients: 0 is not allowed"),
        (["--rounds", "0"], "rounds: 0 is not allowed"),
        (["--eval-every", "0"], "eval_every: 0 is not allowed"),
        (["--local-epochs", "-1"], "local_epochs: -1 is not allowed"),
        (["--seed", "-1"], "seed: -1 is not allowed"),
        (["--cohort-size", "11"], "from 1 to 10 (the number of clients)"),
        (["--num-clients", "9999"], "from 1 to 1438 (the number of examples)"),
        (["--rounds", "many"], "rounds: 'many' is not allowed, it must be a whole number"),
        (["--learning-rate", "big"], "learning_rate: 'big' is not allowed, it must be a number"),
        (["--learning-rate", "0"], "learning_rate: 0.0 is not allowed"),
        (["--hidden", "20,x"], "hidden: '20,x' is not allowed, it must be whole numbers"),
        (["--target-accuracy", "90"], "target_accuracy: 90.0 is not allowed"),
        (["--placement", "vmapp"], "placement: unknown 'vmapp', did you mean 'vmap'?"),
        (["--precision", "hi"], "precision: unknown 'hi', did you mean 'high'?"),
        (["--rounds"], "'--rounds' requires an argument"),
        (["--config", "no.json"], "config: 'no.json' cannot be read"),
        (["--dataset", "no.npz"], "npz: data_path: 'no.npz' cannot be read: No such file"),
        (["--dataset", "synthetic", "--dataset.alpha", "-1"], "synthetic: alpha: -1.0 is not"),
        (["--hidden", "1000000000000"], "model mlp: its 75,000,000,000,010 parameters take "),
        (["--local-epochs", "1000000000"], "local_epochs: 1000000000 is not allowed, it must be"),
        (["--beta", "1" * 401, "--regulator", "ecgr"], "beta: inf is not allowed"),
        (["--seed", "1" * 401], "is not allowed, it must be a whole number from 0 to 4294967295"),
        (["more"], "unexpected extra argument (more)"),
    ],
)
def test_bad_input_is_one_line_and_no_folder(capsys, options, said):
    line = refused(capsys, "run", *options).replace("argument(s)", "argument")
    assert said in line


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train_labels": np.array([0, 3, 1])}, "train_labels[1]: 3 is not allowed"),
        ({"test_inputs": np.full((2, 4), np.inf)}, "test_inputs[0, 0]: inf is not allowed"),
        ({"test_label": np.zeros(2)}, "unknown option 'test_label', did you mean 'test_labels'?"),
        ({"test_labels": np.array([{}, 1], object)}, "data.npz' cannot be read"),
    ],
)
def test_bad_arrays_are_refused_before_anything_runs(capsys, changed, said):
    sound = {
        "train_inputs": np.ones((3, 4)),
        "train_labels": np.array([0, 1, 2]),
        "test_inputs": np.ones((2, 4)),
        "test_labels": np.array([0, 1]),
        "num_classes": np.array(3),
    }
    np.savez("data.npz", **{**sound, **changed})
    assert said in refused(capsys, "run", "--dataset", "data.npz", "--num-clients", "2")


def test_a_run_trains_and_says_where_it_is(capsys):
    assert main(["run", *QUICK, "--out", "runs/one", "--target-accuracy", "0.05"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.startswith("placement: ")
    assert "round 2/2" in output.out
    assert "rounds/s" in output.out
    assert output.out.endswith("run folder: runs/one\n")
    first = runs.load("runs/one")

    assert "'runs/one' exists" in refused(capsys, "run", *QUICK, "--out", "runs/one")

    again = ["run", "--config", "runs/one/config.json", "--out", "runs/two"]
    assert main(again) == 0
    second = runs.load("runs/two")
    assert second.config == first.config
    for name, column in first.table.items():
        np.testing.assert_array_equal(column, second.table[name])

    assert main(["compare", "runs/one", "runs/two", "--out", "plots/a.png"]) == 0
    accuracy = first.summary["final_accuracy"]
    assert f"{100 * accuracy:.2f} ± 0.00" in capsys.readouterr().out
    assert Path("plots/a.png").read_bytes().startswith(b"\x89PNG")
    assert "exists" in refused(capsys, "compare", "runs/one", "--out", "plots/a.png")
    assert "target_accuracy: 'x'" in refused(
        capsys, "compare", "runs/one", "--target-accuracy", "x"
    )


def test_a_file_of_arrays_is_a_dataset(monkeypatch):
    data = DATASETS["digits"]()
    owners = np.arange(len(data.train.labels)) % 3
    np.savez(
        "mine.npz",
        train_inputs=data.train.inputs,
        train_labels=data.train.labels,
        test_inputs=data.test.inputs,
        test_labels=data.test.labels,
        train_owners=owners,
    )
    monkeypatch.setattr(config, "simulation", lambda algorithm, model, clients, **_: clients)
    clients = runs.build(RunConfig(Choice("mine.npz"), Choice("natural"), num_clients=3))
    assert clients.sizes.tolist() == np.bincount(owners).tolist()


def test_a_run_that_diverges_is_one_line_and_is_kept(capsys):
    sized = ["--memory-budget", "0.5"]
    assert main(["run", *QUICK, *sized, "--learning-rate", "1e38", "--out", "run"]) == 3
    output = capsys.readouterr()
    assert " GiB predicted at the peak, of 0.5 GiB\n" in output.out
    assert output.err.startswith("error: diverged to NaN or Inf in round ")
    assert output.err.count("\n") == 1
    assert runs.load("run").summary["status"] == "diverged"


def test_an_interrupted_run_is_kept(capsys, monkeypatch):
    record = runs.record

    def interrupted(described, built, folder, on_progress):
        def show(progress):
            on_progress(progress)
            raise KeyboardInterrupt

        return record(described, built, folder, on_progress=show)

    monkeypatch.setattr(runs, "record", interrupted)
    assert main(["run", *QUICK, "--out", "run"]) == 130
    assert capsys.readouterr().err == "error: interrupted after round 1; kept in run\n"
    recorded = runs.load("run")
    assert recorded.summary["status"] == "interrupted"
    assert recorded.table["round"].tolist() == [1]


def test_help_tells_of_every_option_of_every_factory(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    words = set(shown.replace(",", " ").split())
    for kind, listing in LISTINGS.items():
        for name in listing:
            assert f"--{kind}" in words
            assert name in shown
            space = dashed(name) if kind in SEVERAL else kind
            for option, parameter in options_of(kind, name).items():
                assert f"--{space}.{dashed(option)}" in words
                assert parameter.help, f"{name}: {option} is not in its docstring"
    for name in run_fields():
        assert f"--{dashed(name)}" in words
    for panel in (*PANELS.values(), "Run"):
        assert f"─ {panel} ─" in shown


def configured(*arguments):
    """The configuration that a command line asks for."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedjax_ecgr.cli.runs.build", lambda config: seen.append(config) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["run", *arguments])
    return seen[0]


def test_options_of_one_name_belong_to_their_kinds():
    """FedDyn's alpha beside Dirichlet's and synthetic's."""
    one = configured(
        "--algorithm", "feddyn", "--algorithm.alpha", "0.5", "--partition.alpha", "0.3"
    )  # fmt: skip
    assert one.algorithm.options["alpha"] == 0.5
    assert one.partition.options["alpha"] == 0.3
    # the short form is that of the one chosen name that takes it
    assert configured("--alpha", "0.2").partition.options["alpha"] == 0.2
    natural = ["--dataset", "synthetic", "--partition", "natural", "--num-clients", "10"]
    assert configured(*natural, "--alpha", "0.2").dataset.options["alpha"] == 0.2
    assert configured(*natural, "--beta", "0.7").dataset.options["beta"] == 0.7
    regulated = configured("--regulator", "ecgr", "--beta", "0.7")
    assert regulated.regulator.options["beta"] == 0.7


def test_several_transforms_and_every_other_part_are_chosen_by_name():
    one = configured(
        "--transforms", "clip,top_k", "--max-norm", "2", "--share", "0.1", "--no-error-feedback",
        "--aggregator", "median", "--attack", "sign_flip", "--malicious-share", "0.2",
        "--sampler", "by_size", "--system", "heterogeneous", "--deadline", "9",
        "--model", "bncnn", "--blocks", "4,8/16", "--client-test-fraction", "0.2",
    )  # fmt: skip
    assert [t.name for t in one.transforms] == ["clip", "top_k"]
    assert one.transforms[0].options == {"max_norm": 2.0}
    assert one.transforms[1].options == {"share": 0.1, "error_feedback": False}
    assert (one.aggregator.name, one.attack.name) == ("median", "sign_flip")
    assert (one.sampler.name, one.system.options["deadline"]) == ("by_size", 9)
    assert one.model.options["blocks"] == ((4, 8), (16,))
    assert one.method == "fedavg + clip + top_k + median"
    assert runs.from_json(runs.to_json(one)) == one


def test_a_run_with_every_part_is_recorded_and_can_be_repeated(capsys):
    parts = [
        "--transforms", "clip,top_k", "--aggregator", "trimmed_mean", "--attack", "gaussian",
        "--malicious-share", "0.34", "--system", "heterogeneous", "--algorithm", "ditto",
        "--client-test-fraction", "0.3", "--num-clients", "4",
    ]  # fmt: skip
    assert main(["run", *QUICK, *parts, "--out", "one"]) == 0
    first = runs.load("one")
    assert (first.table["seconds"] > 0).all()
    assert main(["run", "--config", "one/config.json", "--out", "two"]) == 0
    for name, column in first.table.items():
        np.testing.assert_array_equal(column, runs.load("two").table[name])
    capsys.readouterr()


def test_transforms_of_one_option_are_told_apart_by_their_names():
    both = ["--transforms", "random_k,top_k", "--top-k.share", "0.3", "--random-k.share", "0.2"]
    one = configured(*both, "--top-k.no-error-feedback")
    assert [t.options["share"] for t in one.transforms] == [0.2, 0.3]
    assert [t.options["error_feedback"] for t in one.transforms] == [True, False]
    Path("config.json").write_text(runs.to_json(one))
    fewer = configured("--config", "config.json", "--transforms", "top_k,clip")
    assert [t.name for t in fewer.transforms] == ["top_k", "clip"]
    assert fewer.transforms[0] == one.transforms[1]
    assert configured("--config", "config.json", "--transforms", "none").transforms == ()


def test_another_name_keeps_what_was_set_and_no_other_s_defaults():
    before = configured("--algorithm", "fedprox", "--mu", "0.3", "--momentum", "0.5")
    Path("config.json").write_text(runs.to_json(before))
    after = configured("--config", "config.json", "--algorithm", "fedadam").algorithm.options
    assert after["momentum"] == 0.5
    defaults = {name: p.default for name, p in options_of("algorithm", "fedadam").items()}
    assert after == {**defaults, "momentum": 0.5}
    assert configured("--config", "config.json", "--algorithm", "moon").algorithm.options["mu"] == (
        0.3
    )


def test_names_mean_one_thing():
    found = flags()
    options = [flag.option for flag in found]
    own = {dashed(name) for name in (*LISTINGS, *run_fields(), "config", "out", "help")}
    assert len(options) == len(set(options))
    assert not own & set(short_forms(found))
    assert not {flag.space for flag in found if flag.kind == "transforms"} & set(LISTINGS)


def test_the_list_names_everything(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["list"]) == 0
    words = capsys.readouterr().out.split()
    for listing in (*LISTINGS.values(), RULES, STORAGES):
        assert set(listing) <= set(words)


def test_a_command_that_is_not_known_is_one_line(capsys):
    assert "Did you mean 'run'?" in refused(capsys, "rum")


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "fedjax_ecgr", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert "compare" in done.stdout
    assert done.stderr == ""


def test_the_command_keeps_what_it_compiles_and_the_library_does_not(tmp_path):
    code = (
        "import jax, fedjax_ecgr as fx, fedjax_ecgr.__main__\n"
        "config, least = jax.config, 'jax_persistent_cache_min_compile_time_secs'\n"
        "fx.simulate; print(config.jax_compilation_cache_dir, config.values[least])\n"
        "fx.keep_programs(); print(config.jax_compilation_cache_dir, config.values[least])\n"
    )
    unset = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMP", "JAX_PERS"))}
    paths = {"PYTHONPATH": str(Path(__file__).parents[1]), "XDG_CACHE_HOME": str(tmp_path)}

    def printed(**chosen):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**unset, **paths, **chosen},
        )
        return done.stdout.split()

    own = str(tmp_path / "fedjax_ecgr" / "programs")
    assert printed() == ["None", "1.0", own, "0.0"]
    assert printed(JAX_COMPILATION_CACHE_DIR="mine") == ["mine", "1.0", "mine", "1.0"]
    slow = printed(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="2")
    assert slow == ["None", "2.0", own, "2.0"]


def test_the_digits_experiment_runs_end_to_end(capsys):
    from experiments.digits import main as digits

    digits(seeds=1, rounds=2, out=Path("demo"))
    assert {"members.parquet", "history.parquet", "report"} <= set(os.listdir("demo"))
    assert {"curves.png", "report.html", "tables.md"} <= set(os.listdir("demo/report"))
    output = capsys.readouterr().out
    assert "2 members: compiled in" in output
    assert output.endswith("report: demo/report\n")


def defaults(kind, name):
    return {option: p.default for option, p in options_of(kind, name).items()}


@pytest.mark.parametrize(
    ("kind", "name"), [("partition", "quantity"), ("dataset", "synthetic"), ("model", "bncnn")]
)
@pytest.mark.parametrize("recorded", [False, True])
def test_another_name_has_its_own_defaults(kind, name, recorded):
    """And not those that were filled in for the name before it."""
    base = from_json(to_json(RunConfig())) if recorded else RunConfig()
    chosen, _ = choices(base, {kind: name}, {})
    assert getattr(dataclasses.replace(base, **{kind: chosen[kind][0]}), kind) == Choice(
        name, defaults(kind, name)
    )


def test_an_option_that_was_set_stays_where_another_name_takes_it():
    base = RunConfig(partition=Choice("dirichlet", {"alpha": 7.0}))
    assert choices(base, {"partition": "quantity"}, {})[0]["partition"][0].options == {"alpha": 7.0}


def test_runs_that_start_in_one_second_have_folders_of_their_own(capsys):
    for seed in (3, 3):
        assert main(["run", *QUICK, "--seed", str(seed)]) == 0
    first, second = sorted(os.listdir("runs"))
    assert first != second
    assert all(f"-fedavg-identity-digits-seed{seed}-" in name for name in (first, second))
    capsys.readouterr()


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{fx.__version__}\n"


@pytest.mark.parametrize("platform", ["cuda", "nothing"])
def test_a_platform_that_is_not_there_is_one_line(tmp_path, platform):
    done = command("run", *QUICK, cwd=tmp_path, JAX_PLATFORMS=platform)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: JAX_PLATFORMS: {platform!r} is not allowed here: ")
    assert done.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_terminal_without_unicode_loses_signs_and_no_more(tmp_path):
    done = command("list", cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "synthetic(alpha, beta)" in done.stdout
    assert "?" in done.stdout


def command(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "fedjax_ecgr", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
    )


def test_data_is_listed_and_shown(capsys, tmp_path):
    prepare_tfds(tmp_path / "prepared", {"train": images(12), "test": images(6)}, name="mine")
    where = ["--data-dir", "prepared"]
    assert main(["data", "list", *where]) == 0
    listed = capsys.readouterr().out
    assert "mine" in listed
    assert all(name in listed for name in DATASETS)
    assert main(["data", "show", "mine", *where, "--out", "mine.png"]) == 0
    shown = capsys.readouterr().out
    for said in (
        "name: mine\n",
        "training examples: 12\n",
        "test examples: 6\n",
        "an example: 5 × 4 × 1, uint8\n",
        "classes: 3, of 4 to 4 labels\n",
        "picture: mine.png\n",
    ):
        assert said in shown
    assert Path("mine.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data", "show", "digits", "--test-fraction", "2"], "digits: test_fraction: 2.0 is not"),
        (["data", "show", "no"], "tfds: data_name: 'no' is not prepared in "),
        (["data", "show", "synthetic", "--out", "x.png"], "is not made of images"),
        (
            ["data", "show", "digits", "--alpha", "1"],
            "alpha: '1' is not allowed with dataset digits",
        ),
        (["partition", "show", "--partition", "sharts"], "partition: unknown 'sharts', did you"),
        (["data", "prepare", "lc25000", "--trust-manual"], "not allowed without a manual_dir"),
    ],
)
def test_bad_input_to_the_commands_about_data_is_one_line(capsys, arguments, said):
    assert said in refused(capsys, *arguments)


def test_what_no_picture_shows_is_not_drawn(capsys, tmp_path):
    """Images of two channels."""
    inputs, labels = images(12, (5, 4, 2))
    np.savez("two.npz", train_inputs=inputs, train_labels=labels, test_inputs=inputs[:3],
             test_labels=labels[:3])  # fmt: skip
    said = refused(capsys, "data", "show", "two.npz", "--out", "x.png")
    assert "is not made of images of 1, 3 or 4 channels" in said


def test_a_partition_is_shown_in_numbers_and_a_picture(capsys):
    arguments = ["partition", "show", "--partition", "shards", "--num-clients", "5"]
    assert main([*arguments, "--out", "shards.png"]) == 0
    shown = capsys.readouterr().out
    train = fx.datasets.digits().train
    clients = fx.partition.shards(train, num_clients=5)
    counts = label_counts(clients, 10)
    shares = counts / counts.sum(axis=1, keepdims=True)
    distance = np.abs(shares - counts.sum(axis=0) / counts.sum()).sum(axis=1).mean() / 2
    entropy = np.mean([-sum(p * np.log2(p) for p in row if p) for row in shares])
    assert "clients: 5, of them 0 without data\n" in shown
    assert f"examples: {min(clients.sizes)} to {max(clients.sizes)}, " in shown
    assert f"labels: {entropy:.3f} bits, mean\n" in shown
    assert f"total-variation distance to all labels: {distance:.3f}, mean\n" in shown
    assert Path("shards.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", PARTITIONS)
def test_every_partition_is_shown(capsys, name):
    source = ["--dataset", "synthetic"] if name == "natural" else []
    arguments = ["partition", "show", "--partition", name, *source, "--num-clients", "5"]
    assert main([*arguments, "--out", "it.png"]) == 0
    shown = capsys.readouterr().out
    for said in ("clients: 5, ", "examples: ", "labels: ", "distance to all labels: "):
        assert said in shown
    assert Path("it.png").read_bytes().startswith(b"\x89PNG")
    shifts = ("noise", "rotation", "colour")
    assert ("inputs: shifted client by client, which labels do not" in shown) == (name in shifts)
