"""q-FedAvg, with L = 1/η: Δ = F^q L u, h = q F^(q−1) ‖L u‖² + L F^q, w ← w − Σ p Δ / Σ p h."""


def client(c, w, received, own):
    q, lipschitz, loss = c.numbers["q"], 1 / c.eta, c.loss(w, c.rows) + 1e-10
    gradient = lipschitz * c.train().update
    h = q * loss ** (q - 1) * (gradient @ gradient) + lipschitz * loss**q
    return {"update": loss**q * gradient, "weighted": h}, own


def server(w, state, upload, numbers, cohort):
    return w - numbers["server_learning_rate"] * upload["update"] / upload["weighted"], state
