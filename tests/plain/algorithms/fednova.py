"""FedNova: w − (Σ p τ)(Σ p u/τ)."""


def client(c, w, received, own):
    trained = c.train()
    return {"update": trained.update / trained.num_steps, "weighted": trained.num_steps}, own


def server(w, state, upload, numbers, cohort):
    return w - numbers["server_learning_rate"] * upload["weighted"] * upload["update"], state
