"""Inputs of several simulations made alike, so that one program runs them all.

A program has room for as many examples, and as many of each client, as any of its simulations has;
those beyond a simulation's own are zeros that nobody looks at, since divisions say how many
examples a client has, and test examples how many there are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedjax_ecgr.data.federated import Examples, FederatedDataset
from fedjax_ecgr.engine.evaluation import EvaluationSet
from fedjax_ecgr.engine.program import Inputs
from fedjax_ecgr.types import AnyArray


class Room(NamedTuple):
    """How much inputs hold, or have room for.

    Attributes:
      examples: training examples.
      each: a client's, of these.
      tests: test examples.
      validation: validation examples.
      own_tests: examples of which each client has its own to be tested on.
      own_each: a client's, of these.
    """

    examples: int
    each: int
    tests: int = 0
    validation: int = 0
    own_tests: int = 0
    own_each: int = 0


def with_room(inputs: Inputs, room: Room) -> Inputs:
    """Returns inputs with so much room, zeros in what they do not fill."""
    return _resized(inputs, room, _padded)


def room_of(inputs: Inputs) -> Room:
    """Returns the room that inputs have."""

    def count(examples: Examples) -> int:
        return examples.labels.shape[0]

    data, tests = inputs
    room = Room(count(data.examples), data.indices.shape[1])
    if tests is None:
        return room
    room = room._replace(tests=count(tests.all.examples))
    if tests.validation is not None:
        room = room._replace(validation=count(tests.validation.examples))
    if tests.clients is not None:
        own = tests.clients
        room = room._replace(own_tests=count(own.examples), own_each=own.indices.shape[1])
    return room


def emptied(inputs: Inputs) -> Inputs:
    """Returns inputs of no size: what is left is what members of one program have in common."""
    return _resized(inputs, Room(0, 0), _emptied)


def _resized(inputs: Inputs, room: Room, resize: Callable[[AnyArray, int, int], Any]) -> Inputs:
    """Returns inputs whose arrays have the sizes of a room: `resize(array, size, axis)`."""

    def rows(examples: Examples, size: int) -> Examples:
        return examples._replace(
            inputs=resize(examples.inputs, size, 0),
            labels=resize(examples.labels, size, 0),
            owners=None if examples.owners is None else resize(examples.owners, size, 0),
        )

    def divided(data: FederatedDataset, size: int, width: int) -> FederatedDataset:
        indices = resize(data.indices, width, 1)
        return data._replace(examples=rows(data.examples, size), indices=indices)

    def judged(test: EvaluationSet, size: int) -> EvaluationSet:
        groups = resize(test.groups, size, 0)
        return test._replace(examples=rows(test.examples, size), groups=groups)

    data, tests = divided(inputs.data, room.examples, room.each), inputs.tests
    if tests is not None:
        tests = tests._replace(all=judged(tests.all, room.tests))
        if tests.validation is not None:
            tests = tests._replace(validation=judged(tests.validation, room.validation))
        if tests.clients is not None:
            tests = tests._replace(clients=divided(tests.clients, room.own_tests, room.own_each))
    return Inputs(data, tests)


def _padded(array: AnyArray, size: int, axis: int) -> AnyArray:
    missing = size - array.shape[axis]
    if not missing:
        return array
    return np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])


def _emptied(array: AnyArray, size: int, axis: int) -> AnyArray:
    return np.empty([size if i == axis else n for i, n in enumerate(array.shape)], array.dtype)
