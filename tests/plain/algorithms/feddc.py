"""FedDC; clients keep drift and control variate, the server their means, and N."""

import numpy as np


def init_server(w, num_clients):
    return {"drift": np.zeros_like(w), "control": np.zeros_like(w)}, num_clients


def init_client(w):
    return {"drift": np.zeros_like(w), "control": np.zeros_like(w)}


def broadcast(state):
    return state[0]["control"]


def client(c, w, received, own):
    drift, control, m = own["drift"], own["control"], c.numbers["momentum"]

    def gradient(x, rows):
        return c.gradient(x, rows) + c.numbers["alpha"] * (x + drift - w) + received - control

    trained = c.train(gradient=gradient)
    # a gradient of the k-th last step is taken 1 + m + … + m^(k − 1) times
    times = sum(m**j for k in range(trained.num_steps) for j in range(k + 1))
    new = control - received + (w - trained.params) / (c.eta * times)
    change = {"drift": trained.params - w, "control": new - control}
    after = {"drift": drift + trained.params - w, "control": new}
    return {"update": trained.update, "weighted": change}, after


def server(w, state, upload, numbers, cohort):
    means, num_clients = state
    share = len(cohort) / num_clients
    means = {name: mean + share * upload["weighted"][name] for name, mean in means.items()}
    direction = upload["update"] - means["drift"]
    return w - numbers["server_learning_rate"] * direction, (means, num_clients)
