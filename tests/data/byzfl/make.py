"""Makes the cases of this folder with byzfl; see README.md for how to run it.

byzfl's rules and attacks are in modules of their own that need NumPy, SciPy and PyTorch only. Its
face imports a training framework besides, which this goes around.
"""

import importlib
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np

byzfl = importlib.util.find_spec("byzfl")  # None where only the file is looked at
if byzfl is not None:
    package = types.ModuleType("byzfl")
    package.__path__ = list(byzfl.submodule_search_locations)
    sys.modules["byzfl"] = package
    rules = importlib.import_module("byzfl.aggregators.aggregators")
    attacks = importlib.import_module("byzfl.attacks.attacks")

FOLDER = Path(__file__).parent


def draw(rng, n, size, outliers):
    """Updates that differ from client to client, the first few of them far away."""
    updates = rng.normal(size=size) + rng.normal(size=(n, size)) * rng.uniform(0.5, 2, size=(n, 1))
    updates[:outliers] = 20 * rng.normal(size=(outliers, size))
    return updates[rng.permutation(n)]


def aggregates(updates, f):
    clipping = rules.CenteredClipping(L=1, tau=3.0)
    return {
        "median": rules.Median()(updates),
        "trimmed_mean": rules.TrMean(f)(updates),
        "krum": rules.Krum(f)(updates),
        "multi_krum": rules.MultiKrum(f)(updates),
        "geometric_median": rules.GeometricMedian(nu=0.1, T=5)(updates),
        "centred_clipping_1": clipping(updates),
        "centred_clipping_2": clipping(0.5 * updates),
        "centred_clipping_3_steps": rules.CenteredClipping(L=3, tau=2.0)(updates),
    }


def attacked(honest):
    return {
        "sign_flipping": attacks.SignFlipping()(honest),
        "inner_product_manipulation": attacks.InnerProductManipulation(tau=0.7)(honest),
        "little_is_enough": attacks.ALittleIsEnough(tau=1.5)(honest),
    }


def main():
    rng = np.random.default_rng(0)
    made = {}
    for n, f, size in ((7, 2, 12), (10, 1, 5), (15, 3, 30), (11, 4, 3)):
        updates = draw(rng, n, size, f)
        made[f"{n}_{f}/updates"] = updates
        made |= {f"{n}_{f}/{name}": x for name, x in aggregates(updates, f).items()}
        made |= {f"{n}_{f}/{name}": x for name, x in attacked(updates).items()}
    assert all(x.dtype == np.float64 for x in made.values())
    np.savez_compressed(FOLDER / "cases.npz", **made)


if __name__ == "__main__":
    main()
