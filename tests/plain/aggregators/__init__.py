"""Aggregators in NumPy, as the papers write them.

A file holds `aggregate(updates, weights, numbers, state) -> (update, state)` over [n, P] updates of
those clients that sent something, n ≥ 1, with their weights [n], and `init(size)` where a state is
kept. Where n is too small for the f in `numbers`, f is lowered to what n carries.
"""
