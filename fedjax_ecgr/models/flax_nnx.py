"""Models from flax.nnx modules."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fedjax_ecgr.check import InputError
from fedjax_ecgr.models.base import Model
from fedjax_ecgr.types import Array, PyTree

if TYPE_CHECKING:
    from flax import nnx


def from_nnx(
    module: "nnx.Module | Callable[[nnx.Rngs], nnx.Module]",
    name: str = "",
    *,
    head: Sequence[str] = (),
    features: str | None = None,
) -> Model:
    """Returns a model from a flax.nnx module: its graph is taken once, its state is a pytree.

    Variables of type `nnx.Param` are the parameters; random streams are seeded anew from the
    step's key; every other variable (`nnx.BatchStat`) is a statistic. Training and evaluation are
    the module after `.train()` and after `.eval()`.

    A module whose `__call__` takes `mask` is given the rows that count, as booleans [B, 1, …, 1] of
    the inputs' rank, which is what `nnx.BatchNorm` takes beside an image. Behind a flatten, where
    the rank is lower, it is `mask.reshape(-1, 1)`. `nnx.BatchNorm` keeps the biased variance, and
    its `momentum` is the part that stays: PyTorch's 0.1 is 0.9 there.

    >>> from flax import nnx
    >>> import jax
    >>> import jax.numpy as jnp
    >>> class Net(nnx.Module):
    ...     def __init__(self, rngs):
    ...         self.hidden = nnx.Linear(6, 8, rngs=rngs)
    ...         self.norm = nnx.BatchNorm(8, rngs=rngs)
    ...         self.out = nnx.Linear(8, 3, rngs=rngs)
    ...
    ...     def __call__(self, x, *, mask):
    ...         return self.out(jax.nn.relu(self.norm(self.hidden(x), mask=mask)))
    >>> model = from_nnx(Net)
    >>> params, stats = model.init(jax.random.key(0))
    >>> outputs, stats = model.apply(
    ...     params, stats, jnp.ones((4, 6)), mask=jnp.ones(4, bool), train=True,
    ...     key=jax.random.key(1),
    ... )
    >>> outputs.shape, sorted(params), sorted(stats["norm"])
    ((4, 3), ['hidden', 'norm', 'out'], ['mean', 'var'])

    Args:
      module: a function of `nnx.Rngs`, such as a class, that builds the module; then every `init`
        draws new parameters. Or a module, whose present parameters every `init` returns.
      name: what reports call it; the class's name where none is given.
      head: names of the attributes that are the last layer, for algorithms that treat it apart.
      features: name of the method that returns [B, F], what the last layer is given, for algorithms
        that compare representations; it takes what `__call__` takes.

    Raises:
      InputError: the module is none or has no such attribute, or keeps batch statistics and does
        not take `mask`, so that rows which only fill a batch up would count in them.
    """
    from flax import nnx  # slow: who has no such module does not wait

    build = (lambda _: nnx.clone(module)) if isinstance(module, nnx.Module) else module
    abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    if not isinstance(abstract, nnx.Module):
        raise InputError(f"module: {module!r} is no flax.nnx module and builds none")
    name = name or type(abstract).__name__
    takes_mask = "mask" in inspect.signature(type(abstract).__call__).parameters
    if jax.tree.leaves(nnx.state(abstract, nnx.BatchStat)) and not takes_mask:
        raise InputError(
            f"module: {name} keeps batch statistics, so its __call__ must take a keyword `mask` "
            "and hand it to its BatchNorm layers"
        )
    abstract.eval()
    modes = {False: _split(abstract)}
    abstract.train()
    modes[True] = _split(abstract)

    def init(key: Array) -> tuple[PyTree, PyTree]:
        _, params, _, stats = _split(build(nnx.Rngs(key)))
        return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

    def run(
        method: str,
        params: PyTree,
        stats: PyTree,
        inputs: Array,
        *,
        mask: Array,
        train: bool,
        key: Array,
    ) -> tuple[Array, PyTree]:
        graph, param_state, streams, stat_state = modes[train]
        merged = nnx.merge(
            graph, _filled(param_state, params), _fresh(streams), _filled(stat_state, stats)
        )
        tags = sorted({stream.tag for _, stream in nnx.to_flat_state(streams)})
        keys: dict[str, Any] = {tag: jax.random.fold_in(key, i) for i, tag in enumerate(tags)}
        nnx.reseed(merged, **keys)
        masks = {"mask": broadcast_mask(mask, inputs)} if takes_mask else {}
        outputs = getattr(merged, method)(inputs, **masks)
        if not train:
            return outputs, stats
        _, _, _, new = _split(merged)
        return outputs, keep_if_empty(mask, nnx.to_pure_dict(new), stats)

    for attribute in (*head, *([features] if features else [])):
        if not hasattr(abstract, attribute):
            raise InputError(f"module: {name} has no attribute {attribute!r}")
    seen = None if features is None else lambda *args, **kw: run(features, *args, **kw)[0]
    return Model(name, init, partial(run, "__call__"), seen, tuple(head))


def broadcast_mask(mask: Array, inputs: Array) -> Array:
    """Returns a mask [B] as [B, 1, …, 1] of the inputs' rank.

    Where no row counts all of them do, as the mean of nothing is no number; what comes of it is
    left out by whoever masked the rows.
    """
    mask = mask | ~jnp.any(mask)
    return mask.reshape(-1, *(1 for _ in inputs.shape[1:]))


def keep_if_empty(mask: Array, new: PyTree, old: PyTree) -> PyTree:
    """Returns the new statistics in the old ones' types; the old ones where no row counts."""
    some = jnp.any(mask)
    return jax.tree.map(lambda n, o: jnp.where(some, n.astype(o.dtype), o), new, old)


def _split(module: "nnx.Module") -> tuple[Any, "nnx.State", "nnx.State", "nnx.State"]:
    """Returns the module's graph, parameters, random streams, and the rest: its statistics."""
    from flax import nnx

    graph, *states = nnx.split(module, nnx.Param, nnx.RngState, ...)
    params, streams, stats = states
    return graph, params, streams, stats


def _filled(state: "nnx.State", values: PyTree) -> "nnx.State":
    from flax import nnx

    state = _fresh(state)
    nnx.replace_by_pure_dict(state, values)
    return state


def _fresh(state: "nnx.State") -> "nnx.State":
    """Returns a copy whose variables belong to the present trace, which alone may change them."""
    return jax.tree.map(lambda leaf: leaf, state)
