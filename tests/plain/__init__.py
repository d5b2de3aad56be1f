"""The slow truth: ECGR in NumPy and federated rounds in plain loops, as the papers write them.

Nothing here is shared with the engine but the documented scheme of randomness and, for gradients,
`jax.grad` of the loss over exactly the examples of a batch: no masks, no stacking, no compilation.
"""

from typing import NamedTuple

import jax
import numpy as np


def select(deltas, k, rule):
    """The k convergent steps of [τ, P] deltas, in the order chosen."""
    tau, mean = len(deltas), deltas.mean(axis=0)
    if rule == "greedy":
        chosen, total = [], np.zeros_like(mean)
        for _ in range(k):
            left = [step for step in range(tau) if step not in chosen]
            best = min(left, key=lambda step: np.linalg.norm(total + deltas[step]))
            chosen.append(best)
            total = total + deltas[best]
        return chosen
    if rule == "smallest_norm":
        scores = [np.linalg.norm(d) for d in deltas]
    elif rule == "nearest_mean":
        scores = [np.linalg.norm(d - mean) for d in deltas]
    elif rule == "cosine_mean":
        norms = [np.linalg.norm(d) * np.linalg.norm(mean) for d in deltas]
        scores = [
            -(d @ mean) / norm if norm else 0.0 for d, norm in zip(deltas, norms, strict=True)
        ]
    return sorted(range(tau), key=lambda step: scores[step])[:k]


def ecgr(deltas, beta, select_ratio, rule="greedy"):
    """The regulated update of [τ, P] deltas, and the convergent steps."""
    tau = len(deltas)
    k = max(1, int(np.floor(tau * select_ratio)))
    convergent = select(deltas, k, rule)
    exploratory = [step for step in range(tau) if step not in convergent]
    u = deltas[convergent].sum(axis=0) + beta * deltas[exploratory].sum(axis=0)
    total = deltas.sum(axis=0)
    if np.linalg.norm(u) == 0:
        return total, convergent
    return u * np.linalg.norm(total) / np.linalg.norm(u), convergent


class Method(NamedTuple):
    """One of the methods, by name and numbers."""

    name: str
    regulated: bool
    eta: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    mu: float = 0.1
    beta: float = 0.2
    select_ratio: float = 0.5


class Server(NamedTuple):
    """Flat parameters, server control variate, the clients' control variates."""

    w: np.ndarray
    c: np.ndarray
    controls: list


def start(w, num_clients):
    """The server before the first round."""
    return Server(w, np.zeros_like(w), [np.zeros_like(w) for _ in range(num_clients)])


def batches(key, rows, batch_size, epochs):
    """Each local step's examples: a fresh order an epoch, the last batch partial."""
    order_key = jax.random.fold_in(key, 0)
    for epoch in range(epochs):
        # the engine draws one number for each column of its rectangle; the first n belong to the
        # client's n examples, whose order is that of their numbers
        draws = jax.random.bits(jax.random.fold_in(order_key, epoch), (rows.width,), np.uint32)
        order = np.argsort(np.asarray(draws)[: len(rows.own)], kind="stable")
        for first in range(0, len(order), batch_size):
            yield rows.own[order[first : first + batch_size]]


class Rows(NamedTuple):
    """A client's examples, and the width of the rectangle they are stored in."""

    own: np.ndarray
    width: int


def cohort(key, num_clients, size):
    """The clients of a round whose key is given."""
    if size == num_clients:
        return list(range(num_clients))
    server_key = jax.random.fold_in(key, np.uint32(2**32 - 1))
    draws = np.asarray(jax.random.bits(server_key, (num_clients,), np.uint32)).astype(np.int64)
    # the largest of 30 bits; of equals, the first
    return sorted(np.argsort(-(draws >> 2), kind="stable")[:size].tolist())


def run_round(method, server, t, key, gradient, clients, cohort_size, batch_size, epochs):
    """One round. `gradient(w, rows)` is that of the mean loss over the examples `rows`."""
    round_key = jax.random.fold_in(key, t)
    chosen = cohort(round_key, len(clients), cohort_size)
    weights = np.array([len(clients[i].own) for i in chosen], float)
    weights = weights / weights.sum()
    updates, steps, changes = [], [], []
    controls = list(server.controls)
    for i in chosen:
        w, velocity, deltas = server.w, np.zeros_like(server.w), []
        for batch in batches(jax.random.fold_in(round_key, i), clients[i], batch_size, epochs):
            g = gradient(w, batch) + method.weight_decay * w
            if method.name == "fedprox":
                g = g + method.mu * (w - server.w)
            velocity = method.momentum * velocity + g
            stepped = w - method.eta * velocity
            if method.name == "scaffold":
                stepped = stepped - method.eta * (server.c - server.controls[i])
            deltas.append(w - stepped)
            w = stepped
        if not deltas:
            updates.append(np.zeros_like(w))
            steps.append(0)
            changes.append(np.zeros_like(w))
            continue
        deltas = np.array(deltas)
        tau = len(deltas)
        update = deltas.sum(axis=0)
        if method.regulated:
            update = ecgr(deltas, method.beta, method.select_ratio)[0]
        updates.append(update)
        steps.append(tau)
        new = server.controls[i] - server.c + (server.w - w) / (tau * method.eta)
        changes.append(new - server.controls[i])
        controls[i] = new
    if method.name == "fednova":
        mean_steps = sum(p * tau for p, tau in zip(weights, steps, strict=True))
        per_step = [u / tau if tau else u for u, tau in zip(updates, steps, strict=True)]
        total = mean_steps * sum(p * u for p, u in zip(weights, per_step, strict=True))
    else:
        total = sum(p * u for p, u in zip(weights, updates, strict=True))
    c = server.c + sum(changes) / len(clients)
    return Server(server.w - total, c, controls)
