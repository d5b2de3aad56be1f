"""FedDC; a client keeps its drift and its last mean step."""

import numpy as np


def init_server(w, num_clients):
    return np.zeros_like(w)


def init_client(w):
    return {"drift": np.zeros_like(w), "step": np.zeros_like(w)}


def client(c, w, received, own):
    drift = own["drift"]

    def gradient(x, rows):
        penalty = c.numbers["alpha"] * (x + drift - w)
        return c.gradient(x, rows) + penalty + own["step"] - received

    trained = c.train(gradient=gradient)
    moved = trained.params - w
    step = moved / (trained.num_steps * c.eta)
    new = {"drift": drift + moved, "step": step}
    return {"update": trained.update - new["drift"], "uniform": step}, new


def server(w, state, upload, numbers, cohort):
    return w - numbers["server_learning_rate"] * upload["update"], upload["uniform"]
