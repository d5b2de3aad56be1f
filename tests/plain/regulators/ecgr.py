"""ECGR, of the same β and ρ in every round."""

from tests.plain.ecgr import ecgr


def regulate(deltas, numbers, memory, direction):
    return ecgr(deltas, numbers["beta"], numbers["select_ratio"])[0], memory
