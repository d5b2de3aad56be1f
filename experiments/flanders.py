r"""Attacks and robust rules on Fashion-MNIST, in the setting of Flower's baseline FLANDERS.

Command:   python -m experiments.flanders [--seeds N]
Set-up:    100 clients, all take part, Dirichlet(0.5), 20 or 60 malicious; MLP 784-256-128-64-10
           with dropout 0.2; Adam with learning rate 0.001, batches of 32, a local epoch, 50 rounds.
           Noise of standard deviation 10; LIE as the paper has it, and as that baseline computes
           it, with \sqrt σ in place of σ and Φ in place of its inverse; OPT is Fang's attack and
           AGR-MM min-max, each as its paper has it and as that baseline computes it.
           The trimmed mean cuts 20 on each side, as there. Of 60 malicious clients Multi-Krum is
           told of 48, as many as it carries; it averages all but as many as there are.
Hardware:  2 CPU cores.
Result:    docs/flanders.md, which it writes.

What ended stays in runs/flanders.json: the same command goes on.
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
import typer
from jax.scipy.stats import norm

import fedjax_ecgr as fx
from experiments.fashion_mnist import DEBIAN
from fedjax_ecgr import InputError, keep_programs
from fedjax_ecgr.aggregators.base import Aggregator
from fedjax_ecgr.aggregators.distances import squared_distances
from fedjax_ecgr.aggregators.krum import scores
from fedjax_ecgr.aggregators.matrix import Rows, as_rows, as_update
from fedjax_ecgr.attacks.base import Attack, Attacking
from fedjax_ecgr.attacks.colluding import colluding, farthest_apart, in_place_of, mean_of, std_of
from fedjax_ecgr.devices import use_all_cores
from fedjax_ecgr.files import write_json
from fedjax_ecgr.reports.statistics import mean_std
from fedjax_ecgr.reports.tables import markdown
from fedjax_ecgr.types import Array, PyTree

CLIENTS, ROUNDS = 100, 50
SHARES = (20, 60)
ECGR = "mean, ECGR clients"  # a rule beside those of `rules`

Column = tuple[str, int]
"""An attack, and how many are malicious."""

NO_ATTACK: Column = ("none", 0)
THEIRS = ("Gauss", "LIE, theirs", "OPT, theirs", "AGR-MM, theirs")
UNDER_ATTACK = [(attack, malicious) for malicious in SHARES for attack in THEIRS]


def _read_off(*values: int) -> dict[Column, int]:
    return dict(zip([NO_ATTACK, *UNDER_ATTACK], values, strict=False))


PUBLISHED = {  # after the last round, one run each, read off pictures
    "mean": _read_off(68, 25, 17, 57, 11, 28, 10, 19, 10),
    "median": _read_off(71, 66, 65, 67, 60, 65, 10, 10, 10),
    "trimmed mean": _read_off(69, 69, 54, 62, 58, 33, 10, 17, 10),
    "Multi-Krum": _read_off(66, 74, 65, 70, 67, 71, 10, 12, 10),
    "Bulyan": _read_off(62, 71, 72, 69, 76),
}
APART = 5  # points, by which rules must differ there to have an order


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


def flanders_min_max() -> Attack:
    """Returns min-max as the baseline computes it: u = μ + λ σ, with λ by 18 halved steps from 5.

    The steps come to no λ below 2.5; where all they try is too far from an honest update, λ is 6.
    """

    def rule(rows: Rows, attacking: Attacking) -> Array:
        mean = mean_of(rows)
        direction = std_of(rows, mean)
        limit = farthest_apart(rows)

        def halve(_: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            found, tried, step = state
            away = jnp.sum(jnp.square((mean + tried * direction)[None] - rows.values), axis=1)
            near = jnp.max(jnp.where(rows.present, away, 0)) < limit
            found = jnp.where(near, tried, found)
            return found, tried + jnp.where(near, step, -step) / 2, step / 2

        first = tuple(jnp.asarray(x, mean.dtype) for x in (6.0, 5.0, 2.5))
        return mean + jax.lax.fori_loop(0, 18, halve, first)[0] * direction

    return Attack("flanders_min_max", {}, together=colluding(rule))


def flanders_opt(first: PyTree) -> Attack:
    """Returns OPT as the baseline computes it: all send the model w' − λ sign w'.

    λ is halved from a bound of at most 999 until Krum takes that model, or λ is 1e-5: then it is
    about w' that they send.

    Args:
      first: w', a client's model of the first round.
    """

    def together(updates: PyTree, attacking: Attacking) -> PyTree:
        back = jax.tree.map(lambda now, w: (now - w)[None], attacking.params, first)
        old, signs = (
            as_rows(tree, jnp.ones(1, bool)).values[0]
            for tree in (back, jax.tree.map(lambda w: jnp.sign(w)[None], first))
        )
        rows = as_rows(updates, attacking.present)
        malicious = attacking.malicious
        honest = rows.present & ~malicious
        # theirs divides by one less than the number of malicious clients
        number, bad = rows.num_present, jnp.maximum(malicious.sum(dtype=jnp.int32), 2)
        apart = squared_distances(rows, jnp.ones_like(old[0]))

        def of_krum(distances: Array) -> Array:
            return scores(distances, rows.present, number - bad - 2)

        def moved(length: Array) -> Array:
            return old + length * signs

        def chosen(length: Array) -> Array:
            away = jnp.sum(jnp.square(rows.values - moved(length)[None]), axis=1)
            one = jnp.where(malicious[None], away[:, None], apart)
            both = jnp.where(malicious[None], 0, away[None])
            return malicious[jnp.argmin(of_krum(jnp.where(malicious[:, None], both, one)))]

        def length_of(u: Array, w: Array) -> Array:
            return jnp.sqrt(jnp.sum(jnp.square(u - w), axis=tuple(range(1, u.ndim))))

        lengths = jax.tree.leaves(jax.tree.map(length_of, updates, back))
        root = jnp.sqrt(jnp.asarray(len(lengths), old.dtype))
        nearest = jnp.min(jnp.where(honest, of_krum(apart), jnp.inf))
        furthest = jnp.max(jnp.where(honest, jnp.square(sum(lengths)), 0))
        pairs = ((number - 2) * (bad - 1)).astype(old.dtype)
        bound = jnp.minimum((nearest / pairs + furthest) / root, 999)
        length = jax.lax.while_loop(
            lambda length: (length > 1e-5) & ~chosen(length), lambda length: length / 2, bound
        )
        return in_place_of(updates, malicious, as_update(moved(length), updates))

    return Attack("flanders_opt", {}, together=together)


ATTACKS: Mapping[str, Callable[[PyTree], Attack]] = {
    "Gauss": lambda first: fx.attacks.gaussian(std=10.0),
    "LIE": lambda first: fx.attacks.lie(),
    "LIE, theirs": lambda first: flanders_lie(),
    "OPT": lambda first: fx.attacks.fang(),
    "OPT, theirs": flanders_opt,
    "AGR-MM": lambda first: fx.attacks.min_max(),
    "AGR-MM, theirs": lambda first: flanders_min_max(),
}
"""By a client's model of the first round."""

COLUMNS = [NO_ATTACK, *((attack, malicious) for malicious in SHARES for attack in ATTACKS)]


def rules(malicious: int) -> dict[str, Aggregator | None]:
    """Returns the rules that there are for so many malicious clients."""
    found: dict[str, Aggregator | None] = {
        "mean": None,
        "median": fx.aggregators.median(),
        "trimmed mean": fx.aggregators.trimmed_mean(num_malicious=20),
        "Multi-Krum": fx.aggregators.multi_krum(
            num_malicious=min(malicious, 48), num_selected=CLIENTS - malicious
        ),
    }
    if 4 * malicious + 3 <= CLIENTS:
        found["Bulyan"] = fx.aggregators.bulyan(num_malicious=malicious)
    return found


def cells() -> Iterator[tuple[str, Column]]:
    """Yields the rules of every column, those that there are for so many malicious clients."""
    for column in COLUMNS:
        for rule in (*rules(column[1]), ECGR):
            yield rule, column


def named(rule: str, column: Column, seed: int) -> str:
    """Returns the name under which a run is recorded."""
    attack, malicious = column
    aggregator = rules(malicious).get(rule)
    numbers = aggregator.hyperparameters if aggregator else {}
    told = "".join(f", {name} {number}" for name, number in numbers.items())
    return f"{rule}{told} | {attack} | {malicious} | {seed}"


@cache
def _images() -> fx.Dataset:
    return fx.datasets.idx(data_path=str(DEBIAN))


def accuracy(rule: str, column: Column, seed: int) -> float:
    """Returns the test accuracy after the last round in %; 0 for a run that diverged."""
    attack, malicious = column
    attacked = {}
    if malicious:
        made = ATTACKS[attack](first_model(seed))
        attacked = {"attack": made, "malicious_share": malicious / CLIENTS}
    ecgr = rule == ECGR
    built = _simulation(
        _clients(seed),
        fx.ecgr() if ecgr else fx.identity(),
        None if ecgr else rules(malicious)[rule],
        **attacked,
    )
    try:
        history = fx.run(built, rounds=ROUNDS, seed=seed, eval_every=ROUNDS)
    except fx.DivergedError:
        return 0.0
    return 100 * float(history.table["test_accuracy"][-1])


@cache
def first_model(seed: int) -> PyTree:
    """Returns what the first client makes of the model in the first round."""
    clients = _clients(seed)
    one = clients._replace(indices=clients.indices[:1], sizes=clients.sizes[:1])
    return fx.run(_simulation(one, fx.identity(), None), rounds=1, seed=seed).state.params


def _clients(seed: int) -> fx.FederatedDataset:
    return fx.partition.dirichlet(_images().train, num_clients=CLIENTS, alpha=0.5, seed=seed)


def _simulation(
    clients: fx.FederatedDataset,
    regulator: fx.Regulator,
    aggregator: Aggregator | None,
    **attacked: Any,
) -> fx.Simulation:
    method = fx.fedavg(
        learning_rate=0.001,
        optimizer=lambda rate, numbers: optax.adam(rate),
        regulator=regulator,
        aggregator=aggregator,
    )
    data = _images()
    return fx.simulation(
        method,
        fx.models.mlp(data.spec, hidden=(256, 128, 64), drop=0.2),
        clients,
        test=data.test,
        batch_size=32,
        eval_batch_size=1000,
        **attacked,
    )


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
        for rule, column in cells():
            name = named(rule, column, seed)
            if name not in found:
                found[name] = accuracy(rule, column, seed)
                print(f"{name}: {found[name]:.2f}", flush=True)
                write_json(record, found)
    text = page(found, seeds)
    (out / "flanders.md").write_text(text)
    print(text)


def page(found: dict[str, float], seeds: int) -> str:
    """Returns the page: a row a rule, a column an attack and number of malicious clients."""
    ours = {
        (rule, column): values
        for rule, column in cells()
        if (values := _values(found, rule, column, seeds))
    }
    rows = [
        [rule, *(_entry(ours, rule, column, seeds) for column in COLUMNS)]
        for rule in (*PUBLISHED, ECGR)
    ]
    headings = [_titled(column) for column in COLUMNS]
    orders = [[_titled(column), *_order(ours, column)] for column in UNDER_ATTACK]
    return (
        "# Attacks on Fashion-MNIST\n\n"
        "100 clients, all take part, Dirichlet(0.5); MLP 784-256-128-64-10 with dropout 0.2; Adam "
        "with learning rate 0.001, batches of 32, one local epoch, 50 rounds: the setting of "
        "Flower's baseline [FLANDERS](https://github.com/adap/flower/tree/main/baselines/flanders)."
        f" Test accuracy after the last round in %, {seeds} seed{'s' if seeds > 1 else ''}; a run "
        "that diverged counts as 0. In brackets what that baseline shows, one run each, read off "
        "its pictures. `python -m experiments.flanders` makes this page.\n\n"
        + markdown(["rule", *headings], rows)
        + "\n*LIE, theirs*, *OPT, theirs* and *AGR-MM, theirs* are the attacks as that baseline "
        "computes them: √σ in place of σ; a client's model of the first round, set once, which "
        "all send every round, moved along its own signs, where the attack's paper moves the "
        "present one; and 6 σ where no step of its search is near enough. The others are as their "
        "papers have them. What differs besides: its malicious clients are drawn anew each round. "
        "The trimmed mean cuts 20 on each side, as there; of 60 malicious clients Multi-Krum is "
        "told of 48, all it takes, and averages 40 updates.\n"
        "\n## Is the order theirs?\n\n"
        f"Of the pairs of rules that are {APART} points or more apart there (here, rules that end "
        "alike stand in no order: by 60 clients some attacks leave one class to all):\n\n"
        + markdown(["attack, malicious clients", "in the same order", "not"], orders)
    )


Found = dict[tuple[str, Column], list[float]]


def _titled(column: Column) -> str:
    attack, malicious = column
    return f"{attack}, {malicious}" if malicious else attack


def _values(found: dict[str, float], rule: str, column: Column, seeds: int) -> list[float]:
    names = (named(rule, column, seed) for seed in range(seeds))
    return [found[name] for name in names if name in found]


def _entry(ours: Found, rule: str, column: Column, seeds: int) -> str:
    if (rule, column) not in ours:
        return "–"
    values, theirs = ours[rule, column], PUBLISHED.get(rule, {}).get(column)
    shown = mean_std(values) if seeds > 1 else f"{values[0]:.1f}"
    return shown if theirs is None else f"{shown} ({theirs})"


def _order(ours: Found, column: Column) -> tuple[str, str]:
    """Returns how many pairs of rules stand in the published order, and which do not."""
    theirs = {rule: known[column] for rule, known in PUBLISHED.items() if (rule, column) in ours}
    pairs = [(a, b) for a in theirs for b in theirs if theirs[a] - theirs[b] >= APART]
    mean = {rule: statistics.fmean(ours[rule, column]) for rule in theirs}
    others = [
        f"{worse} {'above' if mean[worse] > mean[better] else 'like'} {better}"
        for better, worse in pairs
        if mean[better] <= mean[worse]
    ]
    return f"{len(pairs) - len(others)} of {len(pairs)}", "; ".join(others) or "–"


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"error: {error}")
