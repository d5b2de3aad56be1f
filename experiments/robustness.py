"""Does the mean break where malicious clients take part, do robust rules hold, does ECGR help?

    python -m experiments.robustness

100 clients share the digits by Dirichlet(0.5), all take part, 20 of them are malicious. Every
attack meets every rule, over the same seeds (which draw parameters, batches and the malicious
clients; the partition is one). Writes docs/robustness.md and docs/robustness.png.

Found: the mean falls from 95 % to 14 % (sign flips), 10 % (boosting) and 4 % (IPM), to 87 to 91 %
under labels flipped, noise and min-max; the robust rules hold 71 % and more everywhere, Multi-Krum
90 %. ECGR makes no difference that could be told from none. About 12 minutes on two cores.
"""

from pathlib import Path

import numpy as np

import fedjax_ecgr as fx
from fedjax_ecgr.reports.statistics import mean_std, paired
from fedjax_ecgr.reports.tables import markdown

CLIENTS, MALICIOUS, ROUNDS = 100, 20, 40
ATTACKS = {
    "none": None,
    "label flip": fx.attacks.label_flip(),
    "sign flip × 4": fx.attacks.sign_flip(scale=4.0),
    "Gaussian": fx.attacks.gaussian(std=3.0),
    "boosted": fx.attacks.boosted(),
    "LIE": fx.attacks.lie(),
    "IPM × 8": fx.attacks.ipm(scale=8.0),
    "min-max": fx.attacks.min_max(),
}
RULES = {
    "mean": None,
    "median": fx.aggregators.median(),
    "trimmed mean": fx.aggregators.trimmed_mean(num_malicious=MALICIOUS),
    "geometric median": fx.aggregators.geometric_median(),
    "centred clipping": fx.aggregators.centred_clipping(),
    "Multi-Krum": fx.aggregators.multi_krum(num_malicious=MALICIOUS),
    "Bulyan": fx.aggregators.bulyan(num_malicious=MALICIOUS),
}


def accuracies(attack: str, rule: str, regulator: fx.Regulator, seeds: int) -> list[float]:
    """Test accuracy after the last round in %, by seed; 0 where a run diverged."""
    data = fx.datasets.digits()
    clients = fx.partition.dirichlet(data.train, num_clients=CLIENTS, alpha=0.5, seed=0)
    method = fx.fedavg(
        regulator=regulator, aggregator=RULES[rule], learning_rate=0.05, momentum=0.9
    )
    attacked = ATTACKS[attack] is not None
    built = fx.simulation(
        method, fx.models.mlp(data.spec, hidden=(64,)), clients, test=data.test,
        local_epochs=5, batch_size=5, attack=ATTACKS[attack],
        malicious_share=MALICIOUS / CLIENTS if attacked else 0.0,
    )  # fmt: skip
    found = []
    for seed in range(seeds):
        try:
            history = fx.run(built, rounds=ROUNDS, seed=seed, eval_every=ROUNDS)
            found.append(100 * float(history.table["test_accuracy"][-1]))
        except fx.DivergedError:
            found.append(0.0)
    return found


def main(seeds: int = 10, out: Path = Path("docs")) -> None:
    """Runs everything and writes table and figure."""
    table = {
        (rule, attack): accuracies(attack, rule, fx.identity(), seeds if rule == "mean" else 2)
        for rule in RULES
        for attack in ATTACKS
    }
    regulated = {attack: accuracies(attack, "mean", fx.ecgr(), seeds) for attack in ATTACKS}
    rows = [[rule, *(mean_std(table[rule, attack]) for attack in ATTACKS)] for rule in RULES]
    rows.append(["mean, ECGR clients", *(mean_std(regulated[attack]) for attack in ATTACKS)])
    differences = [
        [attack, str(paired(regulated[attack], table["mean", attack]))] for attack in ATTACKS
    ]
    (out / "robustness.md").write_text(
        "# Attacks and robust aggregation\n\n"
        f"Digits, Dirichlet(0.5) over {CLIENTS} clients, all take part, {MALICIOUS} of them "
        f"malicious; MLP (64), 5 local epochs, batches of 5, learning rate 0.05, momentum 0.9, "
        f"{ROUNDS} rounds. Test accuracy after the last round in %, mean ± standard deviation "
        f"over {seeds} seeds for the mean and 2 for the other rules, the partition being one; a "
        "run that diverged counts as 0. `python -m experiments.robustness` makes this page.\n\n"
        + markdown(["rule", *ATTACKS], rows)
        + "\n![accuracy under attack](robustness.png)\n\n"
        "Here the mean falls under coarse attacks alone: by its formula LIE moves 20 of 100 "
        "clients by 0.29 standard deviations, of which the mean takes a fifth, and noise of that "
        "size averages out. In Flower's FLANDERS baseline (an MLP on Fashion-MNIST, one run each) "
        "it falls under noise (25 %), LIE (17 %) and min-max (11 %) too, the last two in part "
        "because what it computes under these names is something else "
        "([beside it](flanders.md)).\n\n"
        "## Does ECGR make the mean more resilient?\n\n"
        "ECGR (β = 0.2, ρ = 0.5) on every honest client, against the plain mean, paired by seed: "
        "difference in points with its 95 % interval (bootstrap), wins/ties/losses.\n\n"
        + markdown(["attack", "ECGR − plain"], differences)
    )
    figure(table, regulated).savefig(out / "robustness.png", dpi=110)
    print((out / "robustness.md").read_text())


def figure(table: dict, regulated: dict):  # type: ignore[no-untyped-def]
    """Returns a heat map of the mean accuracies, rules by attacks."""
    from matplotlib.figure import Figure

    names = [*RULES, "mean, ECGR clients"]
    values = np.array(
        [[np.mean(table[rule, attack]) for attack in ATTACKS] for rule in RULES]
        + [[np.mean(regulated[attack]) for attack in ATTACKS]]
    )
    drawn = Figure(figsize=(8, 4.5), layout="constrained")
    axes = drawn.subplots()
    axes.imshow(values, vmin=0, vmax=100, cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < 50 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(ATTACKS)), list(ATTACKS))
    axes.set_yticks(range(len(names)), names)
    axes.set_title(f"test accuracy in %, {MALICIOUS} of {CLIENTS} clients malicious")
    return drawn


if __name__ == "__main__":
    main()
