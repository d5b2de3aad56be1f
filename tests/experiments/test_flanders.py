"""The attacks as the baseline computes them, by NumPy; and the page says what was found."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import flanders
from fedjax_ecgr.attacks.base import Attacking

CLIENTS, MALICIOUS = 12, 3


def sent(attack, honest):
    """Returns what malicious clients send, who are the first ones and trained something else."""
    updates = np.concatenate([np.full((MALICIOUS, honest.shape[1]), 50.0), honest])
    after = rows(jax.jit(attack.together)({"w": updates}, attacking(())))
    np.testing.assert_array_equal(after[MALICIOUS:], honest)
    assert (after[:MALICIOUS] == after[0]).all()
    return after[0]


def attacking(params):
    malicious, present = np.arange(CLIENTS) < MALICIOUS, np.ones(CLIENTS, bool)
    key, weights = jax.random.key(0), jnp.ones(CLIENTS)
    return Attacking(key, weights, jnp.asarray(malicious), jnp.asarray(present), params, {})


def rows(updates):
    return np.concatenate([np.reshape(u, (CLIENTS, -1)) for u in jax.tree.leaves(updates)], axis=1)


def by_search(honest):
    """Their search for λ, as a loop."""
    mean, std = honest.mean(axis=0), honest.std(axis=0)
    limit = max(np.sum((a - b) ** 2) for a in honest for b in honest)
    found, tried, step = 6.0, 5.0, 2.5
    while step > 1e-5:
        near = max(np.sum((mean + tried * std - u) ** 2) for u in honest) < limit
        found = tried if near else found
        tried += step / 2 if near else -step / 2
        step /= 2
    return found, mean + found * std


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("outlier", "bounded"), [(0.0, False), (40.0, True)])
def test_their_min_max_ends_its_search_or_takes_six(outlier, bounded):
    honest = np.random.default_rng(0).normal(size=(CLIENTS - MALICIOUS, 30))
    honest[0] += outlier
    lam, expected = by_search(honest)
    assert (lam < 6) == bounded
    np.testing.assert_allclose(sent(flanders.flanders_min_max(), honest), expected, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_their_lie_has_the_root_of_the_deviation():
    honest = np.random.default_rng(0).normal(size=(CLIENTS - MALICIOUS, 30))
    supporters = CLIENTS // 2 + 1 - MALICIOUS
    share = (CLIENTS - MALICIOUS - supporters) / (CLIENTS - MALICIOUS)
    z = float(jax.scipy.stats.norm.cdf(share))
    expected = honest.mean(axis=0) + z * np.sqrt(honest.std(axis=0))
    np.testing.assert_allclose(sent(flanders.flanders_lie(), honest), expected, rtol=1e-12)


def krum(models):
    """Their scores: squared distances to the nearest others, as many as all less the bad and 2."""
    apart = ((models[:, None] - models[None]) ** 2).sum(axis=-1)
    return np.sort(apart, axis=1)[:, 1 : CLIENTS - MALICIOUS - 1].sum(axis=1)


def their_opt(models, first, sizes):
    """Their loop over λ on whole models, and how often it halved; `sizes` of the arrays in one."""
    honest, ends = models[MALICIOUS:], np.cumsum(sizes)[:-1]
    lengths = [sum(np.linalg.norm(x) for x in np.split(m - first, ends)) for m in honest]
    fraction = krum(models)[MALICIOUS:].min() / ((CLIENTS - 2) * (MALICIOUS - 1))
    length = min((fraction + max(lengths) ** 2) / np.sqrt(len(sizes)), 999)
    halved = 0
    while True:
        bad = first - length * np.sign(first)
        best = krum(np.concatenate([np.tile(bad, (MALICIOUS, 1)), honest])).argmin()
        if best < MALICIOUS or length <= 1e-5:
            return bad, halved
        length, halved = length / 2, halved + 1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("travelled", "given_up"), [(0.0, False), (3.0, True)])
def test_their_opt_sends_a_model_of_the_first_round_moved(travelled, given_up):
    rng = np.random.default_rng(0)
    shapes = {"bias": (5,), "kernel": (4, 5)}
    first = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    now = {name: x + travelled for name, x in first.items()}
    updates = {name: rng.normal(size=(CLIENTS, *shape)) for name, shape in shapes.items()}
    models = rows({name: now[name][None] - updates[name] for name in shapes})
    flat = np.concatenate([first["bias"], first["kernel"].ravel()])
    expected, halved = their_opt(models, flat, (5, 20))
    assert (halved > 20) == given_up

    attack = flanders.flanders_opt(jax.tree.map(jnp.asarray, first))
    after = jax.jit(attack.together)(updates, attacking(now))
    found = rows({name: now[name][None] - after[name] for name in shapes})
    np.testing.assert_allclose(found[:MALICIOUS], np.tile(expected, (MALICIOUS, 1)), atol=1e-9)
    np.testing.assert_allclose(found[MALICIOUS:], models[MALICIOUS:], atol=1e-12)


def test_the_page_has_what_was_found_beside_theirs():
    found = {"mean | none | 0 | 0": 85.0, "mean | Gauss | 20 | 0": 70.0}
    found |= {"median | Gauss | 20 | 0": 80.0, "Bulyan, num_malicious 20 | Gauss | 20 | 0": 70.0}
    page = flanders.page(found, seeds=1)
    assert "| mean | 85.0 (68) | 70.0 (25) | – |" in page
    # theirs: Bulyan 71, the median 66, the mean 25
    assert "| Gauss, 20 | 1 of 3 | mean like Bulyan; median above Bulyan |" in page
