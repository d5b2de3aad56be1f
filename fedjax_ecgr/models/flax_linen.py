"""Models from flax.linen modules."""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.federated import Spec
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.models.flax_nnx import broadcast_mask, keep_if_empty
from fedjax_ecgr.types import Array, DType, PyTree

if TYPE_CHECKING:
    from flax import linen

WHILE_TRAINING = {"train": True, "deterministic": False, "use_running_average": False}
"""The keywords by which a module may learn whether it trains, and what they are when it does."""


def from_linen(
    module: "linen.Module",
    spec: Spec,
    name: str = "",
    dtype: DType = jnp.float32,
    *,
    head: Sequence[str] = (),
    features: str | None = None,
) -> Model:
    """Returns a model from a flax.linen module.

    The collection "params" is the parameters; every other collection ("batch_stats") is statistics.
    The module's `__call__` is told whether it trains by those of the keywords `train`,
    `deterministic` and `use_running_average` that it takes, and if it takes `mask` is given the
    rows that count, as booleans [B, 1, …, 1] of the inputs' rank, which is what `linen.BatchNorm`
    takes beside an image. Behind a flatten, where the rank is lower, it is `mask.reshape(-1, 1)`.
    The stream "dropout" is the step's key. `linen.BatchNorm` keeps the biased variance, and its
    `momentum` is the part that stays: PyTorch's 0.1 is 0.9 there.

    >>> from flax import linen
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from fedjax_ecgr.data.federated import Spec
    >>> class Net(linen.Module):
    ...     @linen.compact
    ...     def __call__(self, x, *, train, mask):
    ...         x = linen.Dense(8)(x)
    ...         x = linen.BatchNorm(use_running_average=not train)(x, mask=mask)
    ...         return linen.Dense(3)(jax.nn.relu(x))
    >>> model = from_linen(Net(), Spec((6,), 3))
    >>> params, stats = model.init(jax.random.key(0))
    >>> outputs, stats = model.apply(
    ...     params, stats, jnp.ones((4, 6)), mask=jnp.ones(4, bool), train=True,
    ...     key=jax.random.key(1),
    ... )
    >>> outputs.shape, sorted(params), sorted(stats)
    ((4, 3), ['BatchNorm_0', 'Dense_0', 'Dense_1'], ['batch_stats'])

    Args:
      module: the module, not yet bound to variables.
      spec: shape of an example.
      name: what reports call it; the class's name where none is given.
      dtype: dtype of the example that `init` traces the module with, where it is not of tokens.
      head: names of the submodules that are the last layer ("Dense_1"), for algorithms that treat
        it apart.
      features: name of the method that returns [B, F], what the last layer is given, for algorithms
        that compare representations; it takes what `__call__` takes.

    Raises:
      InputError: the module is none, or keeps batch statistics and does not take `mask`, so that
        rows which only fill a batch up would count in them, or no keyword that says it trains.
    """
    from flax import linen  # slow: who has no such module does not wait

    if not isinstance(module, linen.Module):
        raise InputError(f"module: {module!r} is no flax.linen module")
    name = name or type(module).__name__
    takes = set(inspect.signature(type(module).__call__).parameters)

    def options(inputs: Array, mask: Array, train: bool) -> dict[str, Any]:
        modes = {word: value == train for word, value in WHILE_TRAINING.items() if word in takes}
        return modes | ({"mask": broadcast_mask(mask, inputs)} if "mask" in takes else {})

    def init(key: Array) -> tuple[PyTree, PyTree]:
        params_key, dropout_key = jax.random.split(key)
        kind = dtype if spec.vocabulary is None else jnp.int32
        sample = jnp.zeros((1, *spec.input_shape), kind)
        keywords = options(sample, jnp.ones(1, bool), train=False)
        stats = dict(
            module.init({"params": params_key, "dropout": dropout_key}, sample, **keywords)
        )
        return stats.pop("params", {}), stats

    def run(
        method: str | None,
        params: PyTree,
        stats: PyTree,
        inputs: Array,
        *,
        mask: Array,
        train: bool,
        key: Array,
    ) -> tuple[Array, PyTree]:
        outputs, new = module.apply(
            {"params": params, **stats},
            inputs,
            method=method,
            rngs={"dropout": key},
            mutable=list(stats) if train else [],
            **options(inputs, mask, train),
        )
        return outputs, keep_if_empty(mask, dict(new), stats) if train else stats

    params, stats = jax.eval_shape(init, jax.random.key(0))
    if "batch_stats" in stats:
        if "mask" not in takes:
            raise InputError(
                f"module: {name} keeps batch statistics, so its __call__ must take a keyword "
                "`mask` and hand it to its BatchNorm layers"
            )
        if not takes & set(WHILE_TRAINING):
            raise InputError(
                f"module: {name} keeps batch statistics, so its __call__ must take a keyword "
                "`train` and hand `use_running_average=not train` to its BatchNorm layers"
            )
    for wrong in [part for part in head if part not in params]:
        raise InputError(
            f"module: {name} has no parameters {wrong!r} (it has: {', '.join(params)})"
        )
    if features is not None and not hasattr(module, features):
        raise InputError(f"module: {name} has no method {features!r}")
    seen = None if features is None else lambda *args, **kw: run(features, *args, **kw)[0]
    return Model(name, init, partial(run, None), seen, tuple(head))
