"""Per-FedAvg (FO): ∇f(w − α ∇f(w; D); D'), and two steps before a client is judged."""

from tests.plain.algorithms.perfedavg import halves


def client(c, w, received, own):
    def gradient(w, rows):
        first, second = halves(rows)
        return c.gradient(w - c.numbers["inner_rate"] * c.gradient(w, first), second)

    return {"update": c.train(gradient=gradient).update}, own


def personal(c, w, received, own):
    for _ in range(2 if c.n else 0):
        w = w - c.numbers["inner_rate"] * c.gradient(w, c.rows)
    return w
