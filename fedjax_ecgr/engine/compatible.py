"""Whether the parts of a simulation fit together, asked before anything is compiled."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_ecgr import check
from fedjax_ecgr.algorithms import Algorithm
from fedjax_ecgr.attacks.base import Attack
from fedjax_ecgr.augmentations import Augmentation
from fedjax_ecgr.data.federated import (
    Examples,
    FederatedDataset,
    by_owner,
    check_clients,
    check_examples,
    examples_at,
    from_owners,
    held_examples,
    validate,
)
from fedjax_ecgr.engine import streams
from fedjax_ecgr.engine.evaluation import Tests, evaluation_set
from fedjax_ecgr.engine.local_steps import Work, normalise
from fedjax_ecgr.engine.stored import as_stored
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.samplers.base import Sampler
from fedjax_ecgr.systems.base import System
from fedjax_ecgr.types import AnyArray, Array, Loss, PyTree


class Held(NamedTuple):
    """The examples that models are judged by, as they were given."""

    test: Examples | None
    client_test: FederatedDataset | None
    validation: Examples | None


def check_types(
    algorithm: Algorithm,
    model: Model,
    data: FederatedDataset,
    held: Held,
    sampler: Sampler | None,
    system: System | None,
    attack: Attack | None,
    loss: Loss,
) -> None:
    """Raises `InputError` for the first part that is something else."""
    check.part("algorithm", algorithm, Algorithm, "an Algorithm, such as fedavg()")
    check.part("model", model, Model, "a Model, such as models.mlp(dataset.spec)")
    check_clients("data", data)
    if held.client_test is not None:
        check_clients("client_test", held.client_test)
    for name, given, contract, such_as in (
        ("test", held.test, Examples, "Examples, such as those of a dataset, dataset.test"),
        ("validation", held.validation, Examples, "Examples, such as dataset.validation"),
        ("sampler", sampler, Sampler, "a Sampler, such as samplers.uniform()"),
        ("system", system, System, "a System, such as systems.heterogeneous()"),
        ("attack", attack, Attack, "an Attack, such as attacks.sign_flip()"),
    ):
        check.part(name, given, (contract, type(None)), such_as)
    if not callable(loss):
        raise check.InputError(
            f"loss: {check.shown(loss)} is not allowed, it must be a function "
            "(outputs [B, ..., classes], labels [B, ...]) -> [B, ...]"
        )


def check_params(model: Model) -> None:
    """Raises `InputError` unless all parameters are of one floating type."""
    params, _ = initial(model)
    types = sorted({str(x.dtype) for x in jax.tree.leaves(params)})
    if len(types) != 1 or not jnp.issubdtype(types[0], jnp.floating):
        given = " and ".join(types) or "no type"
        raise check.InputError(
            f"model: {model.name} has parameters of {given}, they must all be of one floating type"
        )


def num_classes_of(model: Model, loss: Loss, examples: Examples) -> int:
    """Returns the width of the outputs; raises `InputError` if data, model and loss clash."""
    takes = f"model: {model.name} does not take inputs of shape {examples.inputs.shape[1:]}"
    outputs = _outputs_of(takes, model, examples)
    labels = _two(examples.labels)
    wanted = f"({', '.join(map(str, labels.shape))}, classes)"
    _check_shape("model: outputs of", outputs.shape, outputs.shape[:-1] == labels.shape, wanted)
    losses = _shape_of("loss: does not take outputs and labels", loss, outputs, labels)
    wanted = f"{labels.shape}, one number a label"
    _check_shape("loss:", losses.shape, losses.shape == labels.shape, wanted)
    return outputs.shape[-1]


def _outputs_of(complaint: str, model: Model, examples: Examples) -> jax.ShapeDtypeStruct:
    """Returns the shape of the outputs for two examples; `InputError` if the model takes none."""

    def forward(params: PyTree, stats: PyTree, key: Array, inputs: Array) -> Array:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        inputs = normalise(examples, inputs, dtype)
        mask = jnp.ones(2, bool)
        return model.apply(params, stats, inputs, mask=mask, train=False, key=key)[0]

    key = jax.eval_shape(streams.root, 0)
    return _shape_of(complaint, forward, *initial(model), key, _two(examples.inputs))


def initial(model: Model) -> tuple[PyTree, PyTree]:
    """Returns the shapes of the first parameters and statistics, which JAX remembers."""
    key = jax.eval_shape(streams.root, 0)
    return _shape_of(f"model: {model.name} cannot be initialised", model.init, key)


def _two(rows: AnyArray) -> jax.ShapeDtypeStruct:
    """Returns the shape of two examples' inputs or labels, as devices hold them."""
    stored = jax.eval_shape(as_stored, rows)
    return jax.ShapeDtypeStruct((2, *stored.shape[1:]), stored.dtype)


def _check_shape(what: str, shape: tuple[int, ...], allowed: bool, wanted: str) -> None:
    if not allowed:
        raise check.InputError(
            f"{what} shape {shape} for 2 examples is not allowed, it must be {wanted}"
        )


def _shape_of(complaint: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the shape of what a user's function returns; `InputError` with its own reason."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:  # a model is the user's code: it may raise anything
        reason = check.reason(error)
        raise check.InputError(f"{complaint}: {reason}") from error


def checked_augmentations(
    given: Sequence[Augmentation], examples: Examples
) -> tuple[Augmentation, ...]:
    """Returns them as a tuple; raises `InputError` unless they can change these examples."""
    wanted = "a list of Augmentations, such as [augmentations.flip()]"
    check.part("augmentations", given, Sequence, wanted)
    for augmentation in given:
        check.part("augmentations", augmentation, Augmentation, wanted)
    names = [augmentation.name for augmentation in given]
    for name in names:
        if names.count(name) > 1:
            raise check.InputError(f"augmentations: {name!r} is there twice")
    if names and examples.inputs.ndim != 4:
        shape = examples.inputs.shape[1:]
        raise check.InputError(
            f"augmentations: {names[0]} is not allowed for inputs of shape {shape}, which are no "
            "images (height, width, channels)"
        )
    return tuple(given)


def tests_of(work: Work, data: FederatedDataset, held: Held) -> Tests | None:
    """Returns all that evaluations take, checked; None where nothing is to be evaluated."""
    algorithm, model, num_classes = work.algorithm, work.model, work.num_classes
    test, client_test, _ = held
    _check_held(model, data, held)
    if client_test is not None:
        validate(client_test, num_classes)
        if client_test.num_clients != data.num_clients:
            raise check.InputError(
                f"client_test: {client_test.num_clients} clients are not allowed, there must be "
                f"{data.num_clients}, as in the training data"
            )
        test = held_examples(client_test) if test is None else test
    if test is None:
        if held.validation is not None:
            raise check.InputError(
                "validation: not allowed without test examples, which are what is reported"
            )
        return None
    check_examples(test, num_classes, prefix="test_")
    owned, validation = by_owner(data), None
    if not owned:  # they are other people's than the clients
        test = test._replace(owners=None)
    if held.validation is not None:
        check_examples(held.validation, num_classes, prefix="validation_")
        of = held.validation if owned else held.validation._replace(owners=None)
        validation = evaluation_set(of, data, num_classes)
    if client_test is None and algorithm.personal is not None:
        if test.owners is None:
            raise check.InputError(
                f"client_test: None is not allowed with {algorithm.name}, whose clients are judged "
                "by models of their own: each needs test examples of its own (partition.hold_out, "
                "or test examples with owners in a division by owner)"
            )
        owners = np.asarray(test.owners)
        own = owners < data.num_clients
        client_test = from_owners(examples_at(test, own), owners[own], data.num_clients)
    whole = evaluation_set(test, data, num_classes)
    if client_test is None:
        return Tests(whole, validation=validation)
    judged = np.flatnonzero(np.asarray(client_test.sizes))
    return Tests(whole, client_test, judged, validation)


def _check_held(model: Model, data: FederatedDataset, held: Held) -> None:
    """Raises `InputError` for examples that the model does not take beside the training data."""
    own = None if held.client_test is None else held.client_test.examples
    wanted = data.examples.inputs.shape[1:]
    for name, examples in (
        ("test", held.test),
        ("client_test", own),
        ("validation", held.validation),
    ):
        given = wanted if examples is None else np.shape(examples.inputs)[1:]
        if examples is not None and given != wanted:
            complaint = (
                f"{name}: inputs of shape {given} are not allowed, those of the training data are "
                f"of shape {wanted} and {model.name} takes no others"
            )
            _outputs_of(complaint, model, examples)
