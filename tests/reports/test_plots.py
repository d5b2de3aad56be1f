"""Figures: what is drawn is what was recorded, and told apart without colours too."""

import io
import itertools
import math

import numpy as np
import pytest

from fedjax_ecgr import InputError
from fedjax_ecgr.reports import SCORES, plots, study
from fedjax_ecgr.reports.curves import COLOURS, LINES, curve, style
from fedjax_ecgr.reports.statistics import paired
from tests.reports.studies import grid, member, results

FINAL = SCORES["final_accuracy"]
BROKEN = {(0.2, 1.0, 3)}


def of(recorded, beta, alpha, rate=0.05):
    """Returns [runs, rounds] accuracies of a cell's finished members, by plain loops."""
    columns, found = recorded.members, []
    for row, name in enumerate(columns["member"]):
        wanted = (columns["regulator.beta"][row], columns["partition.alpha"][row])
        if (
            wanted == (beta, alpha)
            and columns["algorithm.learning_rate"][row] == rate
            and columns["status"][row] == "finished"
        ):
            mine = recorded.history["member"] == name
            found.append(recorded.history["test_accuracy"][mine])
    return np.stack(found)


def test_a_curve_is_the_mean_of_the_finished_runs():
    recorded = grid(broken=BROKEN)
    found = curve(study(recorded).cells[1, 1])
    values = of(recorded, 0.2, 1.0)
    assert len(values) == 4
    np.testing.assert_allclose(found.mean, values.mean(axis=0), atol=1e-12)
    np.testing.assert_array_equal(found.rounds, np.arange(1, 21))
    last = paired(values[:, -1], np.zeros(4))
    assert found.low[-1] == pytest.approx(last.low, abs=0.1 * (last.high - last.low))
    assert found.high[-1] == pytest.approx(last.high, abs=0.1 * (last.high - last.low))


def test_a_curve_has_the_rounds_in_which_all_were_evaluated():
    nan = math.nan
    runs = [
        member(seed=0, curve=[nan, 0.4, nan, 0.6]),
        member(seed=1, curve=[0.1, 0.2, nan, 0.8]),
        member(seed=2, status="running", curve=[0.1]),
    ]
    found = curve(study(results(["seed"], runs)).cells[0, 0])
    np.testing.assert_array_equal(found.rounds, [2, 4])
    np.testing.assert_allclose(found.mean, [0.3, 0.7])
    one = curve(study(results(["seed"], runs[:1])).cells[0, 0])
    assert one.low is None
    assert curve(study(results(["seed"], runs[2:])).cells[0, 0]) is None
    assert curve(study(results(["seed"], [member(curve=[nan, nan])])).cells[0, 0]) is None


def test_lines_and_bands_are_drawn_where_they_belong():
    recorded = grid(broken=BROKEN)
    (figure,) = plots.accuracy_curves(study(recorded))
    assert [axes.get_title() for axes in figure.axes] == ["alpha=0.1", "alpha=1.0"]
    for alpha, axes in zip((0.1, 1.0), figure.axes, strict=True):
        assert len(axes.lines) == len(axes.collections) == 3
        for beta, line in zip((None, 0.2, 0.5), axes.lines, strict=True):
            mean = 100 * of(recorded, beta, alpha).mean(axis=0)
            np.testing.assert_allclose(line.get_ydata(), mean, atol=1e-9)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "fedavg",
        "fedavg + ecgr, beta=0.2 (9 of 10, 1 diverged)",
        "fedavg + ecgr, beta=0.5",
    ]


def test_methods_differ_in_colour_and_in_line():
    styles = [style(method) for method in range(28)]
    assert len(set(styles)) == len(COLOURS) * len(LINES)
    for one, next_ in itertools.pairwise(styles):
        assert one.colour != next_.colour
        assert one.line != next_.line


def test_many_settings_are_several_figures():
    study_ = study(grid(betas=(None,), alphas=np.arange(1, 15) / 10, seeds=[0], lasts=2))
    assert [len(figure.axes) for figure in plots.accuracy_curves(study_)] == [12, 2]


def shown(axes, ticks):
    """Returns a heat map's texts by (x, y) as the ticks of its first panel say."""
    xs = [t.get_text() for t in ticks.get_xticklabels()]
    ys = [t.get_text() for t in ticks.get_yticklabels()]
    return {
        (xs[int(t.get_position()[0])], ys[int(t.get_position()[1])]): t.get_text()
        for t in axes.texts
    }


def test_a_heat_map_has_every_mean():
    recorded = grid(rates=(0.01, 0.05), broken=BROKEN)
    (figure,) = plots.heat_maps(study(recorded), FINAL, "regulator.beta", "partition.alpha")
    *panels, _bar = figure.axes
    assert [axes.get_title() for axes in panels] == ["learning_rate=0.01", "learning_rate=0.05"]
    assert figure.get_suptitle() == "final accuracy (%) ↑; regulator=ecgr"
    for rate, axes in zip((0.01, 0.05), panels, strict=True):
        expected = {
            (f"{beta}", f"{alpha}"): f"{100 * of(recorded, beta, alpha, rate)[:, -1].mean():.2f}"
            for beta in (0.2, 0.5)
            for alpha in (0.1, 1.0)
        }
        expected["0.2", "1.0"] += "\n4 of 5"
        assert shown(axes, panels[0]) == expected
        grid_ = axes.images[0].get_array()
        assert grid_[0, 1] == pytest.approx(100 * of(recorded, 0.5, 0.1, rate)[:, -1].mean())


def test_a_heat_map_of_differences_notes_intervals_and_pairs():
    recorded = grid(broken=BROKEN)
    (figure,) = plots.heat_maps(
        study(recorded), FINAL, "regulator.beta", "partition.alpha", difference=True
    )
    found = shown(figure.axes[0], figure.axes[0])
    ours, theirs = of(recorded, 0.5, 0.1)[:, -1], of(recorded, None, 0.1)[:, -1]
    by_hand = paired(100 * ours, 100 * theirs)
    assert by_hand.low > 0
    expected = f"{by_hand.mean:+.2f}*\n[{by_hand.low:+.2f}, {by_hand.high:+.2f}]"
    assert found["0.5", "0.1"] == expected
    assert found["0.2", "1.0"].endswith("\n4 of 5")
    limits = figure.axes[0].images[0].get_clim()
    assert limits[0] == -limits[1]


def test_which_pairs_of_axes_are_worth_a_map():
    study_ = study(grid(rates=(0.01, 0.05), alphas=(0.1,)))
    assert plots.numeric_pairs(study_) == [("regulator.beta", "algorithm.learning_rate")]
    assert plots.numeric_pairs(study(grid(betas=(None, 0.2), alphas=(0.1,)))) == []


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ("regulator.bet", "partition.alpha", "x: 'regulator.bet' is not allowed, did you mean"),
        ("partition.alpha", "seed", "y: 'seed' is not allowed, it must be one of: regulator"),
        ("partition.alpha", "partition.alpha", "it must be another axis than x"),
    ],
)
def test_axes_that_are_none_are_refused(x, y, said):
    with pytest.raises(InputError, match=said):
        plots.heat_maps(study(grid(seeds=[0])), FINAL, x, y)


def test_figures_are_the_same_each_time_and_nobody_s_run_breaks_them():
    dead = grid(seeds=[0, 1])
    dead.members["status"][:] = "running"
    found = study(dead)
    assert plots.heat_maps(found, FINAL, "regulator.beta", "partition.alpha") == []
    for form, begins in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        twice = []
        for _ in range(2):
            file = io.BytesIO()
            plots.save(plots.accuracy_curves(found)[0], file, form)
            twice.append(file.getvalue())
        assert twice[0] == twice[1]
        assert twice[0].startswith(begins)
