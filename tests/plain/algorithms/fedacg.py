"""FedACG: clients start from w − η_s λ v and are tied to it; v ← λv + ū, w ← w − η_s v."""


def init_server(w, num_clients):
    return 0 * w


def client(c, w, received, own):
    ahead = w - c.numbers["server_learning_rate"] * c.numbers["acceleration"] * received

    def gradient(x, rows):
        return c.gradient(x, rows) + c.numbers["mu"] * (x - ahead)

    return {"update": c.train(ahead, gradient=gradient).update}, own


def server(w, state, upload, numbers, cohort):
    v = numbers["acceleration"] * state + upload["update"]
    return w - numbers["server_learning_rate"] * v, v
