"""The slow truth: every method in NumPy and plain loops, as the papers write it.

Nothing here is shared with the package but the documented scheme of randomness and, for gradients,
`jax.grad` of the loss over exactly the examples of a batch: no masks, no stacking, no compiled
loops. `federation.py` runs rounds; what a method does stands in `algorithms/NAME.py` and
`regulators/NAME.py`, found by name.

An algorithm's file holds what differs from FedAvg of

    init_server(w, num_clients) -> state        init_client(w) -> own state
    broadcast(state) -> received                client(c, w, received, own) -> (upload, own)
    server(w, state, upload, numbers, cohort) -> (w, state)
    gather(c, w, received, own) -> what is averaged before; `received` is (received, that) then
    personal(c, w, received, own) -> the parameters that client c is judged by

over flat vectors, with `c` a `federation.Client`. An upload is a dict: `update` and `weighted`
reach the server averaged with weights p_i, `uniform` with 1 / |cohort|, `each` by client. A state
that is a tuple shows its first part to the test; dicts are compared name by name.

A regulator's file holds `regulate(deltas, numbers, memory, direction) -> (update, memory)` of
[τ, P] deltas, and `remember() -> memory` where it has one.
"""
