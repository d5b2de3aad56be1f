"""Updates as a matrix and back, and matrices worked on in blocks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_ecgr.aggregators import AGGREGATORS, blocks, matrix
from tests.aggregators.stacks import SIZE, as_tree, draw, flatten, received, run


@pytest.fixture(params=[1, 2, 3, 7, 8])
def small_blocks(request, monkeypatch):
    for module in (blocks, matrix):
        monkeypatch.setattr(module, "columns_at_once", lambda: request.param)
    return request.param


def test_a_row_comes_back_as_an_update(small_blocks):
    updates = as_tree(jnp.asarray(draw(0), jnp.float32))
    rows = matrix.as_rows(updates, jnp.ones(11, bool))
    assert rows.values.shape[1] % small_blocks == 0 or small_blocks > SIZE
    for i in (0, 10):
        update = matrix.as_update(rows.values[i], updates)
        chex.assert_trees_all_equal(update, jax.tree.map(lambda u, i=i: u[i], updates))
        np.testing.assert_array_equal(matrix.as_row(update, rows), rows.values[i])


def test_rows_that_do_not_count_are_zeros():
    values = jnp.array([[1.0, 2.0], [jnp.nan, 0.0], [3.0, -jnp.inf], [-5.0, 4.0]])
    rows = matrix.as_rows(values, jnp.array([True, True, True, False]))
    assert rows.present.tolist() == [True, False, False, False]
    assert rows.values.tolist() == [[1, 2], [0, 0], [0, 0], [0, 0]]
    assert rows.sizes.tolist() == [2, 0, 0, 0]
    assert int(rows.num_present) == 1


def test_blocks_cover_every_column_once(small_blocks):
    values = matrix.as_rows(jnp.asarray(draw(1), jnp.float32), jnp.ones(11, bool)).values
    sums = blocks.each_column(lambda block: block.sum(axis=0), values)
    np.testing.assert_allclose(sums, np.asarray(values).sum(axis=0), rtol=1e-6)
    gram = blocks.sum_of_blocks(lambda block: block @ block.T, values)
    np.testing.assert_allclose(gram, np.asarray(values) @ np.asarray(values).T, rtol=1e-5)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_results_do_not_depend_on_blocks(name, monkeypatch, x64):
    whole, _ = run(name, draw(2))
    for module in (blocks, matrix):
        monkeypatch.setattr(module, "columns_at_once", lambda: 3)
    aggregator, updates = AGGREGATORS[name](), as_tree(jnp.asarray(draw(2)))
    weights = np.random.default_rng(0).integers(1, 9, 11)
    given = received(
        np.ones(11, bool), weights / weights.sum(), aggregator.hyperparameters, jnp.float64
    )
    state = aggregator.init(jax.tree.map(lambda x: x[0], updates))
    update, _ = jax.jit(lambda u: aggregator.aggregate(u, state, given))(updates)
    np.testing.assert_allclose(flatten(update), whole, rtol=0, atol=1e-13)
