r"""synthetic(α, β): clients that differ in labelling and in inputs, with no download.

Source: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in Heterogeneous
Networks" (FedProx), arXiv 1812.06127, appendix C.1, after Shamir, Srebro and Zhang (2014).
For client k, an example is

.. math::

  u_k \sim N(0, α),\quad B_k \sim N(0, β),\quad v_k \sim N(B_k, 1),\quad W_k, b_k \sim N(u_k, 1)
  \\
  x \sim N(v_k, Σ),\quad Σ_{jj} = j^{-1.2},\quad y = \arg\max(\mathrm{softmax}(W_k x + b_k))

with 60 features j = 1..60, ten classes, and sizes 50 + LogNormal(4, 2).
"""

import numpy as np

from fedjax_ecgr.check import count, number
from fedjax_ecgr.data.datasets.arrays import arrays
from fedjax_ecgr.data.federated import Dataset

_FEATURES = 60
_CLASSES = 10
_SMALLEST = 50


def synthetic(
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    num_clients: int = 30,
    seed: int = 0,
    iid: bool = False,
    max_size: int | None = None,
    test_fraction: float = 0.1,
) -> Dataset:
    """Returns synthetic(alpha, beta); `partition.natural` divides it as it was drawn.

    As in the authors' generator, alpha and beta are used as standard deviations (the paper writes
    N(0, α); the two agree at its 0 and 1, not at 0.5). There u_k is one number a client: it is
    added to all logits of an example alike, as u_k (1 + Σ_j x_j), so alpha leaves every label as it
    is, and clients have models of their own even at alpha 0. Use `iid` for clients that are alike.

    Every client's draws depend on the seed and its own number only, so that more clients leave the
    earlier ones as they were.

    Args:
      alpha: spread of u_k, the mean of a client's model; at least 0.
      beta: spread of B_k, the mean of a client's inputs; at least 0.
      num_clients: number of clients.
      seed: of all draws.
      iid: whether all clients share one model W, b and have inputs of mean 0; alpha and beta then
        have no effect.
      max_size: cap on a client's number of examples, at least 2. The published sizes have a heavy
        tail: without a cap, the largest of 1,000 clients holds tens of thousands of examples, and
        the index table has as many columns.
      test_fraction: share of each client's examples held out for the test set, in (0, 1); at least
        one example stays on either side.

    Returns:
      The data, float32 with `input_shape` (60,), mean 0 and std 1; `owners` are set in both parts.

    Raises:
      InputError: if an argument is out of range.

    >>> data = synthetic(alpha=0.5, beta=0.5, num_clients=3, max_size=100)
    >>> data.name, data.spec.input_shape, data.spec.num_classes
    ('synthetic(0.5,0.5)', (60,), 10)
    """
    number("alpha", alpha, low=0.0)
    number("beta", beta, low=0.0)
    count("num_clients", num_clients)
    count("seed", seed, low=0)
    if max_size is not None:
        count("max_size", max_size, low=2)
    number("test_fraction", test_fraction, low=0.0, high=1.0, low_open=True, high_open=True)

    shared = _model(np.random.default_rng(seed), 0.0) if iid else None
    clients = [
        _client(np.random.default_rng(source), float(alpha), float(beta), max_size, shared)
        for source in np.random.SeedSequence(seed).spawn(num_clients)
    ]
    inputs = np.concatenate([x for x, _ in clients])
    labels = np.concatenate([y for _, y in clients])
    sizes = np.array([y.size for _, y in clients])
    owners = np.repeat(np.arange(num_clients), sizes)
    test = _held_out(sizes, float(test_fraction))
    return arrays(
        inputs[~test],
        labels[~test],
        inputs[test],
        labels[test],
        num_classes=_CLASSES,
        train_owners=owners[~test],
        test_owners=owners[test],
        name="synthetic(iid)" if iid else f"synthetic({alpha:g},{beta:g})",
    )


def _client(
    rng: np.random.Generator,
    alpha: float,
    beta: float,
    max_size: int | None,
    shared: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns one client's inputs [n, 60] and labels [n]."""
    size = _SMALLEST + int(rng.lognormal(4.0, 2.0))
    size = size if max_size is None else min(size, max_size)
    centre, (weights, bias) = np.zeros(_FEATURES), shared or _model(rng, alpha)
    if shared is None:
        centre = rng.normal(rng.normal(0.0, beta), 1.0, _FEATURES)
    deviations = np.sqrt(np.arange(1.0, _FEATURES + 1.0) ** -1.2)
    inputs = rng.normal(centre, deviations, (size, _FEATURES))
    # softmax is increasing, so that the largest logit has the largest probability
    return inputs.astype(np.float32), np.argmax(inputs @ weights + bias, axis=1)


def _model(rng: np.random.Generator, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Draws W [60, 10] and b [10], both around one u ~ N(0, alpha)."""
    u = rng.normal(0.0, alpha)
    return rng.normal(u, 1.0, (_FEATURES, _CLASSES)), rng.normal(u, 1.0, _CLASSES)


def _held_out(sizes: np.ndarray, fraction: float) -> np.ndarray:
    """Returns [N] bool: the last examples of each client; they are exchangeable, so no shuffle."""
    kept = sizes - np.clip(np.rint(fraction * sizes).astype(int), 1, sizes - 1)
    rank = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank >= np.repeat(kept, sizes)
