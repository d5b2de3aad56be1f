"""`fedjax-ecgr report`: what it prints, writes and refuses."""

import csv
import os
from pathlib import Path

import pytest

from fedjax_ecgr.cli import main
from tests.reports.studies import grid, member, results, write_study
from tests.test_cli import refused


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")


@pytest.fixture
def whole():
    return write_study(Path("study"), grid(broken={(0.2, 1.0, 3)}))


def test_the_table_is_printed_and_nothing_written(whole, capsys):
    assert main(["report", "study"]) == 0
    out = capsys.readouterr().out
    assert "4 of 5, 1 diverged" in out
    assert "the same with regulator=identity" in out
    assert os.listdir() == ["study"]


def test_everything_is_written_to_a_new_folder(whole, capsys):
    options = ["--target-accuracy", "0.6", "--out", "made/report"]
    assert main(["report", "study", *options]) == 0
    assert capsys.readouterr().out.endswith("report: made/report\n")
    drawn = [
        f"{name}.{form}"
        for name in (
            "curves",
            "difference-regulator.beta-partition.alpha",
            "map-regulator.beta-partition.alpha",
        )
        for form in ("png", "svg")
    ]
    texts = ["members.csv", "report.html", "scores.csv", "tables.md", "tables.tex"]
    assert sorted(os.listdir("made/report")) == sorted([*drawn, *texts])
    page = Path("made/report/report.html").read_text()
    assert "<title>study</title>" in page
    assert "rounds to 60 %" in Path("made/report/tables.md").read_text()
    with open("made/report/members.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 30


def test_shards_say_what_the_whole_says(whole, capsys):
    for name, seeds in (("one", range(3)), ("two", range(2, 5))):
        write_study(Path(name), grid(seeds=seeds, broken={(0.2, 1.0, 3)}))
    assert main(["report", "study"]) == 0
    expected = capsys.readouterr().out
    assert main(["report", "one", "two"]) == 0
    # in another order of seeds, which no mean depends on but by rounding
    assert capsys.readouterr().out == expected


def test_another_baseline(whole, capsys):
    assert (
        main(["report", "study", "--against", "regulator=ecgr", "--against", "regulator.beta=0.5"])
        == 0
    )
    out = capsys.readouterr().out
    assert "the same with regulator=ecgr, regulator.beta=0.5" in out
    assert "-5.0" in out


def test_some_values_alone_say_what_a_study_of_them_says(whole, capsys):
    write_study(Path("few"), grid(seeds=(0, 3), broken={(0.2, 1.0, 3)}))
    assert main(["report", "few"]) == 0
    expected = capsys.readouterr().out
    assert main(["report", "study", "--only", "seed=0", "--only", "seed=3"]) == 0
    assert capsys.readouterr().out == expected
    options = ["--only", "regulator=identity", "--only", "partition.alpha=0.1"]
    assert main(["report", "study", *options]) == 0
    assert "ecgr" not in capsys.readouterr().out


def test_a_narrow_terminal_loses_nothing(whole, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["report", "study", "--target-accuracy", "0.6"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert out.count("5/0/0") == 3
    assert out.count("4/0/0") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere"], "folder: 'nowhere' is not allowed, it must be a recorded study"),
        (["study", "--out", "study"], "out: 'study' exists, it must be a new name"),
        (["study", "--target-accuracy", "70"], "target_accuracy: 70.0 is not allowed"),
        (["study", "--target-accuracy", "high"], "target_accuracy: 'high' is not a number"),
        (["study", "--against", "regulator"], "it must be AXIS=VALUE, such as regulator=identity"),
        (["study", "--against", "seed=1"], "against: 'seed' is no axis of the methods"),
        (["study", "--against", "regulator=x"], "against: regulator=x is not allowed, no method"),
        (["study", "--only", "seed"], "only: 'seed' is not allowed, it must be AXIS=VALUE"),
        (["study", "--only", "seeds=1"], "only: 'seeds' is no option of members, did you mean"),
        (["study", "--only", "seed=7"], "only: seed=7 is not allowed, no member has it (values: 0"),
        (
            ["study", "--only", "regulator=identity", "--only", "regulator.beta=0.5"],
            "only: these values are not allowed together",
        ),
        (
            ["study", "--against", "regulator=ecgr", "--against", "regulator=identity"],
            "against: 'regulator' has 2 values, it must have one",
        ),
        (["study", "other"], "differ from one folder to another"),
    ],
)
def test_bad_input_is_one_line(whole, capsys, options, said):
    changed = grid()
    changed.history["test_accuracy"][-1] += 0.1
    write_study(Path("other"), changed)
    assert said in refused(capsys, "report", *options)


def test_a_study_that_has_just_begun(capsys):
    write_study(
        Path("study"), results(["seed"], [member("running", [0.1], seed=s) for s in (0, 1)])
    )
    assert main(["report", "study", "--out", "made"]) == 0
    assert "0 of 2" in capsys.readouterr().out
    assert "curves.png" in os.listdir("made")
