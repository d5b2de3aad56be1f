"""Members become methods, settings and pairs; what did not finish is counted and in nothing."""

import itertools

import numpy as np
import pytest

from fedjax_ecgr import InputError
from fedjax_ecgr.reports import SCORES, study
from fedjax_ecgr.reports.study import METHOD_KINDS, SETTING_KINDS
from fedjax_ecgr.runs.config import LISTINGS
from tests.reports.studies import grid, member, results

FINAL = SCORES["final_accuracy"]


def made(axes, *options, **common):
    return results(axes, [member(**o, **common) for o in options])


def compared(found):
    """Returns each method's label with that of its baseline."""
    labels = [method.label for method in found.methods]
    return {
        label: None if base is None else labels[base]
        for label, base in zip(labels, found.baseline, strict=True)
    }


def test_every_kind_is_of_a_method_or_a_setting():
    assert sorted(METHOD_KINDS + SETTING_KINDS) == sorted(LISTINGS)


def test_axes_are_of_methods_settings_or_seeds():
    axes = [
        "algorithm", "regulator.beta", "top_k.share", "flip.probability", "aggregator",
        "partition", "partition.alpha", "model", "attack.scale", "num_clients", "rounds",
        "seed", "partition_seed", "data_seed",
    ]  # fmt: skip
    names = [axis.replace(".", "__") for axis in axes]
    others = [dict.fromkeys(names, 1) | {name: 2} for name in names]  # each by itself
    found = study(made(axes, dict.fromkeys(names, 1), *others))
    assert found.method_axes == ("algorithm", "aggregator", *axes[1:4])  # kinds first
    assert found.setting_axes == ("partition", "model", "partition.alpha", *axes[8:11])


def test_what_follows_from_other_axes_is_no_axis_of_its_own():
    axes = ["model", "num_clients", "algorithm.learning_rate", "regulator", "seed"]
    found = study(
        made(
            axes,
            *(
                {
                    "model": model,
                    "num_clients": clients,
                    "algorithm__learning_rate": rate,
                    "regulator": regulator,
                    "seed": seed,
                }
                for model, clients, rate in (("mlp", 10, 0.1), ("lenet", 20, 0.01))
                for regulator in ("identity", "ecgr")
                for seed in range(2)
            ),
        )
    )
    assert [m.label for m in found.methods] == ["fedavg", "fedavg + ecgr"]
    assert [s.label for s in found.settings] == ["model=mlp", "model=lenet"]
    assert {cell.told for cell in found.cells.values()} == {"2"}


def test_a_grid_has_its_methods_settings_and_members():
    found = study(grid(broken={(0.2, 1.0, 3)}))
    assert [m.label for m in found.methods] == [
        "fedavg",
        "fedavg + ecgr, beta=0.2",
        "fedavg + ecgr, beta=0.5",
    ]
    assert [s.label for s in found.settings] == ["alpha=0.1", "alpha=1.0"]
    assert {at: cell.told for at, cell in found.cells.items()} == {
        (m, s): "4 of 5, 1 diverged" if (m, s) == (1, 1) else "5"
        for m, s in itertools.product(range(3), range(2))
    }
    assert found.against == "the same with regulator=identity"
    assert found.baseline == (None, 0, 0)


def test_a_running_member_is_counted_and_in_no_mean():
    run = made(["seed"], {"seed": 0}, {"seed": 1, "status": "running"})
    (cell,) = study(run).cells.values()
    assert cell.told == "1 of 2"
    assert cell.values(FINAL) == {(0,): 0.5}


def test_differences_are_of_pairs_that_both_finished():
    recorded = grid(broken={(0.2, 1.0, 3), (None, 1.0, 1)})
    found = study(recorded)
    difference = found.difference(1, 1, FINAL)
    last = dict(zip(recorded.history["member"], recorded.history["test_accuracy"], strict=True))
    columns = recorded.members
    by_seed = {
        (columns["regulator.beta"][row], columns["seed"][row]): last[columns["member"][row]]
        for row in range(len(columns["member"]))
        if columns["partition.alpha"][row] == 1.0
    }
    by_hand = [100 * (by_seed[0.2, seed] - by_seed[None, seed]) for seed in (0, 2, 4)]
    assert difference.number == 3
    assert difference.mean == pytest.approx(np.mean(by_hand), abs=1e-9)
    assert found.difference(0, 1, FINAL) is None


def test_seeds_pair_whatever_their_order():
    run = made(
        ["regulator", "seed", "partition_seed"],
        {"seed": 0, "partition_seed": 1, "curve": [0.3]},
        {"seed": 1, "partition_seed": 0, "curve": [0.5]},
        {"regulator": "ecgr", "seed": 1, "partition_seed": 0, "curve": [0.7]},
        {"regulator": "ecgr", "seed": 0, "partition_seed": 1, "curve": [0.4]},
        {"regulator": "ecgr", "seed": 0, "partition_seed": 0, "curve": [0.9]},
    )
    difference = study(run).difference(1, 0, FINAL)
    assert (difference.number, difference.wins) == (2, 2)
    assert difference.mean == pytest.approx(15)


def test_the_baseline_has_the_same_algorithm_and_step_size():
    options = [
        {
            "algorithm": algorithm,
            "algorithm__mu": mu,
            "regulator": regulator,
            "regulator__beta": beta,
        }
        for algorithm, mu in (("fedavg", None), ("fedprox", 0.1), ("fedprox", 1.0))
        for regulator, beta in (("identity", None), ("ecgr", 0.2), ("ecgr", 0.5))
    ]
    axes = ["algorithm", "algorithm.mu", "regulator", "regulator.beta"]
    assert compared(study(made(axes, *options))) == {
        "fedavg": None,
        "fedavg + ecgr, beta=0.2": "fedavg",
        "fedavg + ecgr, beta=0.5": "fedavg",
        "fedprox, mu=0.1": None,
        "fedprox + ecgr, mu=0.1, beta=0.2": "fedprox, mu=0.1",
        "fedprox + ecgr, mu=0.1, beta=0.5": "fedprox, mu=0.1",
        "fedprox, mu=1.0": None,
        "fedprox + ecgr, mu=1.0, beta=0.2": "fedprox, mu=1.0",
        "fedprox + ecgr, mu=1.0, beta=0.5": "fedprox, mu=1.0",
    }
    against = compared(study(made(axes, *options), {"algorithm": "fedavg"}))
    assert against["fedprox + ecgr, mu=1.0, beta=0.2"] == "fedavg + ecgr, beta=0.2"
    assert against["fedavg + ecgr, beta=0.2"] is None
    precise = study(made(axes, *options), {"regulator": "ecgr", "regulator.beta": "0.20"})
    assert compared(precise)["fedprox, mu=0.1"] == "fedprox + ecgr, mu=0.1, beta=0.2"
    assert compared(precise)["fedavg + ecgr, beta=0.5"] == "fedavg + ecgr, beta=0.2"
    with pytest.raises(InputError, match=r"for \(fedavg\) it may be .*: say more"):
        study(made(axes, *options), {"regulator": "ecgr"})


def test_an_option_that_may_be_none_tells_methods_apart_all_the_same():
    options = [
        {"algorithm__momentum": momentum, "regulator": regulator}
        for momentum in (None, 0.9)
        for regulator in ("identity", "ecgr")
    ]
    assert compared(study(made(["algorithm.momentum", "regulator"], *options))) == {
        "fedavg": None,
        "fedavg + ecgr": "fedavg",
        "fedavg, momentum=0.9": None,
        "fedavg + ecgr, momentum=0.9": "fedavg, momentum=0.9",
    }


def test_transforms_are_compared_with_none_whatever_their_options():
    options = [
        {"transforms": "none", "top_k__share": None},
        {"transforms": "top_k", "top_k__share": 0.1},
        {"transforms": "top_k", "top_k__share": 0.2},
    ]
    found = study(made(["transforms", "top_k.share"], *options), {"transforms": "none"})
    assert compared(found) == {
        "fedavg": None,
        "fedavg + top_k, share=0.1": "fedavg",
        "fedavg + top_k, share=0.2": "fedavg",
    }


def test_without_a_plain_regulator_the_first_method_is_the_baseline():
    options = [{"algorithm": name} for name in ("fedavg", "fedprox", "scaffold")]
    found = study(made(["algorithm"], *options))
    assert compared(found) == {"fedavg": None, "fedprox": "fedavg", "scaffold": "fedavg"}
    assert found.against == "fedavg"
    assert study(made([], {})).baseline == (None,)


def test_labels_say_in_full_what_would_be_ambiguous():
    options = [
        {"algorithm__alpha": a, "regulator__alpha": b, "augmentations": c}
        for a, b, c in itertools.product((0.1, 0.2), (0.1, 0.2), ((), ("flip", "crop")))
    ]
    found = study(made(["algorithm.alpha", "regulator.alpha", "augmentations"], *options))
    assert [m.label for m in found.methods][2:4] == [
        "fedavg, augmentations=none, algorithm.alpha=0.1, regulator.alpha=0.2",
        "fedavg, augmentations=flip,crop, algorithm.alpha=0.1, regulator.alpha=0.2",
    ]


@pytest.mark.parametrize(
    ("against", "said"),
    [
        (
            {"regulatr": "identity"},
            "'regulatr' is no axis of the methods, did you mean 'regulator'?",
        ),
        (
            {"partition.alpha": "0.1"},
            r"no axis of the methods \(axes: regulator, regulator.beta\)",
        ),
        ({"regulator": "identty"}, r"no method has it \(values: identity, ecgr\)"),
    ],
)
def test_a_baseline_that_is_none_is_refused(against, said):
    with pytest.raises(InputError, match=said):
        study(grid(), against)


def test_members_that_no_axis_tells_apart_and_none_at_all_are_refused():
    with pytest.raises(InputError, match="are the same by all axes"):
        study(made(["seed"], {"rounds": 1}, {"rounds": 2}))
    nothing = grid(seeds=[0])
    empty = nothing._replace(members={n: c[:0] for n, c in nothing.members.items()})
    with pytest.raises(InputError, match="it must have at least one"):
        study(empty._replace(history={n: c[:0] for n, c in nothing.history.items()}))


def test_an_axis_that_members_do_not_have_is_refused():
    with pytest.raises(
        InputError, match=r"axes: 'top_k.share' is not allowed, members have no such"
    ):
        study(grid()._replace(axes=("top_k.share",)))


def test_a_lower_score_is_an_improvement_where_lower_is_better():
    found = study(grid())
    up, settings = found.improvement(2, FINAL)
    assert settings == 2
    down, _ = found.improvement(2, FINAL._replace(higher_is_better=False))
    assert up.value + down.value == pytest.approx(1)
    assert up.value > 0.5
    assert found.improvement(2, FINAL._replace(higher_is_better=None)) is None
    assert found.improvement(0, FINAL) is None
