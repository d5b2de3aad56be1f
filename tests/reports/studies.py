"""Studies made up for tests, whose numbers a reader can follow, and a writer of their folders."""

import hashlib
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedjax_ecgr.reports.results import COLUMNS, Results

DEFAULTS = {
    "dataset": "digits",
    "partition": "dirichlet",
    "partition.alpha": 0.1,
    "model": "mlp",
    "model.hidden": (64,),
    "algorithm": "fedavg",
    "algorithm.learning_rate": 0.05,
    "regulator": "identity",
    "regulator.beta": None,
    "transforms": "none",
    "aggregator": "mean",
    "attack": "none",
    "num_clients": 10,
    "rounds": 20,
    "seed": 0,
    "partition_seed": None,
}


def member(status="finished", curve=None, **options):
    """Returns a configuration, its status, and its history.

    Args:
      status: of the run.
      curve: [rounds] test accuracies, NaN where not evaluated.
      **options: by full name; a dot may be written as two underscores.
    """
    given = {name.replace("__", "."): value for name, value in options.items()}
    curve = np.array([0.1, 0.5] if curve is None else curve, float)
    return {**DEFAULTS, **given}, status, curve


def results(axes, members):
    """Returns the results of members as `member` makes them."""
    names = list(dict.fromkeys(name for options, _, _ in members for name in options))
    hashes = [
        hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
        for options, _, _ in members
    ]
    columns = {"member": column(hashes)}
    columns |= {name: column([options.get(name) for options, _, _ in members]) for name in names}
    columns["status"] = column([status for _, status, _ in members])
    columns["diverged_in_round"] = np.array(
        [len(curve) + 1 if status == "diverged" else math.nan for _, status, curve in members]
    )
    return Results(tuple(axes), columns, history(hashes, [curve for _, _, curve in members]))


def history(hashes, curves):
    """Returns rounds whose other columns follow from the accuracy a and the round r."""
    a = np.concatenate(curves)
    r = np.concatenate([np.arange(1, len(curve) + 1) for curve in curves]).astype(float)
    columns = {name: np.zeros(len(a)) for name in COLUMNS}
    columns |= {"round": r, "test_accuracy": a, "test_loss": -np.log(np.maximum(a, 1e-3))}
    columns |= {"client_accuracy_mean": a - 0.01, "client_accuracy_worst": a / 2}
    columns |= {"train_loss": 1 / r, "drift": 0.5 * r, "update_variance": 0.25 * r}
    columns |= {"bytes_up": 1e6 * np.ones(len(a)), "bytes_down": 1e6 * np.ones(len(a))}
    columns["seconds"] = 2 * np.ones(len(a))
    names = [name for name, curve in zip(hashes, curves, strict=True) for _ in curve]
    return {"member": column(names), **columns}


def column(values):
    """Returns values as they are, sequences too."""
    made = np.empty(len(values), object)
    made[:] = values
    return made


def grid(
    betas=(None, 0.2, 0.5), alphas=(0.1, 1.0), seeds=range(5), rates=(0.05,), lasts=20, broken=()
):
    """Returns a study of FedAvg under identity (β None) and ECGR.

    Curves rise to 0.6 + min(α, 1.5)/10 + β/10, with noise that is the seed's own.
    """
    members = []
    for beta, rate, alpha, seed in itertools.product(betas, rates, alphas, seeds):
        rng = np.random.default_rng([seed, int(100 * alpha), int(1000 * rate)])
        rounds = np.arange(1, lasts + 1)
        top = 0.6 + min(alpha, 1.5) / 10 + (beta or 0) / 10 + (0.05 - rate) / 2
        curve = top * (1 - np.exp(-rounds / 5)) + 0.02 * rng.standard_normal(lasts)
        curve += 0.005 * np.random.default_rng([seed, int(100 * (beta or 0))]).standard_normal()
        diverged = (beta, alpha, seed) in broken
        regulator = "identity" if beta is None else "ecgr"
        options = {"regulator": regulator, "regulator.beta": beta, "partition.alpha": alpha}
        options |= {"algorithm.learning_rate": rate, "seed": seed}
        status, kept = ("diverged", lasts // 2) if diverged else ("finished", lasts)
        members.append(member(status, curve[:kept], **options))
    axes = ["regulator", "regulator.beta", "partition.alpha", "seed"]
    if len(rates) > 1:
        axes.insert(2, "algorithm.learning_rate")
    return results(axes, members)


def write_study(folder: Path, made: Results) -> Path:
    """Writes results as a sweep's folder holds them."""
    folder.mkdir(parents=True)
    members = pa.table({name: pa.array(values.tolist()) for name, values in made.members.items()})
    axes = {"axes": json.dumps(made.axes)}
    pq.write_table(members.replace_schema_metadata(axes), folder / "members.parquet")
    rows = {name: pa.array(values.tolist()) for name, values in made.history.items()}
    seeds = dict(zip(made.members["member"], made.members["seed"], strict=True))
    rows["seed"] = pa.array([seeds.get(name) for name in made.history["member"]])
    rows["cohort"] = pa.array([[0, 1]] * len(made.history["member"]))
    pq.write_table(pa.table(rows), folder / "history.parquet")
    return folder
