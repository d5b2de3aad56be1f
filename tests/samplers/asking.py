"""What a sampler's tests ask of it: cohorts outside an engine."""

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr.samplers.base import Population


def numbers_of(sampler, **others):
    given = {**sampler.hyperparameters, **others}
    return {name: jnp.asarray(value, float) for name, value in given.items()}


def ask(sampler, key, sizes, size, t=0, state=None, losses=None, **numbers):
    """The cohort of a round."""
    sizes = jnp.asarray(sizes, jnp.int32)
    state = sampler.init(len(sizes)) if state is None else state
    population = Population(jnp.asarray(t, jnp.int32), sizes, losses or no_losses)
    return sampler.sample(key, state, population, size, numbers_of(sampler, **numbers))


def no_losses(clients):
    return jnp.zeros(clients.shape, float)


def many(sampler, sizes, size, draws=4000, seed=0, **given):
    """Cohorts of as many keys: clients and weights, [draws, size] each."""
    keys = jax.random.split(jax.random.key(seed), draws)
    cohorts = jax.jit(jax.vmap(lambda key: ask(sampler, key, sizes, size, **given)))(keys)
    return np.asarray(cohorts.clients), np.asarray(cohorts.weights)


def near(shares, wanted, draws):
    """Whether shares of independent draws are within 4 standard deviations of probabilities."""
    wanted = np.asarray(wanted, float)
    room = 4 * np.sqrt(wanted * (1 - wanted) / draws) + 1e-6
    return (np.abs(np.asarray(shares) - wanted) <= room).all()


def inclusion(clients, num_clients):
    """[N], the share of cohorts that hold each client."""
    return np.bincount(clients.ravel(), minlength=num_clients) / len(clients)
