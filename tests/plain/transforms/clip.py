"""Clipping."""

import numpy as np


def clip(v, max_norm):
    return v * min(1.0, max_norm / np.linalg.norm(v)) if np.any(v) else v
