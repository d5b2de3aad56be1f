"""A sweep's members against lone runs, in float64; and what ends, waits or is refused."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.data import from_owners
from fedjax_ecgr.engine.groups import Member, grouped
from fedjax_ecgr.engine.room import Room
from fedjax_ecgr.engine.sweep import run_members
from fedjax_ecgr.engine.waves import compile_group, outcomes_of, run_wave
from fedjax_ecgr.samplers import uniform

FEATURES, CLASSES = 3, 4
SPEC = fx.Spec((FEATURES,), CLASSES)
ROUNDS, EVERY = 5, 2


def examples(number, seed):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(number, FEATURES))
    labels = rng.integers(0, CLASSES, number).astype(np.int32)
    return fx.Examples(inputs, labels, np.array(0.1), np.array(2.0))


TRAIN, TEST = examples(60, 0), examples(17, 1)


def division(*sizes, train=TRAIN):
    order = np.random.default_rng(sum(sizes)).permutation(len(train.labels))
    owners = np.full(len(train.labels), len(sizes))
    owners[order[: sum(sizes)]] = np.repeat(np.arange(len(sizes)), sizes)
    return from_owners(train, owners, len(sizes) + 1)


def simulation(data, method=None, **options):
    method = fx.scaffold(regulator=fx.ecgr(), momentum=0.0) if method is None else method
    model = fx.models.logistic_regression(SPEC, dtype=jnp.zeros(()).dtype)
    options = {"test": TEST, "batch_size": 4, "cohort_size": 3, **options}
    return fx.simulation(method, model, data, **options)


def numbers(simulation, beta, rate):
    before = simulation.hyperparameters
    return {
        **before,
        "regulator": {**before["regulator"], "beta": beta},
        "algorithm": {**before["algorithm"], "learning_rate": rate},
    }


@cache
def different(**options):
    """Members with other divisions, seeds and numbers, one of which diverges; and one program."""
    base = simulation(division(20, 10, 5, 8), **options)
    others = [base, base.with_data(division(9, 30, 3, 1), test=TEST)]
    return [
        Member(one, seed, numbers(one, beta, rate))
        for one, seed, beta, rate in (
            (others[0], 0, 0.2, 0.1),
            (others[1], 0, 0.2, 0.1),
            (others[1], 7, 1.0, 0.1),
            (others[0], 7, 0.2, 1.7e308),
            (others[1], 8, 0.0, 0.01),
        )
    ]


def alone(member):
    """The member's lone run: its history, and how it diverged."""
    try:
        done = fx.run(
            member.simulation,
            rounds=ROUNDS,
            seed=member.seed,
            eval_every=EVERY,
            hyperparameters=member.hyperparameters,
        )
    except fx.DivergedError as error:
        return error.history, error
    return done, None


def assert_alone(members, outcomes, tolerance=1e-9):
    for member, outcome in zip(members, outcomes, strict=True):
        history, diverged = alone(member)
        assert str(outcome.diverged) == str(diverged)
        assert outcome.history.table.keys() == history.table.keys()
        for name, column in history.table.items():
            ours = outcome.history.table[name]
            assert ours.dtype == column.dtype, name
            np.testing.assert_allclose(ours, column, rtol=tolerance, atol=1e-300, err_msg=name)
        np.testing.assert_array_equal(outcome.history.cohorts, history.cohorts)
        if diverged is None:
            leaves = (jax.tree.leaves(one.state.params) for one in (outcome.history, history))
            for ours, theirs in zip(*leaves, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=tolerance)


@pytest.mark.parametrize(
    ("placement", "at_once", "devices"),
    [("scan", 1, 1), ("scan", None, 4), ("vmap", 2, 2), ("vmap", None, 1), ("scan", 5, 1)],
)
def test_a_member_is_its_lone_run(x64, placement, at_once, devices):
    members = different(placement=placement)
    layout = {"members_at_once": at_once, "num_devices": devices}
    outcomes = run_members(members, rounds=ROUNDS, eval_every=EVERY, **layout)
    assert outcomes[3].diverged is not None
    assert_alone(members, outcomes)


@pytest.mark.parametrize(("placement", "at_once"), [("scan", 1), ("vmap", 2)])
def test_more_devices_than_members_share_their_clients(x64, placement, at_once):
    members = different(placement=placement)[:2]
    groups = grouped(members, members_at_once=at_once)
    assert "2 × 2 devices" in str(groups[0].layout)
    outcomes = run_members(members, rounds=ROUNDS, eval_every=EVERY, members_at_once=at_once)
    assert_alone(members, outcomes)


def test_clients_that_are_judged_by_models_of_their_own(x64):
    def divided(data, seed):
        return fx.partition.hold_out(data, 0.3, seed=seed)

    train, own = divided(division(20, 10, 5, 8), 0)
    options = {"cohort_size": 4, "placement": "vmap", "batch_size": 4}
    model = fx.models.logistic_regression(SPEC, dtype=jnp.zeros(()).dtype)
    base = fx.simulation(fx.ditto(), model, train, client_test=own, **options)
    other, others_own = divided(division(9, 30, 3, 1), 1)
    members = [Member(base, 0), Member(base.with_data(other, client_test=others_own), 0)]
    outcomes = run_members(
        members, rounds=ROUNDS, eval_every=EVERY, members_at_once=2, num_devices=1
    )
    assert_alone(members, outcomes)


@pytest.mark.parametrize(("placement", "at_once"), [("scan", 1), ("vmap", 2)])
def test_members_whose_data_are_of_other_sizes_run_by_one_program(x64, placement, at_once):
    more = examples(90, 3)

    def parts(data, count, seed):
        held = {"test": examples(count, seed), "validation": examples(count - 4, seed + 1)}
        train, own = fx.partition.hold_out(division(20, 10, 5, 8, train=data), 0.3, seed=seed)
        return train, {**held, "client_test": own}

    (few, tests), (many, more_tests) = parts(TRAIN, 17, 5), parts(more, 9, 7)
    base = simulation(few, placement=placement, eval_batch_size=8, **tests)
    other = base.with_data(many, **more_tests)
    members = [Member(base, 0), Member(other, 0), Member(other, 1)]
    assert len(grouped(members, members_at_once=at_once, num_devices=1)) == 1
    layout = {"members_at_once": at_once, "num_devices": 1}
    assert_alone(members, run_members(members, rounds=ROUNDS, eval_every=EVERY, **layout))


def test_members_that_differ_in_shape_or_setting_are_groups_of_their_own():
    base = simulation(division(20, 10, 5, 8))
    wider = base.with_data(division(8, 10, 30, 5), test=TEST)
    other = simulation(division(20, 10, 5, 8), batch_size=8)
    fewer = base.with_data(division(20, 0, 5, 8), test=TEST)  # one has nothing to be judged by
    members = [Member(base, 0), Member(other, 0), Member(wider, 1), Member(fewer), Member(base, 2)]
    groups = grouped(members, num_devices=2)
    assert [group.members for group in groups] == [(0, 2, 4), (1,), (3,)]
    each = max(one.inputs.data.indices.shape[1] for one in (base, wider))
    assert groups[0].room == Room(examples=60, each=each, tests=17)
    assert [group.layout.wave for group in groups] == [4, 1, 1]


def test_members_at_once_wait_for_few():
    base = simulation(division(15, 15, 15, 15))
    members = [Member(base, seed) for seed in range(3)]
    wide = base.with_data(division(57, 1, 1, 1), test=TEST)
    members += [Member(wide, seed) for seed in range(3)]
    rooms = [one.inputs.data.indices.shape[1] for one in (base, wide)]
    assert rooms == [16, 64]
    groups = grouped(members, members_at_once=8, num_devices=1)
    assert [group.members for group in groups] == [(0, 1, 2), (3, 4, 5)]
    few = [*members[3:], members[0]]  # one of four may wait: 48 of 256
    assert len(grouped(few, members_at_once=8, num_devices=1)) == 1


def test_waves_are_even_and_hold_all_members():
    base = simulation(division(20, 10, 5, 8))
    members = [Member(base, seed) for seed in range(150)]
    (group,) = grouped(members, members_at_once=1, num_devices=2)
    assert [len(wave) for wave in group.waves] == [76, 74]
    assert sorted(n for wave in group.waves for n in wave) == list(range(150))
    (group,) = grouped(members, members_at_once=40, num_devices=2)
    assert (group.layout.at_once, group.layout.wave) == (38, 76)


def test_a_wave_goes_on_from_where_it_stood(x64):
    members = different(placement="scan")
    (group,) = grouped(members, num_devices=2)
    compiled = compile_group(group, members, EVERY)
    (wave,) = group.waves
    standings = run_wave(group, compiled, members, wave, ROUNDS)
    held = jax.tree.map(np.array, jax.device_get(next(standings)))
    *_, whole = standings
    held = held._replace(done=int(held.done))
    *_, resumed = run_wave(group, compiled, members, wave, ROUNDS, held)
    for ours, theirs in zip(
        outcomes_of(resumed, len(wave), 0.0, 0.0),
        outcomes_of(whole, len(wave), 0.0, 0.0),
        strict=True,
    ):
        for name, column in theirs.history.table.items():
            np.testing.assert_array_equal(ours.history.table[name], column, err_msg=name)
        leaves = (jax.tree.leaves(one.history.state) for one in (ours, theirs))
        for a, b in zip(*leaves, strict=True):
            np.testing.assert_array_equal(a, b)


def test_tells_how_far_it_is():
    base = simulation(division(20, 10, 5, 8))
    told = []
    members = [Member(base, seed) for seed in range(3)]
    run_members(members, rounds=ROUNDS, eval_every=EVERY, on_progress=told.append)
    assert [one.rounds for one in told] == [6, 12, 15]
    assert {(one.members, one.total) for one in told} == {((0, 1, 2), 15)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": []}, "members: none is not allowed"),
        ({"members": [3]}, "members: 3 is not allowed"),
        ({"rounds": 0}, "rounds: 0"),
        ({"eval_every": 0}, "eval_every: 0"),
        ({"members_at_once": 0}, "members_at_once: 0"),
        ({"num_devices": 9}, "num_devices: 9"),
    ],
)
def test_refuses_before_it_compiles(options, message):
    base = simulation(division(20, 10, 5, 8))
    with pytest.raises(fx.InputError, match=message):
        run_members(**{"members": [Member(base)], "rounds": 1, **options})


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (lambda one: Member(one, -1), "member 1: seed: -1"),
        (lambda one: Member(one, 0, numbers(one, 2.0, 0.1)), "member 1: .*beta: 2.0"),
        (lambda one: Member(one, 0, {"algorithm": {}}), "member 1: hyperparameters"),
    ],
)
def test_names_the_member_that_cannot_be_run(member, message):
    base = simulation(division(20, 10, 5, 8))
    with pytest.raises(fx.InputError, match=message):
        run_members([Member(base), member(base)], rounds=1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (division(20, 10, 5), "data: clients 4 is not allowed"),
        (TRAIN, "data: .* is not allowed"),
        (
            division(20, 10, 5, 8, train=TRAIN._replace(inputs=TRAIN.inputs[:, :2])),
            r"data: inputs of shape \(2,\) is not allowed",
        ),
        (
            division(20, 10, 5, 8, train=TRAIN._replace(labels=TRAIN.labels + 1)),
            "labels.*from 0 to 3",
        ),
    ],
)
def test_other_data_must_be_of_the_same_kind(data, message):
    base = simulation(division(20, 10, 5, 8))
    with pytest.raises(fx.InputError, match=message):
        base.with_data(data, test=TEST)


def test_other_data_is_the_same_program(x64):
    base = simulation(division(20, 10, 5, 8), sampler=uniform())
    other = base.with_data(division(18, 12, 6, 7), test=TEST)
    assert other.setting is base.setting
    assert other.inputs.data.examples is base.inputs.data.examples
    mine = fx.run(other, rounds=2, seed=3)
    fresh = fx.run(simulation(division(18, 12, 6, 7), sampler=uniform()), rounds=2, seed=3)
    np.testing.assert_array_equal(mine.table["test_loss"], fresh.table["test_loss"])
