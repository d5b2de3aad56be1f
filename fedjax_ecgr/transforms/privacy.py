r"""What a run with `dp_fedavg` gives away: (ε, δ), by Rényi accounting.

In each of T rounds m of N clients are drawn without replacement, and the mean of their updates has
noise of z times the most that one update can contribute. Two federations are neighbours if one
client's data are *replaced* by any other: then the mean moves by up to twice that, so that the
mechanism is Gaussian with a noise multiplier of z / 2, composed over T rounds and amplified by
sampling without replacement (Wang, Balle, Kasiviswanathan, arXiv 1808.00087). Their bound is above
that of the same mechanism without sampling where m is near N or noise is large; as sampling never
gives more away, the smaller ε counts.

It holds for cohorts drawn by `fedjax_ecgr.samplers.uniform`, and for what `dp_fedavg` makes noisy,
the update. Not covered are statistics of batch normalisation and what an algorithm sends besides
(SCAFFOLD's control variates), nor losses that clients report. The server that adds up is trusted
not to look at a single update; weights and cohort sizes are taken to be public.
"""

from fedjax_ecgr import check


def epsilon(
    noise_multiplier: float, cohort_size: int, num_clients: int, rounds: int, delta: float = 1e-5
) -> float:
    """Returns the ε of a run with `dp_fedavg`, for the δ given.

    Args:
      noise_multiplier: z ≥ 0, as in `dp_fedavg`.
      cohort_size: m, clients a round.
      num_clients: N.
      rounds: T.
      delta: δ in (0, 1), below 1 / N to mean anything.

    Returns:
      ε; infinite without noise, or with less than 1e-100, and that of 1e6 with more than that.

    Raises:
      InputError: for a number out of range, or where dp-accounting is not installed.
    """
    check.number("noise_multiplier", noise_multiplier, low=0, single=True)
    check.count("num_clients", num_clients)
    check.count("cohort_size", cohort_size, high=num_clients, why="the number of clients")
    check.count("rounds", rounds)
    check.number("delta", delta, low=0, high=1, low_open=True, high_open=True, single=True)
    try:
        import dp_accounting
        from dp_accounting.rdp import RdpAccountant
    except ImportError:
        raise check.InputError(
            "epsilon: dp-accounting is not installed; pip install 'fedjax-ecgr[dp]' installs it"
        ) from None
    if noise_multiplier < 1e-100:  # the accountant divides by its square, 0 from 1e-162 on
        return float("inf")
    # the accountant's own float64 ends above that, and more noise gives no more away
    whole = dp_accounting.GaussianDpEvent(min(noise_multiplier, 1e6) / 2)
    sampled = dp_accounting.SampledWithoutReplacementDpEvent(num_clients, cohort_size, whole)
    relation = dp_accounting.NeighboringRelation.REPLACE_ONE

    def bound(event: dp_accounting.DpEvent) -> float:
        accountant = RdpAccountant(neighboring_relation=relation)
        return float(accountant.compose(event, rounds).get_epsilon(delta))

    return min(bound(whole), bound(sampled))
