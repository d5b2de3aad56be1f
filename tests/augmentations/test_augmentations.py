"""Augmentations against what they may make of an image, and runs on images changed beforehand."""

import inspect

import chex
import jax
import numpy as np
import pytest

import fedjax_ecgr as fx
from fedjax_ecgr.augmentations import AUGMENTATIONS, crop, flip
from fedjax_ecgr.data.datasets import arrays

KEY = jax.random.key(0)


def images(rows=200, seed=0, channels=2):
    return np.random.default_rng(seed).integers(1, 256, (rows, 5, 4, channels), np.uint8)


def applied(augmentation, x, key=KEY):
    return np.asarray(jax.jit(augmentation.apply)(key, x, augmentation.hyperparameters))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_augmentation_keeps_the_contract(name, dtype):
    augmentation, x = AUGMENTATIONS[name](), images().astype(dtype)
    assert augmentation.name == name
    changed = applied(augmentation, x)
    assert (changed.shape, changed.dtype) == (x.shape, x.dtype)
    assert np.any(changed != x)
    np.testing.assert_array_equal(applied(augmentation, x), changed)
    assert np.any(applied(augmentation, x, jax.random.key(1)) != changed)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_flip_mirrors_a_share_of_images(share):
    x = images(2000)
    changed = applied(flip(share), x)
    mirrored = (changed == x[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.all(mirrored | (changed == x).all(axis=(1, 2, 3)))
    assert abs(mirrored.mean() - share) < 4 * (share * (1 - share) / 2000) ** 0.5 + 1e-9


@pytest.mark.parametrize(("mode", "padded"), [("black", "constant"), ("reflect", "reflect")])
def test_crop_cuts_windows_of_the_padded_image_out_evenly(mode, padded):
    x = images(2250)
    changed = applied(crop(padding=2, mode=mode), x)
    wide = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=padded)
    windows = np.stack([wide[:, i : i + 5, j : j + 4] for i in range(5) for j in range(5)])
    same = (windows == changed).all(axis=(2, 3, 4))
    assert np.all(same.any(axis=0))
    counts = np.bincount(same.argmax(axis=0), minlength=25)
    assert np.sum((counts - 90) ** 2 / 90) < 60  # χ² of 24 degrees of freedom: 1 in 20,000


def data(change=lambda x: x):
    x = images(24, channels=1)
    y = np.arange(24) % 3
    return arrays(change(x), y, x[:6], y[:6], mean=128, std=64)


def simulate(dataset, *augmentations, **options):
    return fx.simulate(
        fx.scaffold(regulator=fx.ecgr()),
        fx.models.mlp(dataset.spec, hidden=(4,)),
        fx.partition.iid(dataset.train, num_clients=3),
        test=dataset.test,
        rounds=2,
        batch_size=5,
        augmentations=augmentations,
        **options,
    )


def test_a_run_that_mirrors_all_is_a_run_on_mirrored_images_evaluated_as_they_are():
    mirrored = simulate(data(lambda x: x[:, :, ::-1]))
    augmented = simulate(data(), flip(1.0))
    chex.assert_trees_all_equal(augmented.state, mirrored.state)
    np.testing.assert_array_equal(augmented.table["test_loss"], mirrored.table["test_loss"])


def test_every_placement_sees_the_same_images():
    one, other = (
        simulate(data(), crop(1), flip(), placement=placement) for placement in ("scan", "vmap")
    )
    chex.assert_trees_all_close(one.state.params, other.state.params, rtol=1e-5, atol=1e-6)
    plain = simulate(data(), flip(0.0))
    assert not np.allclose(plain.table["train_loss"], one.table["train_loss"], rtol=1e-3)


def test_its_numbers_are_the_runs():
    dataset = data()
    built = fx.simulation(
        fx.fedavg(),
        fx.models.mlp(dataset.spec, hidden=(4,)),
        fx.partition.iid(dataset.train, num_clients=3),
        augmentations=[flip()],
    )
    assert built.hyperparameters["augmentations"] == {"flip": {"share": 0.5}}
    wrong = {**built.hyperparameters, "augmentations": {"flip": {"share": 2.0}}}
    with pytest.raises(fx.InputError, match="hyperparameters of the augmentations: share"):
        fx.run(built, rounds=1, hyperparameters=wrong)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: simulate(data(), flip), r"augmentations: flip \(a function, not what it returns"),
        (lambda: simulate(data(), flip(), flip()), "augmentations: 'flip' is there twice"),
        (lambda: simulate(data(), crop(4, "reflect")), "4 is not allowed, 5x4 images .* by 3"),
        (lambda: flip(1.5), "share: 1.5 is not allowed"),
        (lambda: crop(0), "padding: 0 is not allowed"),
        (lambda: crop(1, "mirror"), "mode: unknown 'mirror'"),
        (
            lambda: simulate(data(lambda x: x)._replace(), "flip"),
            "augmentations: 'flip' is not allowed, it must be a list of Augmentations",
        ),
    ],
)
def test_what_is_not_allowed(given, message):
    with pytest.raises(fx.InputError, match=message):
        given()


def test_only_images_are_augmented():
    dataset = fx.datasets.synthetic()
    with pytest.raises(fx.InputError, match="flip is not allowed for inputs of shape"):
        fx.simulation(
            fx.fedavg(),
            fx.models.mlp(dataset.spec),
            fx.partition.iid(dataset.train, num_clients=3),
            augmentations=[flip()],
        )


def test_a_configuration_names_them_in_order():
    chosen = (fx.runs.Choice("crop", {"padding": 2}), fx.runs.Choice("flip"))
    config = fx.runs.RunConfig(augmentations=chosen)
    again = fx.runs.from_json(fx.runs.to_json(config))
    assert again == config
    assert [c.name for c in again.augmentations] == ["crop", "flip"]
    built = fx.runs.build(config)
    assert [a.name for a in built.setting.work.augmentations] == ["crop", "flip"]
    assert "padding" in inspect.signature(crop).parameters
