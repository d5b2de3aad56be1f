"""The sum of the deltas."""


def regulate(deltas, numbers, memory, direction):
    return deltas.sum(axis=0), memory
