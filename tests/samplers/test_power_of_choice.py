"""Power of choice against a plain loop, and how it ranks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.samplers import power_of_choice
from fedjax_ecgr.samplers.base import Cohort, Heard
from tests.engine.test_parts import LAYOUTS, SIZES, federation, simulation
from tests.plain.samplers import power_of_choice as plain
from tests.samplers.asking import ask, inclusion, many, near

SERVER_STREAM = np.uint32(2**32 - 1)


def loss_of(data, params, client):
    """The mean loss of logistic regression over one client's examples."""
    rows = np.asarray(data.indices[client])[: SIZES[client]]
    if not len(rows):
        return 0.0
    logits = np.asarray(data.examples.inputs)[rows] @ params["kernel"] + params["bias"]
    top = logits.max(axis=1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return -logs[np.arange(len(rows)), np.asarray(data.examples.labels)[rows]].mean()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("losses", ["exact", "reported"])
def test_runs_take_the_cohorts_of_the_plain_loop(losses, layout, x64):
    numbers = {"candidates": 4}
    built = simulation(
        sampler=power_of_choice(4, losses), cohort_size=2, **LAYOUTS[layout],
        algorithm=fx.fedavg(learning_rate=0.1),
    )  # fmt: skip
    data, key, one = federation(), jax.random.key(5), jax.jit(built.round)
    state, heard, cohorts = built.init(key), plain.init(len(SIZES)), []
    for t in range(6):
        params = jax.tree.map(np.asarray, state.params["fc1"])
        exact = (lambda i, params=params: loss_of(data, params, i)) if losses == "exact" else None
        own = jax.random.fold_in(jax.random.fold_in(key, t), SERVER_STREAM)
        clients, _ = plain.sample(own, t, SIZES, 2, numbers, heard, exact)
        state, info = one(state, key, built.hyperparameters)
        assert info.cohort.tolist() == clients
        present = [SIZES[i] > 0 for i in clients]
        heard = plain.update(heard, clients, present, info.clients.loss.tolist())
        if losses == "reported":
            np.testing.assert_allclose(state.server.sampler, heard, rtol=1e-12)
        cohorts.append(tuple(clients))
    assert len(set(cohorts)) > 2


def test_with_all_as_candidates_those_with_the_largest_losses_take_part():
    losses = jnp.array([0.1, 3.0, 2.0, 0.0, 9.0])
    exact = ask(
        power_of_choice(5, "exact"), jax.random.key(0), [1] * 5, 2, losses=losses.__getitem__
    )
    assert exact.clients.tolist() == [1, 4]
    last = ask(power_of_choice(5), jax.random.key(0), [1] * 5, 3, state=losses)
    assert last.clients.tolist() == [1, 2, 4]


def test_of_equals_any_are_taken():
    """At first nobody has reported: then cohorts are as good as drawn by size."""
    clients, _ = many(power_of_choice(6), [1] * 6, 2)
    assert near(inclusion(clients, 6), np.full(6, 1 / 3), len(clients))


def test_clients_without_examples_come_after_all_others():
    """They never report a loss, and would stay ahead of all who did."""
    never = jnp.array([0.1, jnp.inf, 0.3, jnp.inf, jnp.inf])
    cohort = ask(power_of_choice(5), jax.random.key(0), [1, 0, 4, 2, 0], 3, state=never)
    assert cohort.clients.tolist() == [0, 2, 3]


def test_few_candidates_are_drawn_by_size():
    """With as many as the cohort, losses say nothing."""
    sampler, sizes = power_of_choice(2, "exact"), [1, 2, 3, 10, 4]
    clients, weights = many(sampler, sizes, 2, losses=lambda c: c.astype(float))
    wanted = plain.by_size.inclusion(sizes, 2)
    assert near(inclusion(clients, 5), wanted, len(clients))
    assert (weights == 1).all()


def test_only_those_who_sent_something_are_heard():
    sampler = power_of_choice(3)
    cohort = Cohort(jnp.array([0, 2], jnp.int32), jnp.ones(2))
    heard = Heard(cohort, jnp.array([True, False]), jnp.array([0.5, 0.0]), {})
    assert sampler.update(sampler.init(3), heard).tolist() == [0.5, np.inf, np.inf]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: power_of_choice(0), "candidates: 0 is not allowed"),
        (lambda: power_of_choice(losses="exakt"), "losses: unknown 'exakt', did you mean 'exact'?"),
        (
            lambda: simulation(sampler=power_of_choice(7), cohort_size=3),
            "candidates: 7 is not allowed, it must be from 3 (the cohort size) to 6 (the number of",
        ),
        (
            lambda: simulation(sampler=power_of_choice(2), cohort_size=3),
            "candidates: 2 is not allowed, it must be from 3",
        ),
    ],
)
def test_bad_numbers_are_named(make, said):
    with pytest.raises(fx.InputError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
