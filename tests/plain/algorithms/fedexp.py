"""FedExP: w ← w − η_s max(1, Σ p ‖u‖² / 2(‖ū‖² + ε)) ū."""


def client(c, w, received, own):
    update = c.train().update
    return {"update": update, "weighted": update @ update}, own


def server(w, state, upload, numbers, cohort):
    mean = upload["update"]
    far = max(1.0, upload["weighted"] / (2 * (mean @ mean + numbers["epsilon"])))
    return w - numbers["server_learning_rate"] * far * mean, state
