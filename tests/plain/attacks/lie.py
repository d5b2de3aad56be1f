from statistics import NormalDist


def together(honest, num_malicious, numbers):
    z = numbers.get("z", z_max(len(honest) + num_malicious, num_malicious))
    return honest.mean(axis=0) + z * honest.std(axis=0)


def z_max(n, m):
    s = n // 2 + 1 - m
    supporters = min(max(s, 0.5), n - m - 0.5)  # the normal quantile of 0 and 1 is infinite
    return NormalDist().inv_cdf((n - m - supporters) / (n - m))
