"""Devices that differ, drop out, straggle, and miss deadlines."""

import math

import jax
import numpy as np


def devices(key, num_clients, numbers):
    """Each client's seconds a step, and bytes a second."""
    speed, band = np.asarray(jax.random.normal(key, (2, num_clients), float))
    return [
        (
            numbers["step_seconds"] * math.exp(numbers["speed_spread"] * a),
            numbers["bandwidth"] * math.exp(numbers["bandwidth_spread"] * b),
        )
        for a, b in zip(speed, band, strict=True)
    ]


def work(key, devices, clients, steps, num_bytes, numbers, late):
    """What each manages, and the seconds of the round."""
    done, waited = [], 0.0
    for client, asked in zip(clients, steps, strict=True):
        own = jax.random.fold_in(key, client)
        luck, ease = (float(x) for x in jax.random.uniform(own, (2,), float))
        if luck < numbers["dropout"] or asked == 0:
            done.append(0)
            continue
        each, bandwidth = devices[client]
        share = 1 - (1 - numbers["min_steps_share"]) * ease
        tries = math.ceil(round(share * asked, 6))
        needed = num_bytes / bandwidth + tries * each
        if needed > numbers["deadline"]:
            fit = math.floor((numbers["deadline"] - num_bytes / bandwidth) / each)
            tries = max(0, fit) if late == "partial" else 0
        done.append(tries)
        waited = max(waited, min(needed, numbers["deadline"]))
    return done, waited
