"""FedProx whose μ rises with the training loss, and falls once that has fallen for a while."""


def init_server(w, num_clients):
    return {"mu": None, "loss": float("inf"), "falls": 0}


def client(c, w, received, own):
    mu = c.numbers["mu"] if received["mu"] is None else received["mu"]
    trained = c.train(gradient=lambda x, rows: c.gradient(x, rows) + mu * (x - w))
    return {"update": trained.update, "weighted": trained.loss}, own


def server(w, state, upload, numbers, cohort):
    return w - numbers["server_learning_rate"] * upload["update"], after(
        state, upload["weighted"], numbers
    )


def after(state, loss, numbers):
    """The state after a round with a mean training loss."""
    mu = numbers["mu"] if state["mu"] is None else state["mu"]
    if loss < state["loss"]:
        falls = state["falls"] + 1
        if falls >= numbers["patience"]:
            mu = max(0.0, mu - numbers["mu_step"])
    else:
        falls = 0
        mu = min(1.0, mu + numbers["mu_step"])
    return {"mu": mu, "loss": loss, "falls": falls}
