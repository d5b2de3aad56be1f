"""FedProx: the gradient of the loss plus (μ/2)‖w − w_t‖²."""


def client(c, w, received, own):
    def gradient(x, rows):
        return c.gradient(x, rows) + c.numbers["mu"] * (x - w)

    return {"update": c.train(gradient=gradient).update}, own
