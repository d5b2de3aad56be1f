"""Adaptive ECGR against fixed β, paired over ten seeds, on digits and synthetic(1, 1).

    python -m experiments.adaptive

10 clients of digits by Dirichlet(0.1) with an MLP (64), and 30 of synthetic(1, 1) with logistic
regression, each seed with a partition (or draw) of its own that every method meets. The step size
is one for all, as in `experiments.digits`. Writes docs/adaptive.md.

Found: neither rule is above plain FedAvg (β = 1), nor is any fixed β: on digits the spread rule
cannot be told from it, on synthetic(1, 1) the less is damped the better. About 8 minutes on two
cores.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fedjax_ecgr as fx
from fedjax_ecgr.reports.statistics import mean_std, paired
from fedjax_ecgr.reports.tables import markdown

BETAS = (0.0, 0.2, 0.5, 1.0)
ROUNDS = 50


def digits(seed: int) -> tuple[Any, Any, fx.Model, dict[str, Any]]:
    """10 clients of Dirichlet(0.1)."""
    data = fx.datasets.digits()
    clients = fx.partition.dirichlet(data.train, num_clients=10, alpha=0.1, seed=seed)
    options = {"learning_rate": 0.02, "batch_size": 32, "local_epochs": 5}
    return clients, data.test, fx.models.mlp(data.spec, hidden=(64,)), options


def synthetic(seed: int) -> tuple[Any, Any, fx.Model, dict[str, Any]]:
    """30 clients of synthetic(1, 1)."""
    data = fx.datasets.synthetic(
        alpha=1.0, beta=1.0, num_clients=30, max_size=400, seed=seed
    )  # fmt: skip
    clients = fx.partition.natural(data.train)
    options = {"learning_rate": 0.01, "batch_size": 10, "local_epochs": 2}
    return clients, data.test, fx.models.logistic_regression(data.spec), options


SETTINGS = {"digits, Dirichlet(0.1)": digits, "synthetic(1, 1)": synthetic}


def last_ten(built: fx.Simulation, seed: int, numbers: Mapping[str, Any] | None = None) -> float:
    """Mean test accuracy over the last ten rounds, in %."""
    history = fx.run(built, rounds=ROUNDS, seed=seed, hyperparameters=numbers)
    return 100 * float(history.table["test_accuracy"][-10:].mean())


def one_seed(setting: str, seed: int) -> dict[str, float]:
    """Every method on one draw of the data."""
    clients, test, model, options = SETTINGS[setting](seed)
    rate = options.pop("learning_rate")

    def build(regulator: fx.Regulator) -> fx.Simulation:
        method = fx.fedavg(regulator=regulator, learning_rate=rate)
        return fx.simulation(method, model, clients, test=test, **options)

    fixed, found = build(fx.ecgr()), {}
    for beta in BETAS:
        numbers = {**fixed.hyperparameters, "regulator": {"beta": beta, "select_ratio": 0.5}}
        found[f"β = {beta:g}"] = last_ten(fixed, seed, numbers)
    for feedback in fx.regulators.FEEDBACKS:
        found[f"adaptive, {feedback}"] = last_ten(build(fx.adaptive_ecgr(feedback=feedback)), seed)
    return found


def main(seeds: int = 10, out: Path = Path("docs")) -> None:
    """Runs everything and writes the page."""
    text = (
        "# Adaptive ECGR\n\n"
        f"Test accuracy in %, mean of the last ten of {ROUNDS} rounds, over {seeds} seeds, each "
        "with data of its own that all methods meet; β = 1 is FedAvg, with momentum 0.9. Digits: "
        "10 clients, MLP (64), 5 local epochs, batches of 32, learning rate 0.02. synthetic(1, 1): "
        "30 clients of at most 400 examples, logistic regression, 2 local epochs, batches of 10, "
        "learning rate 0.01. Paired differences in points "
        "with 95 % intervals (bootstrap over seeds), wins/ties/losses. `python -m "
        "experiments.adaptive` makes this page.\n"
    )
    for setting in SETTINGS:
        runs = [one_seed(setting, seed) for seed in range(seeds)]
        by_method = {name: [run[name] for run in runs] for name in runs[0]}
        adaptive = [name for name in by_method if name.startswith("adaptive")]
        rows = [
            [
                name,
                mean_std(values),
                *(
                    "" if name in adaptive else str(paired(by_method[own], values))
                    for own in adaptive
                ),
            ]
            for name, values in by_method.items()
        ]
        text += f"\n## {setting}\n\n" + markdown(
            ["method", "accuracy", *(f"{name} − it" for name in adaptive)], rows
        )
    (out / "adaptive.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
