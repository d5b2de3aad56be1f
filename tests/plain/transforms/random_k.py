"""Random-k: the entries of the k smallest draws, one 32-bit number each."""

import numpy as np

from tests.plain.transforms.top_k import keep


def random_k(v, error, draws, k):
    """What is sent of v + error, and the error left."""
    whole = v + error
    sent = keep(whole, np.argsort(draws, kind="stable")[:k])
    return sent, whole - sent
