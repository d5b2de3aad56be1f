"""Makes rliable.json anew, in an environment of its own: pip install rliable 'pandas<3'.

    python tests/reports/rliable_numbers.py > tests/reports/rliable.json

Scores are drawn once, in four studies of [runs, tasks], with ties in the third and one task that is
the same for both sides in the fourth. Estimates are [value, low, high].
"""

import json
from importlib.metadata import version

import numpy as np


def estimate(scores, measure, draws):
    """Returns what rliable says, by a percentile bootstrap."""
    from rliable import library  # the project's own environment does not have it

    np.random.seed(0)  # noqa: NPY002 (rliable draws from NumPy's global generator)
    value, interval = library.get_interval_estimates(
        {"it": scores}, lambda *sides: np.array([measure(*sides)]), reps=draws
    )
    return [float(value["it"][0]), *map(float, interval["it"][:, 0])]


def main():
    """Prints the file."""
    from rliable import metrics

    rng, cases = np.random.default_rng(2021), []
    for runs, tasks, others in ((10, 3, 10), (5, 1, 5), (7, 4, 9), (3, 2, 3)):
        middle = rng.uniform(0.4, 0.9, tasks)
        x = np.round(middle + 0.03 + 0.05 * rng.standard_normal((runs, tasks)), 4)
        y = np.round(middle + 0.05 * rng.standard_normal((others, tasks)), 4)
        if tasks == 4:
            y[:5, 0] = x[:5, 0]
        if tasks == 2:
            y[:, 1] = x[:, 1]
        cases.append(
            {
                "x": x.tolist(),
                "y": y.tolist(),
                "iqm_x": estimate(x, metrics.aggregate_iqm, 20_000),
                "iqm_y": estimate(y, metrics.aggregate_iqm, 20_000),
                "improvement": estimate([x, y], metrics.probability_of_improvement, 5_000),
            }
        )
    packages = [f"{name} {version(name)}" for name in ("rliable", "arch", "numpy", "scipy")]
    print(json.dumps({"made_by": ["tests/reports/rliable_numbers.py", *packages], "cases": cases}))


if __name__ == "__main__":
    main()
