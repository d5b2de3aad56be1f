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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from experiments import controls
from experiments.fashion_mnist import DEBIAN
from fedjax_ecgr import InputError, check, datasets, keep_programs, reports, sweeps
from fedjax_ecgr.devices import use_all_cores
from fedjax_ecgr.files import write
from fedjax_ecgr.reports import Results, Score, Study, plots, tables, tuning
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
    """

    title: str
    study: sweeps.Study
    maps: tuple[tuple[str, str], ...] = ()


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
                "learning-rate": [0.005, 0.02, 0.05, 0.2, 0.5, 1.0],
                "seed": SEEDS,
            },
        ),
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
    )


def fashion(given: Given) -> Asked:
    """FedAvg and SCAFFOLD with LeNet on a tenth of Fashion-MNIST."""
    return Asked(
        "Fashion-MNIST, 6,000 images: LeNet, label skew",
        sweeps.study(
            {**_small_lenet(given.folder), "validation-fraction": 0.1},
            grid={
                "algorithm": ["fedavg", "scaffold"],
                "regulator": REGULATORS,
                "partition.alpha": [0.1, 0.5, 100.0],
                "learning-rate": [0.002, 0.01, 0.05],
                "seed": SEEDS,
            },
        ),
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
                "learning-rate": [0.005, 0.05, 0.15, 0.5, 1.5],
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
    )


def published(given: Given) -> Asked:
    """All base algorithms by the paper's schedule, on any data."""
    study = tomllib.loads(PUBLISHED.read_text())
    grid = {**study.pop("grid"), "partition": {"alpha": [0.1]}, "seed": SEEDS}
    return Asked("By the published schedule", sweeps.study(study | dict(given.own), grid=grid))


STUDIES: Mapping[str, Callable[[Given], Asked]] = {
    "digits": digits,
    "synthetic": synthetic,
    "fashion": fashion,
    "when": when,
    "what": what,
    "published": published,
}
EVIDENCE = [name for name in STUDIES if name != "published"]

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
        run_study(asked.study, out / name)
        results = reports.read(out / name)
        made = f"## {asked.title}\n\n{section(results)}"
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


def section(results: Results) -> str:
    """Returns a study's tables of differences: at their best, and at one step size."""
    if RATE not in results.axes or None in results.members["validation_fraction"]:
        return _page(_differences(reports.study(results), [*AT_THEIR_BEST, *AT_ONE_RATE]))
    own = reports.tune(results, [RATE])
    alike = reports.tune(results, [RATE], by={"regulator": "identity"})
    made = [tuning.of_choices(own), *_differences(reports.study(own.results), AT_THEIR_BEST)]
    return _page([*made, *_differences(reports.study(alike.results), AT_ONE_RATE)])


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
