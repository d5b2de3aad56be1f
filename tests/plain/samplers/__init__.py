"""Samplers in NumPy, as the papers write them.

A file holds `sample(key, t, sizes, size, numbers, state, losses) -> (clients, weights)` of round t,
`losses` a function of one client, and, where a state is kept, `init(num_clients)` and
`update(state, clients, present, losses)`. Draws are those that the engine makes with the same key.
"""
