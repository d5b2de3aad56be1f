"""Tables: each number by hand, in every form; the best in bold, and never a run that is missing."""

import csv
import io
import itertools
import math

import numpy as np
import pytest
import rich.console

from fedjax_ecgr.reports import SCORES, scores, study, tables
from tests.reports.studies import grid, member, results

FINAL = SCORES["final_accuracy"]
CURVES = {  # by regulator and α; of seeds 0, 1, 2
    ("identity", 0.1): ([0.5], [0.6], [0.7]),
    ("ecgr", 0.1): ([0.6], [0.8], [0.7]),
    ("identity", 1.0): ([0.5], [0.6], [0.7]),
    ("ecgr", 1.0): ([0.9], [0.8], None),
}


def small():
    """Returns a study of two methods in two settings, in which one run diverged."""
    members = [
        member(
            "diverged" if curve is None else "finished",
            [0.4] if curve is None else curve,
            regulator=regulator,
            partition__alpha=alpha,
            seed=seed,
        )
        for (regulator, alpha), curves in CURVES.items()
        for seed, curve in enumerate(curves)
    ]
    return results(["regulator", "partition.alpha", "seed"], members)


def texts(table):
    return [[entry.text for entry in row] for row in table.rows]


def bold(table):
    return {(row, at) for row, line in enumerate(table.rows) for at, e in enumerate(line) if e.best}


def test_means_by_hand():
    table = tables.of_scores(study(small()), FINAL)
    assert table.headings == ("method", "alpha=0.1", "alpha=1.0", "IQM [95 %]")
    identity, ecgr = texts(table)
    assert identity[:3] == ["fedavg", "60.00 ± 10.00", "60.00 ± 10.00"]
    assert ecgr[:3] == ["fedavg + ecgr", "70.00 ± 10.00", "85.00 ± 7.07 (2 of 3, 1 diverged)"]
    assert identity[3].startswith("60.00 [")  # of 50 50 60 60 70 70 one of each end is cut
    assert ecgr[3].startswith("76.67 [")  # of 60 70 80 80 90: 70 80 80
    assert ecgr[3].endswith("] (5 of 6, 1 diverged)")
    assert "over 3 runs" in table.notes[0]
    assert table.notes[-1].startswith("1 of 12 runs did not finish, 1 diverged")


def test_the_best_is_bold_where_no_run_is_missing():
    table = tables.of_scores(study(small()), FINAL)
    assert bold(table) == {(1, 1)}  # in the other setting the best of all lacks a run
    lower = tables.of_scores(study(small()), FINAL._replace(higher_is_better=False))
    assert bold(lower) == {(0, 1)}
    neither = tables.of_scores(study(small()), FINAL._replace(higher_is_better=None))
    assert bold(neither) == set()
    equal = small()
    equal.members["status"][:] = "finished"
    equal.history["test_accuracy"][:] = 0.5
    assert bold(tables.of_scores(study(equal), FINAL)) == {(0, 1), (0, 2), (1, 1), (1, 2)}


def test_differences_by_hand():
    table = tables.of_differences(study(small()), FINAL)
    ((method, first, second, better),) = texts(table)
    assert method == "fedavg + ecgr"
    assert first.startswith("+10.00 [")  # 10, 20, 0
    assert first.endswith("], 2/1/0")
    assert second.startswith("+30.00 [")  # 40, 20
    assert second.endswith("], 2/0/0")
    # of 9 pairs 60 wins one and a half, 80 all three, 70 two and a half; then all of 6
    assert better.startswith(f"{np.mean([7 / 9, 1]):.2f} [")
    assert "from the same with regulator=identity" in table.notes[0]


def test_one_method_has_no_differences():
    one = results(["seed"], [member(seed=seed) for seed in range(3)])
    assert tables.of_differences(study(one), FINAL) is None
    table = tables.of_scores(study(one), FINAL)
    assert table.headings == ("method", "all", "IQM [95 %]")
    assert "difference" not in tables.overview(study(one), {"final": FINAL}).headings


def test_a_method_none_of_whose_runs_finished_is_there():
    dead = small()
    dead.members["status"][-3:] = "diverged"
    table = tables.of_scores(study(dead), FINAL)
    assert texts(table)[1][2:] == ["– (0 of 3, 3 diverged)", "–"]
    assert texts(tables.of_differences(study(dead), FINAL))[0][2] == "–"
    assert "in 1 of 2 settings" in texts(tables.of_differences(study(dead), FINAL))[0][3]


def test_a_target_that_some_runs_reach_says_how_many():
    reach = scores(0.65)["rounds_to_target"]
    identity, ecgr = texts(tables.of_scores(study(small()), reach))
    assert identity[1] == "1.0 (1 of 3)"
    assert ecgr[1] == "1.0 ± 0.0 (2 of 3)"
    assert bold(tables.of_scores(study(small()), reach)) == set()
    overview = tables.overview(study(small()), {"rounds": reach})
    assert texts(overview)[0][:4] == ["alpha=0.1", "fedavg", "3", "1.0 (1 of 3)"]


def test_cells_of_different_size_say_their_n():
    uneven = results(
        ["regulator", "seed"],
        [member(seed=s, curve=[0.5]) for s in range(3)]
        + [member(regulator="ecgr", seed=0, curve=[0.6])],
    )
    assert [row[1] for row in texts(tables.of_scores(study(uneven), FINAL))] == [
        "50.00 ± 0.00 (n = 3)",
        "60.00 (n = 1)",
    ]


def test_many_settings_go_down_the_page():
    alphas = [0.1 * k for k in range(1, 9)]
    table = tables.of_scores(study(grid(alphas=alphas, seeds=[0, 1])), FINAL)
    assert table.headings == ("setting", "method", "value")
    assert len(table.rows) == 3 * 8 + 3


def test_markdown_marks_the_best_and_escapes():
    text = tables.as_markdown(tables.of_scores(study(small()), FINAL))
    assert "| fedavg + ecgr | **70.00 ± 10.00** | 85.00 ± 7.07 (2 of 3, 1 diverged) |" in text
    assert text.startswith("## final accuracy (%) ↑\n\n| method |")


def test_latex_is_well_formed_and_escaped():
    row = (tables.Entry("[a]{b}\\c"), tables.Entry("-1.5", best=True))
    odd = tables.Table("50 % & more", ("m_e", "x^2"), (row,), 1, ("#1 costs 2$ ~ 3 <4>",))
    text = tables.as_latex(odd)
    assert r"\caption{50 \% \& more. \#1 costs 2\$ \textasciitilde{} 3 $<$4$>$}" in text
    assert r"m\_e & x\textasciicircum{}2 \\" in text
    assert r"{[}a]\{b\}\textbackslash{}c & \textbf{$-$1.5} \\" in text
    several = tables.all_of(study(small()), scores(0.65))
    assert len(several) == 12
    for made in itertools.chain(*several.values()):
        lines = tables.as_latex(made).splitlines()
        body = [line for line in lines if line.endswith(r"\\")]
        assert {line.count(" & ") for line in body} == {len(made.headings) - 1}
        assert rf"\begin{{tabular}}{{l{'r' * (len(made.headings) - 1)}}}" in lines
        assert "".join(lines).count("{") == "".join(lines).count("}")
        assert "".join(lines).isascii()


def test_csv_has_full_precision_and_every_cell():
    found = list(csv.DictReader(io.StringIO(tables.csv_of_scores(study(small()), scores(0.65)))))
    assert len(found) == 2 * 2 * 12
    row = next(
        r
        for r in found
        if r["method"] == "fedavg + ecgr"
        and r["partition.alpha"] == "1.0"
        and r["measure"] == "final_accuracy"
    )
    assert [row[n] for n in ("runs", "finished", "diverged", "n")] == ["3", "2", "1", "2"]
    assert float(row["mean"]) == np.mean([0.9, 0.8])
    assert float(row["std"]) == np.std([0.9, 0.8], ddof=1)
    assert float(row["difference"]) == pytest.approx(0.3, abs=1e-15)
    assert [row[n] for n in ("baseline", "above", "equal", "below")] == ["fedavg", "2", "0", "0"]


def test_csv_of_members_leaves_nobody_out():
    text = tables.csv_of_members(small(), scores(0.65))
    found = list(csv.DictReader(io.StringIO(text)))
    assert [row["status"] for row in found].count("diverged") == 1
    assert [float(row["final_accuracy"]) for row in found][:3] == [0.5, 0.6, 0.7]
    assert [row["rounds_to_target"] for row in found][:3] == ["", "", "1.0"]
    assert found[-1]["diverged_in_round"] == "2.0"


def test_a_terminal_shows_what_markdown_does():
    console = rich.console.Console(width=200, file=io.StringIO())
    console.print(tables.as_rich(tables.of_scores(study(small()), FINAL)))
    shown = console.file.getvalue()
    for row in texts(tables.of_scores(study(small()), FINAL)):
        assert all(text in shown for text in row)


def test_a_measure_that_nobody_has_is_left_out():
    without = small()
    without.history["seconds"][:] = 0
    without.history["client_accuracy_worst"][:] = math.nan
    there = tables.all_of(study(without), scores(0.65)).keys()
    assert scores(0.65).keys() - there == {"seconds_to_target", "worst_client_accuracy"}
