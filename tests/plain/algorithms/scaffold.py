"""SCAFFOLD, option II; the server's state is (c, N)."""

import numpy as np


def init_server(w, num_clients):
    return np.zeros_like(w), num_clients


def init_client(w):
    return np.zeros_like(w)


def broadcast(state):
    return state[0]


def client(c, w, received, own):
    trained = c.train(correct=lambda x: x - c.eta * (received - own))
    new = own - received + (w - trained.params) / (trained.num_steps * c.eta)
    return {"update": trained.update, "uniform": new - own}, new


def server(w, state, upload, numbers, cohort):
    control, num_clients = state
    control = control + len(cohort) / num_clients * upload["uniform"]
    return w - numbers["server_learning_rate"] * upload["update"], (control, num_clients)
