"""The privacy of noisy means: the Gaussian mechanism exactly, and with sampling by Rényi orders."""

from math import comb

import mpmath
from scipy.optimize import brentq
from scipy.stats import norm

ORDERS = [1 + x / 10 for x in range(1, 100)] + list(range(11, 64))


def gaussian(multiplier, rounds, delta):
    """ε of the Gaussian mechanism T times: Balle and Wang, arXiv 1805.06530, theorem 8."""
    mu = rounds**0.5 / multiplier  # T times is once, with the noise over √T

    def more(epsilon):
        lost = norm.cdf(mu / 2 - epsilon / mu)
        return lost - mpmath.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - delta

    return brentq(lambda epsilon: float(more(epsilon)), 0, 2000)


def sampled(multiplier, share, rounds, delta):
    """An upper bound of ε with a share of all drawn without replacement each time.

    Wang, Balle, Kasiviswanathan, arXiv 1808.00087: theorem 27 at whole orders, corollary 10 between
    them; ε and δ from the Rényi divergence as in Canonne, Kamath, Steinke, arXiv 2004.00010.
    """
    share = mpmath.mpf(share)
    with mpmath.workdps(60):
        least = [_least(multiplier, j) for j in range(max(ORDERS) + 1)]
        logs = {1: mpmath.mpf(0)}
        for order in range(2, max(ORDERS) + 1):
            terms = (share**j * comb(order, j) * least[j] for j in range(2, order + 1))
            logs[order] = mpmath.log(1 + sum(terms))

        def epsilon(order):
            low, between = int(order), order - int(order)
            moment = logs[low] if not between else (
                (1 - between) * logs[low] + between * logs[low + 1]
            )  # fmt: skip
            spent = rounds * moment / (order - 1)
            return (
                spent
                + mpmath.log1p(-1 / mpmath.mpf(order))
                - mpmath.log(delta * order) / (order - 1)
            )

        return float(min(epsilon(order) for order in ORDERS))


def _least(multiplier, order):
    """The least of what bounds the term of an order, from the Gaussian mechanism's moments."""

    def moment(j):  # e^{(j − 1) ε(j)}
        return mpmath.exp(mpmath.mpf(j) * (j - 1) / (2 * mpmath.mpf(multiplier) ** 2))

    def difference(j):
        return sum((-1) ** (j - i) * comb(j, i) * moment(i) for i in range(j + 1))

    if order <= 2:
        return min(4 * (moment(2) - 1), 2 * moment(2))
    tight = 4 * mpmath.sqrt(difference(order // 2 * 2) * difference(-(-order // 2) * 2))
    return min(tight, 2 * moment(order))
