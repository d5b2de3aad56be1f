"""Few widths: other divisions are the same program, and what is computed stays the same."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

import fedjax_ecgr as fx
from fedjax_ecgr.data import from_assignment, from_owners
from fedjax_ecgr.engine.block import compilable
from fedjax_ecgr.engine.widths import padded

EXAMPLES = fx.Examples(
    np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32),
    np.arange(400, dtype=np.int32) % 4,
    np.float32(0),
    np.float32(1),
)


def of_width(width):
    return from_assignment(EXAMPLES, [np.arange(width), [1]])


@given(width=some.integers(1, 400), batch_size=some.integers(1, 500))
def test_there_is_room_for_few_numbers_of_batches(width, batch_size):
    before, data = of_width(width), padded(of_width(width), batch_size)
    room = data.indices.shape[1]
    np.testing.assert_array_equal(data.indices[:, :width], before.indices)
    np.testing.assert_array_equal(data.indices[:, width:], 0)
    np.testing.assert_array_equal(data.sizes, before.sizes)
    steps, needed = (-(-n // min(batch_size, room)) for n in (room, width))
    assert bin(steps).rstrip("0").count("0") + bin(steps).count("1") <= 4  # "0b" has one 0
    assert steps == needed or (needed > 8 and steps <= 1.25 * needed)
    assert room <= 1.25 * width + batch_size


def test_there_are_four_numbers_of_batches_between_a_power_of_two_and_the_next():
    rooms = {padded(of_width(width), 10).indices.shape[1] for width in range(161, 321)}
    assert rooms == {200, 240, 280, 320}


@pytest.mark.parametrize("storage", ["full", "replay"])
@pytest.mark.parametrize("client_test", [False, True])
def test_another_seed_of_a_partition_is_the_same_program_where_it_has_the_room(
    storage, client_test
):
    def program(seed):
        clients = fx.partition.dirichlet(EXAMPLES, num_clients=4, alpha=0.3, seed=seed)
        own = fx.partition.hold_out(clients, 0.25)[1] if client_test else None
        built = fx.simulation(
            fx.fedavg(regulator=fx.ecgr(storage=storage)),
            fx.models.logistic_regression(fx.Spec((3,), 4)),
            clients,
            test=EXAMPLES,
            client_test=own,
            batch_size=16,
            placement="scan",
        )
        key = jax.random.key(0)
        state = jax.eval_shape(built.init, key)
        numbers = jax.tree.map(np.float32, built.hyperparameters)
        data = padded(clients, 16)
        lowered = compilable(built.setting).lower(data, state, key, numbers, np.int32(1), 1)
        return clients.indices.shape[1], data.indices.shape[1], lowered.as_text()

    widths, rooms, texts = map(set, zip(*map(program, range(6)), strict=True))
    assert len(widths) == 6
    assert len(texts) == len(rooms) < 6


@pytest.mark.parametrize("regulator", [fx.identity(), fx.ecgr()], ids=lambda r: r.name)
def test_more_room_changes_nothing(regulator):
    owners = np.random.default_rng(1).choice(3, 400, p=[0.1, 0.3, 0.6])
    data = from_owners(EXAMPLES, owners, 3)

    def run(clients):
        net = fx.models.logistic_regression(fx.Spec((3,), 4))
        return fx.simulate(
            fx.fedavg(regulator=regulator, learning_rate=0.1), net, clients,
            test=EXAMPLES, rounds=3, batch_size=20, local_epochs=2, placement="scan",
        )  # fmt: skip

    narrow = run(data)
    wide = run(data._replace(indices=np.pad(data.indices, ((0, 0), (0, 333)))))
    for name in ("train_loss", "test_loss", "drift"):
        np.testing.assert_allclose(narrow.table[name], wide.table[name], rtol=1e-5)
