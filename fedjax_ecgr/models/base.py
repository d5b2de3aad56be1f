"""The contract of a model: two pure functions over pytrees.

Parameters (trained, regulated, uploaded as an update) and statistics (BatchNorm's running mean and
variance: measured, never regulated, averaged by weight) are separate pytrees, so that both stack on
a leading client axis and the engine never has to ask which leaf is which.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fedjax_ecgr.check import InputError, count, part
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.types import Array, PyTree


class Init(Protocol):
    """Draws a model's first variables."""

    def __call__(self, key: Array) -> tuple[PyTree, PyTree]:
        """Returns `(params, stats)`; `stats` is an empty dict for a model that has none."""
        ...


class Apply(Protocol):
    """Runs a model over one batch."""

    def __call__(
        self, params: PyTree, stats: PyTree, inputs: Array, *, mask: Array, train: bool, key: Array
    ) -> tuple[Array, PyTree]:
        """Returns `(outputs, stats)`: outputs [B, classes] or, for sequences, [B, length, classes].

        Args:
          params: the trainable parameters.
          stats: the running statistics; returned unchanged where `train` is false.
          inputs: one batch [B, ...], normalised, in the parameters' dtype; or int32 tokens.
          mask: [B] bool, false at rows that only fill the batch up. A row's output must not
            depend on the rows that are masked, and neither must the new statistics.
          train: whether batch statistics are used and updated and dropout is on; static.
          key: randomness of this step (dropout); a model may ignore it.
        """
        ...


class Features(Protocol):
    """Runs a model up to its last layer."""

    def __call__(
        self, params: PyTree, stats: PyTree, inputs: Array, *, mask: Array, train: bool, key: Array
    ) -> Array:
        """Returns [B, F], what the last layer is given; the arguments are those of `Apply`."""
        ...


class Model(NamedTuple):
    """A model as two pure functions, of any library.

    Attributes:
      name: what reports call it.
      init: `key -> (params, stats)`.
      apply: `(params, stats, inputs, mask=, train=, key=) -> (outputs, stats)`; see `Apply`.
      features: `(params, stats, inputs, mask=, train=, key=) -> [B, F]`, what the last layer is
        given, for algorithms that compare representations; None where it cannot be had.
      head: the top-level names of the last layer's parameters, for algorithms that treat them
        apart; () where they are not known.
    """

    name: str
    init: Init
    apply: Apply
    features: Features | None = None
    head: tuple[str, ...] = ()


def check_spec(spec: Spec) -> None:
    """Raises `InputError` unless a model is told what its examples are."""
    part("spec", spec, Spec, "a Spec, such as the data's own, data.spec")


def check_numbers(name: str, spec: Spec) -> None:
    """Raises `InputError` unless examples are numbers, with one label each."""
    check_spec(spec)
    if spec.vocabulary is not None:
        raise InputError(f"{name}: takes numbers, not tokens (gru does)")
    if spec.target_shape:
        raise InputError(
            f"{name}: takes one label an example, labels of shape {spec.target_shape} are not "
            "allowed"
        )


def check_tokens(name: str, spec: Spec) -> int:
    """Returns the vocabulary; raises `InputError` unless examples are sequences of tokens."""
    check_spec(spec)
    if spec.vocabulary is None or len(spec.input_shape) != 1:
        raise InputError(f"{name}: takes tokens (length,), not numbers {spec.input_shape}")
    if spec.target_shape not in ((), spec.input_shape):
        raise InputError(
            f"{name}: labels of shape {spec.target_shape} are not allowed, an example must have "
            f"one or, like its tokens, {spec.input_shape}"
        )
    return spec.vocabulary


def check_images(name: str, spec: Spec, smallest: int = 1, why: str = "") -> None:
    """Raises `InputError` unless examples are images that a model can take.

    Args:
      name: of the model.
      spec: what its examples are.
      smallest: the fewest pixels of a side.
      why: what takes so many ("two 5x5 convolutions and poolings").
    """
    check_numbers(name, spec)
    if len(spec.input_shape) != 3:
        raise InputError(f"{name}: takes images (height, width, channels), not {spec.input_shape}")
    height, width, _ = spec.input_shape
    if min(height, width) < smallest:
        raise InputError(
            f"{name}: {height}x{width} images are too small for {why}, "
            f"the smallest are {smallest}x{smallest}"
        )


def check_widths(field: str, widths: Sequence[int]) -> None:
    """Raises `InputError` unless `widths` is a list of positive whole numbers."""
    if isinstance(widths, str) or not isinstance(widths, Sequence):
        raise InputError(f"{field}: {widths!r} is not allowed, it must be a list such as (64, 32)")
    for width in widths:
        count(field, width)
