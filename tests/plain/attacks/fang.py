import numpy as np


def together(honest, num_malicious, numbers):
    """The paper's search, with Krum over all updates, malicious ones first."""
    n, m = len(honest) + num_malicious, num_malicious
    s = np.sign(honest.mean(axis=0))
    near = max(n - m - 2, min(1, n - 1))
    apart = [
        sum(sorted(np.linalg.norm(u - v) for j, v in enumerate(honest) if j != i)[:near])
        for i, u in enumerate(honest)
    ]
    bound = min(apart) / max(n - 2 * m - 1, 1) + max(np.linalg.norm(u) for u in honest)
    length = bound / np.sqrt(max(np.abs(s).sum(), 1))
    while length >= 1e-5 and krum([-length * s] * m + list(honest), near) >= m:
        length /= 2
    return -length * s


def krum(updates, near):
    scores = [
        sum(sorted(np.sum((u - v) ** 2) for j, v in enumerate(updates) if j != i)[:near])
        for i, u in enumerate(updates)
    ]
    return int(np.argmin(scores))
