"""A multilayer perceptron."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_ecgr import check
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Apply, Init, Model, check_numbers, check_widths
from fedjax_ecgr.models.initial import starting
from fedjax_ecgr.models.layers import dense, dense_init, dropout, flatten
from fedjax_ecgr.types import Array, DType, PyTree


def mlp(
    spec: Spec,
    hidden: Sequence[int] = (200,),
    drop: float = 0.0,
    initial: str = "pytorch",
    dtype: DType = jnp.float32,
) -> Model:
    """Returns dense layers with ReLU between, over the flattened input.

    Parameters are {"fc1": {"kernel", "bias"}, "fc2": …}. The default is one hidden layer
    of 200; (200, 200) is the FedAvg paper's 2NN, of 199,210 parameters on 28 × 28 × 1 with ten
    classes.

    Args:
      spec: shape of an example and number of classes.
      hidden: width of each hidden layer; none gives multinomial logistic regression.
      drop: share of each hidden layer's outputs that is set to 0 in training, in [0, 1).
      initial: how parameters start: `pytorch`, `glorot`, `he` or `lecun`.
      dtype: dtype of the parameters.

    Raises:
      InputError: a width is not a positive whole number, the share is out of range, or `initial`
        is unknown.
    """
    check_numbers("mlp", spec)
    check_widths("hidden", hidden)
    check.number("drop", drop, low=0, high=1, high_open=True)
    sizes = (math.prod(spec.input_shape), *hidden, spec.num_classes)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        return head_init(key, sizes, dtype), {}

    def body(
        params: PyTree, stats: PyTree, inputs: Array, *, train: bool, key: Array, **_: Any
    ) -> tuple[Array, PyTree]:
        def dropped(number: int, outputs: Array) -> Array:
            return dropout(jax.random.fold_in(key, number), outputs, drop, train)

        return hidden_layers(params, flatten(inputs), dropped if drop else None), stats

    return headed("mlp", init, body, initial)


def head_init(key: Array, sizes: Sequence[int], dtype: Any) -> PyTree:
    """Draws {"fc1", "fc2", …}, dense layers from each of `sizes` to the next."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return {f"fc{i}": dense_init(k, m, n, dtype) for i, (k, m, n) in enumerate(pairs, start=1)}


def hidden_layers(
    params: PyTree, inputs: Array, behind: Callable[[int, Array], Array] | None = None
) -> Array:
    """Runs "fc1", "fc2", … but for the last, each with ReLU: [B, features] → [B, features].

    Args:
      params: of all layers.
      inputs: [B, features].
      behind: `(number, outputs) -> outputs`, behind each ReLU; nothing by default.
    """
    for i in range(1, _depth(params)):
        inputs = jax.nn.relu(dense(params[f"fc{i}"], inputs))
        inputs = inputs if behind is None else behind(i, inputs)
    return inputs


def head(params: PyTree, inputs: Array) -> Array:
    """Runs "fc1", "fc2", … with ReLU between: [B, features] → [B, classes]."""
    return dense(params[f"fc{_depth(params)}"], hidden_layers(params, inputs))


def headed(name: str, init: Init, body: Apply, initial: str = "pytorch") -> Model:
    """Returns the model whose head is the last of "fc1", "fc2", … and all before it is `body`.

    Args:
      name: what reports call it.
      init: `key -> (params, stats)`.
      body: like a model's `apply`, but for the last layer: what it is given, and the statistics.
      initial: how kernels and biases start, a name in `fedjax_ecgr.models.initial.RULES`.

    Raises:
      InputError: if `initial` is unknown.
    """
    init = starting(init, initial)

    def apply(
        params: PyTree, stats: PyTree, inputs: Array, *, mask: Array, train: bool, key: Array
    ) -> tuple[Array, PyTree]:
        x, stats = body(params, stats, inputs, mask=mask, train=train, key=key)
        return dense(params[f"fc{_depth(params)}"], x), stats

    def features(
        params: PyTree, stats: PyTree, inputs: Array, *, mask: Array, train: bool, key: Array
    ) -> Array:
        return body(params, stats, inputs, mask=mask, train=train, key=key)[0]

    first, _ = jax.eval_shape(init, jax.eval_shape(jax.random.key, 0))
    return Model(name, init, apply, features, (f"fc{_depth(first)}",))


def _depth(params: PyTree) -> int:
    return sum(name.startswith("fc") for name in params)
