"""FedDyn; the server's state is (h, N)."""

import numpy as np


def init_server(w, num_clients):
    return np.zeros_like(w), num_clients


def init_client(w):
    return np.zeros_like(w)


def client(c, w, received, own):
    alpha = c.numbers["alpha"]
    trained = c.train(gradient=lambda x, rows: c.gradient(x, rows) - own + alpha * (x - w))
    moved = trained.params - w
    return {"update": trained.update, "uniform": moved}, own - alpha * moved


def server(w, state, upload, numbers, cohort):
    h, num_clients = state
    h = h - numbers["alpha"] * len(cohort) / num_clients * upload["uniform"]
    direction = upload["update"] + h / numbers["alpha"]
    return w - numbers["server_learning_rate"] * direction, (h, num_clients)
