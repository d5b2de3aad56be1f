"""Attacks in NumPy, as the papers write them; a file holds one or several of

    labels(y, num_classes) -> y             alone(u, weight, numbers, key) -> u
    together(honest, num_malicious, numbers) -> what every malicious client sends

of flat updates: `honest` [h, P] are those of the honest clients that sent something, h ≥ 1.
"""
