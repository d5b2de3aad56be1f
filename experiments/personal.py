"""Does every personal method serve clients better than plain FedAvg, and what does ECGR change?

    python -m experiments.personal

10 clients share the digits by Dirichlet(0.1), all take part, 5 local epochs. Each holds out a fifth
of its examples to choose the step size by and a fifth to be judged by. Every method, with and
without ECGR, has the same grid of step sizes, of which the one with the best mean accuracy on the
clients' validation examples, over all seeds, is kept; everything else is at its default. A seed
draws partition, parameters and batches, the same for all methods. Writes docs/personal.md.

Expected: after 5 rounds every method is above FedAvg (92.6 %) by 1.9 to 5.4 points, if training
alone and FedBABU not surely so. After 30 rounds FedAvg has come to 97.5 %: fine-tuning, Ditto,
APFL, pFedMe and FedALA are above it by about a point; Per-FedAvg and FedPer cannot be told from it;
FedRep, FedBABU, LG-FedAvg and training alone are below it by 1 to 2. A label means the same to all
clients here, so that a global model can serve them all, and what a client keeps to itself learns
from its 86 examples alone. ECGR costs FedAvg 1.5 points after 5 rounds, gives pFedMe 0.6 then,
costs Ditto 0.6 and FedALA 0.3 after 30, and changes nothing else that could be told.
7 minutes on one core of a CPU, much of it the compilation of 24 programs and as many evaluations.
"""

from collections.abc import Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import fedjax_ecgr as fx
from fedjax_ecgr.algorithms import ALGORITHMS
from fedjax_ecgr.engine.block import compilable
from fedjax_ecgr.engine.evaluation import evaluate_clients
from fedjax_ecgr.engine.setting import Setting
from fedjax_ecgr.reports.statistics import mean_std, paired
from fedjax_ecgr.reports.tables import markdown
from fedjax_ecgr.types import Array, PyTree

CLIENTS, BATCH, EPOCHS, HIDDEN, BUDGETS = 10, 16, 5, 64, (5, 30)
RATES = (0.01, 0.03, 0.1, 0.3)
BASELINE = "fedavg"
METHODS = (
    BASELINE, "local_only", "fine_tuned", "ditto", "apfl", "pfedme", "perfedavg", "fedper",
    "fedrep", "fedbabu", "fedala", "lg_fedavg",
)  # fmt: skip
REGULATORS = {"plain": fx.identity, "ECGR": fx.ecgr}


class Split(NamedTuple):
    """One seed's division of the digits, each client's examples in three parts."""

    train: fx.FederatedDataset
    validation: fx.FederatedDataset
    test: fx.FederatedDataset


class Judged(NamedTuple):
    """Mean accuracy of the clients in %, [budgets, rates, seeds], and what a client sends."""

    validation: np.ndarray
    test: np.ndarray
    bytes_up: int

    def best(self, budget: int) -> tuple[float, list[float]]:
        """Returns the step size that does best on validation examples, and its test accuracies."""
        chosen = int(self.validation[budget].mean(axis=1).argmax())
        return RATES[chosen], self.test[budget, chosen].tolist()


def splits(seeds: int) -> list[Split]:
    """Returns each seed's division; parts have one shape over all seeds: one program does all."""
    examples = jax.tree.map(jnp.asarray, fx.datasets.digits().train)
    found = []
    for seed in range(seeds):
        whole = fx.partition.dirichlet(examples, num_clients=CLIENTS, alpha=0.1, seed=seed)
        rest, test = fx.partition.hold_out(whole, 0.2, seed=seed)
        train, validation = fx.partition.hold_out(rest, 0.25, seed=seed)
        found.append(Split(train, validation, test))
    widths = [max(part.indices.shape[1] for part in parts) for parts in zip(*found, strict=True)]
    return [Split(*map(_widened, split, widths)) for split in found]


def _widened(data: fx.FederatedDataset, width: int) -> fx.FederatedDataset:
    missing = width - data.indices.shape[1]
    indices = np.pad(np.asarray(data.indices), ((0, 0), (0, missing)))
    return data._replace(indices=jnp.asarray(indices), sizes=jnp.asarray(data.sizes))


def judged(name: str, regulator: fx.Regulator, divisions: list[Split]) -> Judged:
    """Runs one method with every step size on every seed; one program for all of them."""
    first = divisions[0]
    built = fx.simulation(
        ALGORITHMS[name](regulator=regulator),
        fx.models.mlp(fx.datasets.digits().spec, hidden=(HIDDEN,)),
        first.train,
        client_test=first.test,
        batch_size=BATCH,
        local_epochs=EPOCHS,
        placement="scan",
    )
    block, judge = compilable(built.setting), jax.jit(partial(_accuracy, built.setting))
    found = np.zeros((2, len(BUDGETS), len(RATES), len(divisions)))
    for (i, rate), (seed, split) in product(enumerate(RATES), enumerate(divisions)):
        numbers = _with_rate(built.hyperparameters, rate)
        key = jax.random.key(seed)
        state, done = built.init(key), 0
        for budget, rounds in enumerate(BUDGETS):
            count = jnp.int32(rounds - done)
            state, _ = block(split.train, state, key, numbers, count, BUDGETS[-1])
            done = rounds
            for part, held in enumerate((split.validation, split.test)):
                found[part, budget, i, seed] = judge(split.train, held, state, key, numbers)
    return Judged(100 * found[0], 100 * found[1], built.setting.bytes_up)


def _with_rate(numbers: Mapping[str, Any], rate: float) -> PyTree:
    algorithm = {**numbers["algorithm"], "learning_rate": rate}
    return jax.tree.map(lambda x: jnp.asarray(x, float), {**numbers, "algorithm": algorithm})


def _accuracy(
    setting: Setting,
    data: fx.FederatedDataset,
    held: fx.FederatedDataset,
    state: Any,
    key: Array,
    numbers: PyTree,
) -> Array:
    return evaluate_clients(setting, data, held, state, key, numbers).mean()


def table(found: Mapping[tuple[str, str], Judged], budget: int) -> str:
    """Returns one budget's table."""
    chosen = {which: result.best(budget) for which, result in found.items()}
    rows = []
    for name in METHODS:
        row = [name]
        for label in REGULATORS:
            rate, accuracies = chosen[name, label]
            row.append(f"{mean_std(accuracies)} ({rate:g})")
        plain, regulated = (chosen[name, label][1] for label in REGULATORS)
        difference = paired(plain, chosen[BASELINE, "plain"][1])
        row.append("" if name == BASELINE else str(difference))
        row.append(str(paired(regulated, plain)))
        row.append(f"{found[name, 'plain'].bytes_up / 1000:.1f}")
        rows.append(row)
    return markdown(
        ["method", "plain (rate)", "ECGR (rate)", "plain − FedAvg", "ECGR − plain", "kB sent"], rows
    )


def against_baseline(found: Mapping[tuple[str, str], Judged], budget: int) -> str:
    """Returns who is above FedAvg, who below, by the intervals of the paired differences."""
    baseline = found[BASELINE, "plain"].best(budget)[1]
    sides: dict[str, list[str]] = {"above FedAvg": [], "below it": [], "not to be told": []}
    for name in METHODS[1:]:
        seen = paired(found[name, "plain"].best(budget)[1], baseline)
        side = "above FedAvg" if seen.low > 0 else "below it" if seen.high < 0 else "not to be told"
        sides[side].append(name)
    told = (f"{side}: {', '.join(names)}" for side, names in sides.items() if names)
    return "By the intervals, " + "; ".join(told) + ".\n"


def main(seeds: int = 10, out: Path = Path("docs/personal.md")) -> None:
    """Runs everything and writes the page."""
    divisions = splits(seeds)
    found = {
        (name, label): judged(name, regulator(), divisions)
        for name in METHODS
        for label, regulator in REGULATORS.items()
    }
    page = (
        "# Personal models\n\n"
        f"Digits, Dirichlet(0.1) over {CLIENTS} clients, all take part; MLP ({HIDDEN}), {EPOCHS} "
        f"local epochs, batches of {BATCH}, momentum 0.9. Each client's model (the global one in "
        "FedAvg) is judged on a fifth of the client's own examples, which it never trains on: the "
        f"mean over clients in %, mean ± standard deviation over {seeds} seeds, each with a "
        "partition of its own. Every method has the same step sizes to choose from, "
        f"{', '.join(f'{rate:g}' for rate in RATES)}; the one that does best on another held-out "
        "fifth, over all seeds, stands in brackets. Other numbers are the defaults. Differences "
        "are paired by seed, in points, with their 95 % interval (bootstrap) and "
        "wins/ties/losses. What a client sends is that of one round. "
        "A label means the same to all clients here, so that one model can serve them all. "
        "`python -m experiments.personal` makes this page.\n"
    )
    for budget, rounds in enumerate(BUDGETS):
        page += f"\n## After {rounds} rounds\n\n{table(found, budget)}"
        page += f"\n{against_baseline(found, budget)}"
    out.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
