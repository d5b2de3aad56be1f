"""What is claimed of ECGR, each where it could fail: methods tuned alike, compared seed by seed.

Commands:  python -m experiments.claims [STUDY …] [--write]
           python -m experiments.claims published --out runs/cifar10 --model bncnn \
             --dataset '{ name = "tfds", data-name = "cifar10" }'
Set-ups:   the functions of `STUDIES`. Every method's step size is that which examples choose that
           nobody trains on; what compares only at one step size (divergence, variance, oscillation)
           is compared at the one chosen for the method without ECGR. Ten seeds, each with a
           partition of its own (on synthetic data: a draw of the data) that all methods meet.
Hardware:  2 CPU cores, with other work beside it: 1,920 of the runs of `when` took 12 minutes, and
           480 of those of `synthetic` seven.
Result:    docs/claims.md, from docs/evidence.md, which `--write` makes of what is recorded.

What ended stays: the same command goes on. Fashion-MNIST is Debian's package, see docs/data.md.
`published` is run only where it is named; it takes any data there is: MNIST, CIFAR-10, LC25000 ….
"""

import io
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from scipy import stats

from experiments import controls
from experiments.fashion_mnist import DEBIAN
from fedjax_ecgr import InputError, check, datasets, keep_programs, reports, sweeps
from fedjax_ecgr.devices import use_all_cores
from fedjax_ecgr.files import write
from fedjax_ecgr.reports import Results, Score, Study, plots, tables, tuning
from fedjax_ecgr.reports.results import DIVERGED, MEMBER, STATUS
from fedjax_ecgr.reports.statistics import paired
from fedjax_ecgr.reports.tables import Entry
from fedjax_ecgr.sweep_commands import run_study

ALGORITHMS = ["fedavg", "fedprox", "fednova", "scaffold"]
REGULATORS = ["identity", "ecgr"]
SEEDS = {"first": 0, "last": 9}
RATE = "algorithm.learning_rate"
DIGITS = {
    "dataset": "digits",
    "validation-fraction": 0.1,
    "partition": "dirichlet",
    "model": {"name": "mlp", "hidden": [64]},
    "num-clients": 10,
    "rounds": 50,
}
PUBLISHED = Path(__file__).with_name("published.toml")
COMBINATIONS = Path(__file__).with_name("combinations.toml")
LENET_RATES = {
    "fedavg": [0.002, 0.01, 0.05, 0.15],
    "scaffold": [0.002, 0.005, 0.01, 0.02, 0.05],  # with 0.01 some runs fail, with 0.05 most
}
SMALL = (6_000, 2_000)  # training and test images of Fashion-MNIST, the first ones


class Given(NamedTuple):
    """What the studies are made of.

    Attributes:
      folder: of all studies.
      own: dataset and model of `published`, as a study file says them, in place of its own.
    """

    folder: Path
    own: Mapping[str, Any]


class Asked(NamedTuple):
    """A study and what is made of it.

    Attributes:
      title: what the page calls it.
      study: what is run.
      maps: pairs of axes over which the difference is drawn.
      against: the method that all others are compared with; by default each with its own regulator
        identity.
      ends: an axis, and its values where clients' data differ most and least.
    """

    title: str
    study: sweeps.Study
    maps: tuple[tuple[str, str], ...] = ()
    against: Mapping[str, str] | None = None
    ends: tuple[str, float, float] | None = None


def digits(given: Given) -> Asked:
    """All base algorithms over four degrees of label skew."""
    del given
    return Asked(
        "Digits: four algorithms, label skew",
        sweeps.study(
            DIGITS,
            grid={
                "algorithm": ALGORITHMS,
                "regulator": REGULATORS,
                "partition.alpha": [0.01, 0.1, 0.5, 100.0],
                "learning-rate": [0.005, 0.02, 0.05, 0.2, 0.5, 1.0, 2.0],
                "seed": SEEDS,
            },
        ),
        ends=("partition.alpha", 0.01, 100.0),
    )


def synthetic(given: Given) -> Asked:
    """All base algorithms over three degrees of heterogeneity, with many local steps."""
    del given
    return Asked(
        "synthetic(α, β): four algorithms, 30 clients, 10 a round, 5 local epochs",
        sweeps.study(
            {
                "dataset": "synthetic",
                "max-size": 400,
                "validation-fraction": 0.1,
                "partition": "natural",
                "model": "logistic_regression",
                "num-clients": 30,
                "cohort-size": 10,
                "batch-size": 10,
                "local-epochs": 5,
                "rounds": 100,
                "eval-every": 2,
            },
            grid={
                "algorithm": ALGORITHMS,
                "regulator": REGULATORS,
                "learning-rate": [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03],
                "seed": SEEDS,
            },
            zip={"dataset.alpha": [0.0, 0.5, 1.0], "dataset.beta": [0.0, 0.5, 1.0]},
        ),
        ends=("dataset.alpha", 1.0, 0.0),
    )


def combinations(given: Given) -> Asked:
    """The eight published combinations, at one step size each."""
    del given
    return Asked(
        "The eight published combinations, at one step size: digits, synthetic(1, 1)",
        sweeps.read(COMBINATIONS),
    )


def fashion(given: Given) -> Asked:
    """FedAvg and SCAFFOLD with LeNet on a tenth of Fashion-MNIST."""
    return Asked(
        "Fashion-MNIST, 6,000 images: LeNet, label skew",
        sweeps.study(
            {**_small_lenet(given.folder), "validation-fraction": 0.1},
            grid={
                "regulator": REGULATORS,
                "partition.alpha": [0.1, 0.5, 100.0],
                "seed": SEEDS,
            },
            list=[
                {"algorithm": name, "learning-rate": rate}
                for name, rates in LENET_RATES.items()
                for rate in rates
            ],
        ),
        ends=("partition.alpha", 0.1, 100.0),
    )


def when(given: Given) -> Asked:
    """FedAvg on digits: what of label skew, local work, step size and schedule decides."""
    del given
    return Asked(
        "When? Digits: label skew × local epochs × batch × momentum × schedule",
        sweeps.study(
            {**DIGITS, "algorithm.decay-every": 10},
            grid={
                "regulator": REGULATORS,
                "partition.alpha": [0.05, 0.5, 100.0],
                "local-epochs": [1, 10],
                "batch-size": [16, 128],
                "momentum": [0.0, 0.9],
                "algorithm.decay": [1.0, 0.5],
                "learning-rate": [0.005, 0.05, 0.15, 0.5, 1.5, 4.5],
                "seed": SEEDS,
            },
        ),
        maps=(("partition.alpha", "local_epochs"),),
    )


def what(given: Given) -> Asked:
    """What of ECGR does it? Controls, where training ends early and ECGR gains."""
    controls.enlist()
    plain, ecgr = {"algorithm": "fedavg"}, {"algorithm": "fedavg", "regulator": "ecgr"}
    return Asked(
        "What of it? Fashion-MNIST, 6,000 images, by a schedule that ends early: controls",
        sweeps.study(
            {
                **_small_lenet(given.folder),
                "partition.alpha": 0.1,
                "algorithm.decay": 0.5,
                "algorithm.decay-every": 5,
            },
            grid={"seed": SEEDS},
            list=[
                {**plain, "learning-rate": 0.005},
                {**ecgr, "learning-rate": 0.005},
                *(
                    {**plain, "regulator": name, "learning-rate": 0.005}
                    for name in ("random_steps", "turned", "damped", "shortened")
                ),
                *(
                    {**ecgr, "algorithm": name, "learning-rate": 0.005}
                    for name in ("plain_as_long", "ecgr_as_short")
                ),
                *(
                    {**plain, "learning-rate": 0.005, "algorithm.server-learning-rate": rate}
                    for rate in (1.25, 1.67, 2.5)
                ),
                *({**plain, "learning-rate": rate} for rate in (0.003, 0.00835)),  # × 0.6, × 1.67
            ],
        ),
        against={
            "algorithm": "fedavg",
            "regulator": "identity",
            RATE: "0.005",
            "algorithm.server_learning_rate": "1.0",
        },
    )


def published(given: Given) -> Asked:
    """All base algorithms by the paper's schedule, on any data."""
    study = tomllib.loads(PUBLISHED.read_text())
    grid = {**study.pop("grid"), "partition": {"alpha": [0.1]}, "seed": SEEDS}
    title = "By the published schedule" + ("" if given.own else ": LeNet on Fashion-MNIST")
    return Asked(title, sweeps.study(study | dict(given.own), grid=grid))


STUDIES: Mapping[str, Callable[[Given], Asked]] = {
    "digits": digits,
    "synthetic": synthetic,
    "combinations": combinations,
    "fashion": fashion,
    "when": when,
    "what": what,
    "published": published,
}
EVIDENCE = [name for name in STUDIES if name != "published"]

FAILED = 0.2
"""A run that ends with less accuracy learned nothing to speak of, of ten classes."""

AT_THEIR_BEST = ("last_ten_accuracy", "best_accuracy", "worst_client_accuracy", "on_the_way")
AT_ONE_RATE = ("divergence", "gradient_variance", "oscillation")


def _on_the_way(rows: Mapping[str, np.ndarray]) -> float:
    """Returns the mean test accuracy of all evaluations: how soon it is high."""
    return float(np.nanmean(rows["test_accuracy"])) if rows["round"].size else float("nan")


SCORES = reports.SCORES | {
    "on_the_way": Score("mean accuracy on the way", _on_the_way, "%", 100, 2, True)
}


def _small_lenet(folder: Path) -> dict[str, Any]:
    """LeNet on the first images of Fashion-MNIST, kept as an .npz file in a folder."""
    path = folder / "fashion-mnist-6000.npz"
    if not path.exists():
        data = datasets.idx(data_path=str(DEBIAN))
        arrays: dict[str, Any] = {
            f"{part}_{name}": np.asarray(getattr(examples, name)[:count])
            for part, examples, count in zip(
                ("train", "test"), (data.train, data.test), SMALL, strict=True
            )
            for name in ("inputs", "labels")
        }
        made = io.BytesIO()
        arrays |= {"mean": data.train.mean, "std": data.train.std}
        np.savez(made, **arrays)
        folder.mkdir(parents=True, exist_ok=True)
        write(path, lambda file: file.write(made.getvalue()))
    return {
        "dataset": {"name": "npz", "data-path": str(path)},
        "partition": "dirichlet",
        "model": "lenet",
        "num-clients": 10,
        "batch-size": 32,
        "rounds": 50,
        "eval-batch-size": 500,
    }


def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY…", help=", ".join(STUDIES))
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of all studies")] = Path("runs/claims"),
    pages: Annotated[bool, typer.Option("--write", help="docs/evidence.md of all of them")] = False,
    dataset: Annotated[
        str | None,
        typer.Option(help="of `published`, in place of Fashion-MNIST, as in a study file"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="of `published`, in place of LeNet")] = None,
) -> None:
    """Runs what is not recorded yet of the studies, and says what came of them."""
    for name in names or EVIDENCE:
        check.known("study", name, STUDIES)
    asked_of = {"dataset": dataset, "model": model}
    given = Given(out, {name: _written(text) for name, text in asked_of.items() if text})
    use_all_cores()
    keep_programs()
    asked_for = " ".join(["python -m experiments.claims", *(names or ()), "--write"])
    text = (
        f"# Evidence\n\n`{asked_for}` makes this page; what follows from it stands in "
        "[claims](claims.md).\n\n"
    )
    for name in names or EVIDENCE:
        asked = STUDIES[name](given)
        if stopped := run_study(asked.study, out / name):
            raise typer.Exit(stopped)
        results = recorded(out / name, asked.study)
        made = f"## {asked.title}\n\n{section(results, asked)}"
        print(made)
        text += made
        if pages:
            for number, figure in enumerate(drawn(results, asked.maps)):
                with open(f"docs/evidence-{name}-{number}.png", "wb") as file:
                    plots.save(figure, file, "png")
    if pages:
        write(Path("docs/evidence.md"), lambda file: file.write(text.encode()))


def _written(text: str) -> Any:
    """Returns a value as a study file writes it; a bare name is one."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def recorded(folder: Path, study: sweeps.Study) -> Results:
    """Returns what a folder has of a study, without what was once asked for besides."""
    members, axes = sweeps.members_of(study)
    results = reports.read(folder)
    asked = np.array([name in members for name in results.members[MEMBER]])
    return reports.only(results, asked)._replace(axes=axes)


def section(results: Results, asked: Asked) -> str:
    """Returns a study's tables of differences: at their best, and at one step size."""
    if RATE not in results.axes or None in results.members["validation_fraction"]:
        study = reports.study(results, asked.against)
        made = _differences(study, [*AT_THEIR_BEST, *AT_ONE_RATE])
        return _page(made if asked.against else [*made, of_failures(results)])
    own = reports.tune(results, [RATE])
    alike = reports.tune(results, [RATE], by={"regulator": "identity"})
    at_their_best = reports.study(own.results)
    made = [tuning.of_choices(own), *_differences(at_their_best, AT_THEIR_BEST)]
    if asked.ends is not None:
        made.append(of_growth(at_their_best, *asked.ends))
    made += _differences(reports.study(alike.results), AT_ONE_RATE)
    return _page([*made, of_failures(results)])


def of_growth(study: Study, axis: str, most: float, least: float) -> tables.Table:
    """Returns how much more the difference is where clients' data differ most than least.

    Args:
      study: methods and their baselines.
      axis: what says how much they differ.
      most: its value where they differ most.
      least: its value where they differ least.
    """
    score, at = SCORES["last_ten_accuracy"], study.setting_axes.index(axis)
    place = {group.values[at]: number for number, group in enumerate(study.settings)}

    def of_seeds(method: int, base: int, value: float) -> dict[Any, float]:
        ours, theirs = (study.cells[m, place[value]].values(score) for m in (method, base))
        return {seeds: ours[seeds] - theirs[seeds] for seeds in ours if seeds in theirs}

    rows = []
    for method, base in enumerate(study.baseline):
        if base is not None:
            here, there = (of_seeds(method, base, value) for value in (most, least))
            both = [seeds for seeds in here if seeds in there]
            more = paired(
                [score.scale * here[seeds] for seeds in both],
                [score.scale * there[seeds] for seeds in both],
            )
            rows.append((Entry(study.methods[method].label), Entry(str(more), more.mean)))
    return tables.Table(
        f"{score.heading}, difference at {axis} {most:g} less that at {least:g}",
        ("method", "all"),
        tuple(rows),
        1,
        ("Above 0 what ECGR gives grows with how much clients' data differ.",),
    )


def of_failures(results: Results) -> tables.Table:
    """Returns how many runs failed, at any step size, of pairs that differ by ECGR alone."""
    histories = reports.by_member(results)
    others = [axis for axis in results.axes if axis != "regulator"]
    failed: dict[tuple[Any, ...], dict[str, bool]] = {}
    for row, name in enumerate(results.members[MEMBER]):
        where = tuple(results.members[axis][row] for axis in others)
        diverged = results.members[STATUS][row] == DIVERGED
        low = SCORES["final_accuracy"].of(histories[name]) < FAILED
        of_pair = failed.setdefault(where, {})
        of_pair[results.members["regulator"][row]] = diverged or low
    pairs = {where: one for where, one in failed.items() if len(one) == 2}
    without, with_ecgr = (
        np.array([one[name] for one in pairs.values()], bool) for name in REGULATORS
    )
    counted = (without, with_ecgr, without & ~with_ecgr, with_ecgr & ~without)
    counts = (len(pairs), *(int(those.sum()) for those in counted))
    # pairs share seeds, and so partitions: what is independent is a seed
    fewer: Counter[Any] = Counter()
    for where, one in pairs.items():
        fewer[where[others.index("seed")]] += one["identity"] - one["ecgr"]
    above, below = (sum(sign * n > 0 for n in fewer.values()) for sign in (1, -1))
    chance = stats.binomtest(above, above + below).pvalue if above + below else 1.0
    by_seed = f"{above}/{len(fewer) - above - below}/{below}"
    seeds = (Entry(by_seed, above - below), Entry(f"{chance:.2g}", chance))
    return tables.Table(
        "Runs that failed, at all step sizes",
        (
            *("pairs", "failed without", "with ECGR", "only without", "only with ECGR"),
            *("seeds with fewer/as many/more by ECGR", "sign test over seeds, p"),
        ),
        ((*(Entry(f"{n:,}", n) for n in counts), *seeds),),
        0,
        (f"A run fails that diverges, or is below {FAILED:.0%} at its last evaluation.",),
    )


def _differences(study: Study, names: Sequence[str]) -> list[tables.Table]:
    made = (tables.of_differences(study, SCORES[name]) for name in names)
    return [table for table in made if table is not None]


def _page(made: Sequence[tables.Table]) -> str:
    return "".join(f"#{tables.as_markdown(table)}\n" for table in made)  # below the study's heading


def drawn(results: Results, maps: tuple[tuple[str, str], ...]) -> list[Any]:
    """Returns the maps of the difference in accuracy, each method at its best."""
    if not maps:
        return []
    study = reports.study(reports.tune(results, [RATE]).results)
    score = SCORES["last_ten_accuracy"]
    return [
        figure for x, y in maps for figure in plots.heat_maps(study, score, x, y, difference=True)
    ]


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"error: {error}")
