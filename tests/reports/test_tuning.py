"""Numbers that validation examples choose, against a plain search."""

import itertools
import math

import numpy as np
import pytest

from fedjax_ecgr import reports
from fedjax_ecgr.check import InputError
from fedjax_ecgr.cli import main
from fedjax_ecgr.reports import tuning
from tests.reports.studies import grid, member, results, write_study

RATES = (0.01, 0.05, 0.1)


def validated(made, seed=0):
    """Returns results with validation accuracies that have nothing to do with the test's."""
    rng = np.random.default_rng(seed)
    made.history["validation_accuracy"][:] = rng.uniform(size=len(made.history["round"]))
    return made


@pytest.fixture
def study():
    return validated(grid(rates=RATES, lasts=12))


def searched(made):
    """Returns by regulator, β and α the rate whose runs are best on average, and that average."""
    histories, best = reports.by_member(made), {}
    columns = ("regulator", "regulator.beta", "partition.alpha", "algorithm.learning_rate")
    values = list(zip(*(made.members[name] for name in columns), strict=True))
    for where in dict.fromkeys(v[:3] for v in values):
        means = {}
        for rate in RATES:
            names = [
                name
                for name, v in zip(made.members["member"], values, strict=True)
                if v == (*where, rate)
            ]
            last = [np.mean(histories[name]["validation_accuracy"][-10:]) for name in names]
            means[rate] = float(np.mean(last))
        best[where] = max(means.items(), key=lambda item: item[1])
    return best


def test_the_best_on_validation_is_chosen_for_each_method_in_each_setting(study):
    found = reports.tune(study, ["algorithm.learning_rate"])
    expected = searched(study)
    assert len({rate for rate, _ in expected.values()}) > 1  # not one for all
    assert {one.where: one.values[0] for one in found.choices} == {
        where: rate for where, (rate, _) in expected.items()
    }
    for one in found.choices:
        assert one.scores[one.values] == pytest.approx(expected[one.where][1], abs=1e-12)
        assert len(one.scores) == len(RATES)


def test_all_seeds_of_the_chosen_stay_and_nothing_else(study):
    found = reports.tune(study, ["algorithm.learning_rate"]).results
    assert found.axes == ("regulator", "regulator.beta", "partition.alpha", "seed")
    kept = set(found.members["member"])
    assert len(kept) == len(study.members["member"]) // len(RATES)
    assert set(found.history["member"]) == kept
    laid_out = reports.study(found)
    assert [method.label for method in laid_out.methods] == [
        "fedavg", "fedavg + ecgr, beta=0.2", "fedavg + ecgr, beta=0.5"
    ]  # fmt: skip
    assert all(len(cell.members) == 5 for cell in laid_out.cells.values())
    assert laid_out.difference(1, 0, reports.SCORES["final_accuracy"]).number == 5


def test_several_axes_are_chosen_together(study):
    found = reports.tune(study, ["regulator.beta", "algorithm.learning_rate"])
    assert found.tuned == ("regulator.beta", "algorithm.learning_rate")
    assert [one.where for one in found.choices] == [
        ("identity", 0.1), ("identity", 1.0), ("ecgr", 0.1), ("ecgr", 1.0)
    ]  # fmt: skip
    single = reports.tune(study, ["algorithm.learning_rate"])
    of = {one.where: one.scores[one.values] for one in single.choices}
    for one in found.choices:
        regulator, alpha = one.where
        betas = (None,) if regulator == "identity" else (0.2, 0.5)
        best = max(betas, key=lambda beta: of[regulator, beta, alpha])
        assert one.values[0] == best


def test_a_choice_of_which_a_run_diverged_comes_behind_the_others():
    members = [
        member("diverged" if (rate, seed) == (0.1, 1) else "finished", [0.5, rate],
               algorithm__learning_rate=rate, seed=seed)
        for rate, seed in itertools.product((0.05, 0.1), range(2))
    ]  # fmt: skip
    made = results(("algorithm.learning_rate", "seed"), members)
    made.history["validation_accuracy"][:] = made.history["test_accuracy"]
    (one,) = reports.tune(made, ["algorithm.learning_rate"]).choices
    assert one.values == (0.05,)
    assert one.scores[0.1,] > one.scores[0.05,]
    gone = [(options, "diverged", curve) for options, _, curve in members]
    gone = results(("algorithm.learning_rate", "seed"), gone)
    (one,) = reports.tune(gone, ["algorithm.learning_rate"]).choices
    assert math.isnan(one.scores[one.values])


def test_all_may_have_what_was_chosen_for_one(study):
    own = reports.tune(study, ["algorithm.learning_rate"])
    found = reports.tune(study, ["algorithm.learning_rate"], by={"regulator": "identity"})
    plain = {one.where[2]: one.values for one in own.choices if one.where[0] == "identity"}
    assert any(one.values != plain[one.where[2]] for one in own.choices)
    assert all(one.values == plain[one.where[2]] for one in found.choices)
    rates = found.results.members["algorithm.learning_rate"]
    alphas = found.results.members["partition.alpha"]
    assert all((rate,) == plain[alpha] for rate, alpha in zip(rates, alphas, strict=True))
    with pytest.raises(InputError, match="by: regulator=none is not allowed"):
        reports.tune(study, ["algorithm.learning_rate"], by={"regulator": "none"})


def test_equal_choices_the_first_one_has():
    made = validated(grid(rates=RATES))
    made.history["validation_accuracy"][:] = 0.5
    found = reports.tune(made, ["algorithm.learning_rate"])
    assert {one.values for one in found.choices} == {(RATES[0],)}


def test_the_table_says_what_was_chosen_and_what_was_next(study):
    found = reports.tune(study, ["algorithm.learning_rate"])
    table = tuning.of_choices(found)
    assert table.headings[:2] == ("of", "algorithm.learning_rate")
    for row, one in zip(table.rows, found.choices, strict=True):
        others = [s for v, s in one.scores.items() if v != one.values]
        assert [entry.text for entry in row[1:]] == [
            f"{one.values[0]:g}",
            f"{100 * one.scores[one.values]:.2f}",
            f"{100 * max(others):.2f}",
        ]


@pytest.mark.parametrize(
    ("axis", "said"),
    [
        ("learning_rate", "'learning_rate' is no axis of the study"),
        ("seed", "'seed' is no axis of the study"),
    ],
)
def test_an_axis_that_is_none_is_refused(study, axis, said):
    with pytest.raises(InputError, match=said):
        reports.tune(study, [axis])


def test_without_validation_nothing_is_chosen():
    made = grid(rates=RATES)
    made.history["validation_accuracy"][:] = math.nan
    with pytest.raises(InputError, match="no validation accuracy; --validation-fraction"):
        reports.tune(made, ["algorithm.learning_rate"])


def test_the_command_tunes_and_says_so(tmp_path, monkeypatch, capsys, study):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    write_study(tmp_path / "study", study)
    assert main(["report", "study", "--tune", "algorithm.learning-rate", "--out", "made"]) == 0
    out = capsys.readouterr().out
    assert "Chosen: algorithm.learning_rate" in out
    assert "learning_rate=" not in out  # no method is called by it any longer
    for name in ("tables.md", "report.html"):
        assert "Chosen: algorithm.learning_rate" in (tmp_path / "made" / name).read_text()
    assert len((tmp_path / "made" / "members.csv").read_text().splitlines()) == 31


def test_a_study_recorded_before_there_was_validation_is_read(tmp_path):
    made = grid()
    for name in ("validation_loss", "validation_accuracy"):
        del made.history[name]
    read = reports.read(write_study(tmp_path / "study", made))
    assert np.isnan(read.history["validation_accuracy"]).all()
    np.testing.assert_array_equal(read.history["test_accuracy"].size, made.history["round"].size)
