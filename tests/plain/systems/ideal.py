"""Devices that manage everything, in no time."""


def devices(key, num_clients, numbers):
    return ()


def work(key, devices, clients, steps, num_bytes, numbers=None, late=None):
    return list(steps), 0.0
