r"""Attacks and robust rules on Fashion-MNIST, in the setting of Flower's baseline FLANDERS.

Command:   python -m experiments.flanders [--seeds N]
Set-up:    100 clients, all take part, Dirichlet(0.5), 20 or 60 malicious; MLP 784-256-128-64-10
           with dropout 0.2; Adam with learning rate 0.001, batches of 32, a local epoch, 50 rounds.
           Noise of standard deviation 10; LIE as the paper has it, and as that baseline computes
           it, with \sqrt σ in place of σ and Φ in place of its inverse; OPT is Fang's attack.
           Rules that carry fewer than 60 malicious clients are told of as many as they carry.
Hardware:  2 CPU cores.
Result:    docs/flanders.md, which it writes.

What ended stays in runs/flanders.json: the same command goes on.
"""

import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated

import jax.numpy as jnp
import optax
import typer
from jax.scipy.stats import norm

import fedjax_ecgr as fx
from experiments.fashion_mnist import DEBIAN
from fedjax_ecgr import InputError, keep_programs
from fedjax_ecgr.aggregators.base import Aggregator
from fedjax_ecgr.aggregators.matrix import Rows
from fedjax_ecgr.attacks.base import Attack, Attacking
from fedjax_ecgr.attacks.colluding import colluding, mean_of, std_of
from fedjax_ecgr.devices import use_all_cores
from fedjax_ecgr.files import write_json
from fedjax_ecgr.reports.statistics import mean_std
from fedjax_ecgr.reports.tables import markdown
from fedjax_ecgr.types import Array

CLIENTS, ROUNDS = 100, 50
SHARES = (20, 60)
PUBLISHED = {  # after the last round, one run each, read off pictures: Gauss / LIE / OPT / AGR-MM
    "mean": "68; 25 / 17 / 57 / 11; 28 / 10 / 19 / 10",
    "median": "71; 66 / 65 / 67 / 60; 65 / 10 / 10 / 10",
    "trimmed mean": "69; 69 / 54 / 62 / 58; 33 / 10 / 17 / 10",
    "Multi-Krum": "66; 74 / 65 / 70 / 67; 71 / 10 / 12 / 10",
    "Bulyan": "62; 71 / 72 / 69 / 76; –",
}


def flanders_lie() -> Attack:
    """Returns LIE as the baseline computes it: u = μ + Φ((n − m − s) / (n − m)) √σ."""

    def rule(rows: Rows, attacking: Attacking) -> Array:
        malicious = attacking.malicious.sum(dtype=jnp.int32)
        honest = rows.num_present
        supporters = (honest + malicious) // 2 + 1 - malicious
        dtype = rows.values.dtype
        z = norm.cdf((honest - supporters).astype(dtype) / honest.astype(dtype))
        mean = mean_of(rows)
        return mean + z * jnp.sqrt(std_of(rows, mean))

    return Attack("flanders_lie", {}, together=colluding(rule))


ATTACKS = {
    "Gauss": fx.attacks.gaussian(std=10.0),
    "LIE": fx.attacks.lie(),
    "LIE, theirs": flanders_lie(),
    "OPT": fx.attacks.fang(),
    "AGR-MM": fx.attacks.min_max(),
}


def rules(malicious: int) -> dict[str, Aggregator | None]:
    """Returns the rules that there are for so many malicious clients."""
    found: dict[str, Aggregator | None] = {
        "mean": None,
        "median": fx.aggregators.median(),
        "trimmed mean": fx.aggregators.trimmed_mean(num_malicious=min(malicious, 49)),
        "Multi-Krum": fx.aggregators.multi_krum(num_malicious=min(malicious, 48)),
    }
    if 4 * malicious + 3 <= CLIENTS:
        found["Bulyan"] = fx.aggregators.bulyan(num_malicious=malicious)
    return found


def cells() -> Iterator[tuple[str, str, int]]:
    """Yields every rule, attack and number of malicious clients; ECGR under the mean is a rule."""
    for malicious in (0, *SHARES):
        for rule in (*rules(malicious), "mean, ECGR clients"):
            for attack in ATTACKS if malicious else ("none",):
                yield rule, attack, malicious


@cache
def _images() -> fx.Dataset:
    return fx.datasets.idx(data_path=str(DEBIAN))


def accuracy(rule: str, attack: str, malicious: int, seed: int) -> float:
    """Returns the test accuracy after the last round in %; 0 for a run that diverged."""
    data = _images()
    clients = fx.partition.dirichlet(data.train, num_clients=CLIENTS, alpha=0.5, seed=seed)
    ecgr = rule.endswith("ECGR clients")
    method = fx.fedavg(
        learning_rate=0.001,
        optimizer=lambda rate, numbers: optax.adam(rate),
        regulator=fx.ecgr() if ecgr else fx.identity(),
        aggregator=None if ecgr else rules(malicious)[rule],
    )
    built = fx.simulation(
        method,
        fx.models.mlp(data.spec, hidden=(256, 128, 64), drop=0.2),
        clients,
        test=data.test,
        batch_size=32,
        eval_batch_size=1000,
        attack=ATTACKS.get(attack),
        malicious_share=malicious / CLIENTS,
    )
    try:
        history = fx.run(built, rounds=ROUNDS, seed=seed, eval_every=ROUNDS)
    except fx.DivergedError:
        return 0.0
    return 100 * float(history.table["test_accuracy"][-1])


def main(
    seeds: Annotated[int, typer.Option(help="number of seeds, from 0", min=1)] = 1,
    record: Annotated[Path, typer.Option(help="where what ended stays")] = Path(
        "runs/flanders.json"
    ),
    out: Annotated[Path, typer.Option(help="folder of the page")] = Path("docs"),
) -> None:
    """Runs what is not recorded yet, and writes the page."""
    use_all_cores()
    keep_programs()
    record.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, float] = json.loads(record.read_text()) if record.exists() else {}
    for seed in range(seeds):
        for rule, attack, malicious in cells():
            name = f"{rule} | {attack} | {malicious} | {seed}"
            if name not in found:
                found[name] = accuracy(rule, attack, malicious, seed)
                print(f"{name}: {found[name]:.2f}", flush=True)
                write_json(record, found)
    text = page(found, seeds)
    (out / "flanders.md").write_text(text)
    print(text)


def page(found: dict[str, float], seeds: int) -> str:
    """Returns the page: a row a rule, a column an attack and number of malicious clients."""

    def entry(rule: str, attack: str, malicious: int) -> str:
        values = [found.get(f"{rule} | {attack} | {malicious} | {seed}") for seed in range(seeds)]
        there = [value for value in values if value is not None]
        if not there:
            return "–"
        return mean_std(there) if seeds > 1 else f"{there[0]:.1f}"

    every = ["mean", "median", "trimmed mean", "Multi-Krum", "Bulyan", "mean, ECGR clients"]
    columns = [("none", 0), *((attack, m) for m in SHARES for attack in ATTACKS)]
    rows = [
        [rule, *(entry(rule, *column) for column in columns), PUBLISHED.get(rule, "–")]
        for rule in every
    ]
    headings = [f"{attack}, {m}" if m else "none" for attack, m in columns]
    return (
        "# Attacks on Fashion-MNIST\n\n"
        f"Test accuracy after the last round in %, {seeds} seed{'s' if seeds > 1 else ''}; a run "
        "that diverged counts as 0. `python -m experiments.flanders` makes this page.\n\n"
        + markdown(["rule", *headings, "theirs: none; 20 malicious; 60 malicious"], rows)
    )


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"error: {error}")
