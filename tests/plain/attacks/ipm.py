def together(honest, num_malicious, numbers):
    return -numbers["scale"] * honest.mean(axis=0)
