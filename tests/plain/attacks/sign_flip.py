def alone(u, weight, numbers, key):
    return -numbers["scale"] * u
