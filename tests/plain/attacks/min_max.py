import numpy as np


def together(honest, num_malicious, numbers, direction="std"):
    """The paper's search: steps that are halved, from a γ that is far too large."""
    mean = honest.mean(axis=0)
    p = {
        "unit": -mean / np.linalg.norm(mean) if mean.any() else np.zeros_like(mean),
        "sign": -np.sign(mean),
        "std": -honest.std(axis=0),
    }[direction]
    if not p.any():
        return mean
    apart = max(np.linalg.norm(a - b) for a in honest for b in honest)
    succeeded, gamma = 0.0, 2 * apart / np.linalg.norm(p)
    step = gamma / 2
    for _ in range(100):
        if all(np.linalg.norm(mean + gamma * p - u) <= apart for u in honest):
            succeeded, gamma = gamma, gamma + step
        else:
            gamma -= step
        step /= 2
    return mean + succeeded * p
