"""How many malicious clients a rule carries, and what becomes of it where too few are present.

Rules that are told how many clients are malicious, f, hold for a cohort of at least
`per` · f + `more`. Whether all of a cohort carries f is checked before a run. In a round in which
fewer clients send something, f counts as the largest number that those carry: the rule stays
defined down to one client, whose update it returns (and to none, where it returns zeros).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.types import Array


class Need(NamedTuple):
    """A rule holds for a cohort of at least `per` · f + `more` clients."""

    per: int
    more: int


def check_whole(field: str, value: Any, *, low: int = 0) -> None:
    """Raises `InputError` unless a number, or each of an array, is whole and at least `low`."""
    check.number(field, value, low=low)
    if check.is_traced(value):
        return
    values = np.asarray(value, np.float64)
    broken = values[values != np.floor(values)]
    if broken.size:
        raise check.InputError(
            f"{field}: {float(broken.flat[0]):g} is not allowed, it must be a whole number"
        )


def checker(name: str, num_malicious: Any, need: Need) -> Callable[[int], None]:
    """Returns `Aggregator.check` of a rule that is told how many clients are malicious."""

    def check_cohort(cohort_size: int) -> None:
        if check.is_traced(num_malicious):
            return
        f = int(np.max(np.asarray(num_malicious)))
        least = need.per * f + need.more
        if cohort_size < least:
            raise check.InputError(
                f"cohort_size: {cohort_size} is not allowed with {name} and num_malicious {f}, it "
                f"must be at least {least} (n ≥ {need.per} f + {need.more})"
            )

    return check_cohort


def tolerated(num_malicious: Array, num_present: Array, need: Need) -> Array:
    """Returns f, or the largest number that those present carry; int32 scalar.

    Args:
      num_malicious: f.
      num_present: n, how many sent something.
      need: what the rule needs.

    Example:
      >>> tolerated(jnp.array(4.0), jnp.array(9), Need(2, 3))
      Array(3, dtype=int32)
    """
    most = jnp.maximum((num_present - need.more) // need.per, 0).astype(jnp.int32)
    return jnp.minimum(jnp.round(num_malicious).astype(jnp.int32), most)
