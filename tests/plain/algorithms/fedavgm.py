"""FedAvgM: v ← βv + ū, w ← w − η_s v; the algorithm itself keeps nothing, its optimiser v."""


def init_server(w, num_clients):
    return None, 0 * w


def server(w, state, upload, numbers, cohort):
    v = numbers["server_momentum"] * state[1] + upload["update"]
    return w - numbers["server_learning_rate"] * v, (None, v)
