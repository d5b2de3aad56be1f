"""What the tables of the claims say, of runs made up by hand; what the pages say, of each other."""

import re
from pathlib import Path

import numpy as np
import pytest

from experiments import claims
from fedjax_ecgr import reports
from tests.reports import studies

ALPHA = "partition.alpha"
DOCS = Path(__file__).parents[2] / "docs"
COLUMNS = {  # of the claims' table: the study in the evidence, and of which of its columns
    "Fashion-MNIST": ("By the published schedule", ""),
    "Fashion-MNIST, tuned": ("Fashion-MNIST, 6,000 images", ""),
    "digits": ("Digits: four algorithms", ""),
    "digits, settings": ("When?", ""),
    "synthetic, tuned": ("synthetic(α, β)", ""),
    "synthetic, one step size": ("The eight published combinations", "dataset=synthetic"),
    "digits, one step size": ("The eight published combinations", "dataset=digits"),
}
ROWS = {
    "higher accuracy": ("mean of last ten (%) ↑, difference", 1),
    "faster convergence": ("mean accuracy on the way (%) ↑, difference", 1),
    "less oscillation": ("oscillation (%) ↓, difference", -1),
    "less divergence": ("divergence, difference", -1),
    "lower variance": ("gradient variance, difference", -1),
    "better for the worst clients": ("worst clients (%) ↑, difference", 1),
}
INTERVAL = re.compile(r"\[([+-][\d.]+), ([+-][\d.]+)\], \d+/\d+/\d+$")


def results(accuracies, diverged=()):
    """Of `(regulator, α, seed) -> accuracy`, after one round; some diverged in it."""
    members = [
        studies.member(
            "diverged" if key in diverged else "finished", [accuracy], regulator=key[0],
            partition__alpha=key[1], seed=key[2],
        )
        for key, accuracy in accuracies.items()
    ]  # fmt: skip
    return studies.results(("regulator", ALPHA, "seed"), members)


def texts(table):
    return [[entry.text for entry in row] for row in table.rows]


def test_failures_are_counted_by_pairs_and_tested_by_seeds():
    accuracies = {
        ("identity", 0.1, 0): 0.9, ("ecgr", 0.1, 0): 0.9,
        ("identity", 0.1, 1): 0.1, ("ecgr", 0.1, 1): 0.15,
        ("identity", 0.1, 2): 0.1, ("ecgr", 0.1, 2): 0.9,
        ("identity", 0.5, 0): 0.8, ("ecgr", 0.5, 0): 0.7,
        ("identity", 0.5, 1): 0.19, ("ecgr", 0.5, 1): 0.21,
        ("identity", 0.5, 2): 0.9,  # without a pair
        ("identity", 0.5, 3): 0.8, ("ecgr", 0.5, 3): 0.1,
        ("identity", 0.5, 4): 0.8, ("ecgr", 0.5, 4): 0.7,
    }  # fmt: skip
    found = claims.of_failures(results(accuracies, diverged=[("identity", 0.5, 0)]))
    # without: 1, 2, 5 low and 4 diverged; with ECGR: 2 and 6; by seeds p = 2 (1 + 4) / 2⁴
    assert texts(found) == [["7", "4", "2", "3", "1", "3/1/1", "0.62"]]
    assert found.rows[0][-1].value == pytest.approx(0.625)


def test_a_study_without_pairs_has_no_failures():
    found = claims.of_failures(results({("ecgr", 0.1, 0): 0.1}))
    assert texts(found) == [["0", "0", "0", "0", "0", "0/0/0", "1"]]


def test_growth_is_the_difference_of_differences_by_seed():
    accuracies = {
        (regulator, alpha, seed): 0.5 + 0.01 * seed + gain * (regulator == "ecgr")
        for alpha, gains in ((0.1, (0.03, 0.05)), (100.0, (0.01, 0.01)))
        for seed, gain in enumerate(gains)
        for regulator in ("identity", "ecgr")
    }
    found = claims.of_growth(reports.study(results(accuracies)), ALPHA, 0.1, 100.0)
    ((label, more),) = found.rows
    assert label.text == "fedavg + ecgr"
    assert more.value == pytest.approx(3.0)  # points: 3 − 1 and 5 − 1
    assert more.text == "+3.00 [+2.00, +4.00], 2/0/0"


def test_some_members_alone_keep_their_rounds():
    whole = results({("ecgr", 0.1, seed): 0.1 * seed for seed in range(4)})
    some = reports.only(whole, np.array([3, 1]))
    assert some.members["seed"].tolist() == [3, 1]
    _, one, _, three = whole.members["member"]
    assert sorted(some.history["member"]) == sorted([one, three])
    assert reports.by_member(some)[three]["test_accuracy"] == pytest.approx([0.3])
    assert some.axes == whole.axes


def part(text, mark, title):
    """Returns what stands under the one heading that begins so."""
    (found,) = (p for p in text.split(f"\n{mark} ")[1:] if p.startswith(title))
    return found.removeprefix(title)


def table(text):
    """Returns the first table of a text, as a row's cells by the names of its columns."""
    lines = text[text.index("| ") :].split("\n\n")[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in rows]


def signs(rows, column, better):
    """Yields what each interval is: 1 for the claim, 0 or -1; two where it ends at a rounded 0."""
    for row in rows:
        for name, cell in row.items():
            if column in name and (ends := INTERVAL.search(cell)):
                low, high = sorted(better * float(end) for end in ends.groups())
                strict = (low > 0) - (high < 0)
                yield {strict, (low >= 0) - (high <= 0)}


@pytest.mark.parametrize("claim", ROWS)
def test_the_claims_count_the_intervals_of_the_evidence(claim):
    evidence = "\n" + (DOCS / "evidence.md").read_text()
    verdicts = part((DOCS / "claims.md").read_text(), "##", "Verdicts")
    (said,) = (r for r in table(verdicts.split("In how many cells")[1]) if r["claim"] == claim)
    title, better = ROWS[claim]
    for column, (study, of) in COLUMNS.items():
        rows = table(part(part(evidence, "##", study), "###", f"{title}\n"))
        found = list(signs(rows, of, better))
        told = [int(count) for count in said[column].split("/")]
        assert sum(told) == len(found), column
        for sign, count in zip((1, 0, -1), told, strict=True):
            sure = sum(sign in each and len(each) == 1 for each in found)
            assert sure <= count <= sum(sign in each for each in found), column
