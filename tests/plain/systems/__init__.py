"""Systems in NumPy: one client after another.

A file holds `devices(key, num_clients, numbers)` and
`work(key, devices, clients, steps, num_bytes, numbers, late) -> (steps, seconds)`.
"""
