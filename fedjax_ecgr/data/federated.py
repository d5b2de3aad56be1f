"""A federation's data: every example once, on the device, and who holds which."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from fedjax_ecgr.check import InputError, count, is_traced, part
from fedjax_ecgr.types import AnyArray

PADDING = -1
"""The label of a position that does not count."""


class Spec(NamedTuple):
    """What a model must know of the data; plain Python values, so static everywhere.

    Attributes:
      input_shape: shape of one example: (features,), (height, width, channels) or, of tokens,
        (length,).
      num_classes: number of labels; labels are 0 .. num_classes - 1.
      vocabulary: number of tokens, for inputs that are tokens 0 .. vocabulary - 1; else None.
      target_shape: shape of one example's labels: () for one, (length,) for one a position.
    """

    input_shape: tuple[int, ...]
    num_classes: int
    vocabulary: int | None = None
    target_shape: tuple[int, ...] = ()


class Examples(NamedTuple):
    """N labelled examples as stored; they are normalised inside the compiled step.

    Attributes:
      inputs: [N, *input_shape], uint8 or floating; or int32 tokens, which nothing normalises.
      labels: [N, *target_shape] int32. Where an example has several, those below 0 are padding,
        which no loss and no accuracy counts.
      mean: subtracted from the inputs: scalar or per channel, floating.
      std: the inputs are divided by it: scalar or per channel, floating.
      owners: [N] int32, the client each example comes from where the source knows it, else None.
    """

    inputs: AnyArray
    labels: AnyArray
    mean: AnyArray
    std: AnyArray
    owners: AnyArray | None = None


class Dataset(NamedTuple):
    """A source's training and test examples.

    Attributes:
      name: what reports call it.
      train: the examples that a partition divides among clients.
      test: the examples that the global model is evaluated on.
      spec: what a model must know of them.
      validation: examples that nobody trains on, to choose hyperparameters by; None unless they
        were held out, see `fedjax_ecgr.datasets.with_validation`.
    """

    name: str
    train: Examples
    test: Examples
    spec: Spec
    validation: Examples | None = None


class FederatedDataset(NamedTuple):
    """Examples and their division among clients. Nothing is copied per client.

    Attributes:
      examples: all clients' examples, each once.
      indices: [clients, max_examples] int32, client i's rows of `examples` in its first
        `sizes[i]` entries, 0 behind them.
      sizes: [clients] int32.
    """

    examples: Examples
    indices: AnyArray
    sizes: AnyArray

    @property
    def num_clients(self) -> int:
        """Number of clients, those without data included."""
        return self.sizes.shape[0]


def from_owners(examples: Examples, owners: ArrayLike, num_clients: int) -> FederatedDataset:
    """Returns the division in which example n belongs to client `owners[n]`.

    Args:
      examples: the N examples to divide.
      owners: [N] whole numbers from 0 to `num_clients - 1`. A client that owns none has size 0.
      num_clients: number of clients.

    Returns:
      The division; each client's rows are in ascending order.

    Raises:
      InputError: if an owner is out of range or there is not one owner an example.

    >>> examples = Examples(np.zeros((4, 2)), np.array([0, 1, 0, 1]), mean=0.0, std=1.0)
    >>> from_owners(examples, [2, 0, 2, 2], num_clients=3).indices
    array([[1, 0, 0],
           [0, 0, 0],
           [0, 2, 3]], dtype=int32)
    """
    part("examples", examples, Examples, "Examples, such as those of a dataset, data.train")
    count("num_clients", num_clients)
    owners = np.asarray(owners)
    check_whole("owners", owners, (len(examples.labels),), high=num_clients - 1)
    return _rectangle(
        examples,
        rows=np.argsort(owners, kind="stable"),
        sizes=np.bincount(owners.astype(np.int64), minlength=num_clients),
    )


def by_owner(federated: FederatedDataset) -> bool:
    """Returns whether every client holds its own examples alone: client i those with `owners` i.

    So test examples with owners are the clients' own. Where the source does not know whose the
    training examples are, or they are being traced, it is taken to be so.

    >>> owners = np.array([1, 0, 1])
    >>> examples = Examples(np.zeros((3, 2)), np.zeros(3, int), mean=0.0, std=1.0, owners=owners)
    >>> by_owner(from_owners(examples, owners, 2)), by_owner(from_owners(examples, 1 - owners, 2))
    (True, False)
    """
    owners = federated.examples.owners
    if owners is None or is_traced(federated):
        return True
    indices, sizes = np.asarray(federated.indices), np.asarray(federated.sizes)
    held = np.arange(indices.shape[1]) < sizes[:, np.newaxis]
    alike = np.asarray(owners)[indices] == np.arange(len(sizes))[:, np.newaxis]
    return bool(alike[held].all())


def from_assignment(examples: Examples, assignment: Iterable[ArrayLike]) -> FederatedDataset:
    """Returns the division in which client i holds the rows `assignment[i]`, in that order.

    An example may be left out, or be held by several clients.

    Args:
      examples: the N examples to divide.
      assignment: for each client its row numbers, each from 0 to N - 1; an empty list is a client
        without data.

    Returns:
      The division.

    Raises:
      InputError: if there is no client, or a row is not a whole number from 0 to N - 1.

    >>> examples = Examples(np.zeros((4, 2)), np.array([0, 1, 0, 1]), mean=0.0, std=1.0)
    >>> from_assignment(examples, [[3], [2, 0]]).sizes
    array([1, 2], dtype=int32)
    """
    lists = [np.asarray(rows) for rows in assignment]
    count("num_clients", len(lists))
    last = len(examples.labels) - 1
    for client, rows in enumerate(lists):
        if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
            given = f"an array of {rows.dtype} and shape {rows.shape}"
            raise InputError(
                f"assignment[{client}]: {given} is not allowed, it must be a list of whole numbers"
            )
        check_each(
            f"assignment[{client}]", rows, (rows >= 0) & (rows <= last), f"a row from 0 to {last}"
        )
    return _rectangle(
        examples,
        rows=np.concatenate(lists),
        sizes=np.array([rows.size for rows in lists]),
    )


def _rectangle(examples: Examples, rows: np.ndarray, sizes: np.ndarray) -> FederatedDataset:
    """Lays `rows`, all of client 0's, then all of client 1's …, out as one row a client."""
    held = np.arange(max(1, sizes.max())) < sizes[:, np.newaxis]
    indices = np.zeros(held.shape, np.int32)
    indices[held] = rows
    return FederatedDataset(examples, indices, sizes.astype(np.int32))


def held_examples(federated: FederatedDataset) -> Examples:
    """Returns the examples that clients hold, client by client; host-side.

    >>> examples = Examples(np.zeros((4, 2)), np.array([0, 1, 2, 3]), mean=0.0, std=1.0)
    >>> held_examples(from_assignment(examples, [[3], [2, 0]])).labels
    array([3, 2, 0])
    """
    indices, sizes = np.asarray(federated.indices), np.asarray(federated.sizes)
    rows = indices[np.arange(indices.shape[1]) < sizes[:, np.newaxis]]
    return examples_at(federated.examples, rows)


def examples_at(examples: Examples, rows: np.ndarray) -> Examples:
    """Returns some of the examples; host-side.

    Args:
      examples: [N, ...] examples.
      rows: which ones: their numbers, or [N] bool.
    """
    return examples._replace(
        inputs=np.asarray(examples.inputs)[rows],
        labels=np.asarray(examples.labels)[rows],
        owners=None if examples.owners is None else np.asarray(examples.owners)[rows],
    )


def label_counts(federated: FederatedDataset, num_classes: int) -> np.ndarray:
    """Returns [clients, num_classes] int64: how many labels of each class each client holds.

    >>> examples = Examples(np.zeros((4, 2)), np.array([0, 1, 0, 1]), mean=0.0, std=1.0)
    >>> label_counts(from_assignment(examples, [[3], [2, 0]]), num_classes=2)
    array([[0, 1],
           [2, 0]])
    """
    indices, sizes = np.asarray(federated.indices), np.asarray(federated.sizes)
    labels = np.asarray(federated.examples.labels)
    _check_labels("labels", labels, num_classes)
    held = labels[indices[np.arange(indices.shape[1]) < sizes[:, np.newaxis]]].astype(np.int64)
    clients = np.repeat(np.arange(len(sizes)), sizes).reshape(-1, *(1,) * (held.ndim - 1))
    cells = np.bincount(
        (clients * num_classes + held)[held >= 0], minlength=len(sizes) * num_classes
    )
    return cells.reshape(len(sizes), num_classes)


def validate(federated: FederatedDataset, num_classes: int | None = None) -> None:
    """Raises `InputError` unless `federated` keeps what its attributes promise.

    Made for a division that was built by hand; 100,000 clients take milliseconds. Values that are
    being traced cannot be looked at and pass.

    Args:
      federated: examples and their division.
      num_classes: number of labels, or None if any label that is not negative will do.

    >>> examples = Examples(np.zeros((2, 3)), np.array([0, 7]), mean=0.0, std=1.0)
    >>> validate(from_assignment(examples, [[0], [1]]), num_classes=5)
    Traceback (most recent call last):
    fedjax_ecgr.check.InputError: labels[1]: 7 is not allowed, it must be from 0 to 4
    """
    if is_traced(federated):
        return
    check_examples(federated.examples, num_classes)
    indices, sizes = np.asarray(federated.indices), np.asarray(federated.sizes)
    if indices.ndim != 2 or 0 in indices.shape:
        raise InputError(
            f"indices: shape {indices.shape} is not allowed, it must be (clients, max_examples)"
        )
    clients, width = indices.shape
    check_whole("indices", indices, indices.shape, high=len(federated.examples.labels) - 1)
    check_whole("sizes", sizes, (clients,), high=width)
    if not sizes.any():
        raise InputError("sizes: all 0 is not allowed, at least one client must hold an example")


def check_clients(field: str, data: FederatedDataset) -> None:
    """Raises `InputError` unless `data` is divided among clients."""
    how = "a FederatedDataset, such as partition.iid(data.train, num_clients=10)"
    part(field, data, FederatedDataset, how)


def check_examples(examples: Examples, num_classes: int | None = None, *, prefix: str = "") -> None:
    """Raises `InputError`, naming the first entry that is wrong, unless `examples` are sound.

    Args:
      examples: at least one example, on the host or a device.
      num_classes: number of labels, or None if any label that is not negative will do.
      prefix: put before the names of the per-example fields in messages ("train_").
    """
    inputs = np.asarray(examples.inputs)
    _check_inputs(f"{prefix}inputs", inputs)
    labels = np.asarray(examples.labels)
    if not labels.ndim or labels.shape != inputs.shape[: labels.ndim]:
        raise InputError(
            f"{prefix}labels: shape {labels.shape} is not allowed, it must be ({len(inputs)},), or "
            f"as far as it goes that of the inputs, {inputs.shape}, for a label at each position"
        )
    _check_labels(f"{prefix}labels", labels, num_classes)
    if examples.owners is not None:
        check_whole(f"{prefix}owners", np.asarray(examples.owners), (len(inputs),))
    check_scale(examples.mean, examples.std, channels=inputs.shape[-1])
    if inputs.dtype == np.int32 and (np.any(examples.mean != 0) or np.any(examples.std != 1)):
        raise InputError(
            f"{prefix}inputs: int32 is not allowed with a mean and std other than 0 and 1: tokens "
            "are not normalised, and other numbers are uint8 or floating"
        )


def check_scale(mean: ArrayLike, std: ArrayLike, channels: int) -> None:
    """Raises `InputError` unless both are finite, scalar or [channels], and `std` above 0."""
    for field, values in (("mean", np.asarray(mean)), ("std", np.asarray(std))):
        if values.shape not in ((), (channels,)):
            raise InputError(
                f"{field}: shape {values.shape} is not allowed, it must be () or ({channels},)"
            )
        check_each(field, values, np.isfinite(values), "finite")
    check_each("std", np.asarray(std), np.asarray(std) > 0, "above 0")


def check_division(examples: Examples, num_clients: int, seed: int) -> None:
    """Raises `InputError` unless every one of `num_clients` can hold an example of `examples`."""
    part("examples", examples, Examples, "Examples, such as those of a dataset, data.train")
    count("examples", len(examples.labels))
    count("num_clients", num_clients, high=len(examples.labels), why="the number of examples")
    count("seed", seed, low=0)


def _check_inputs(field: str, inputs: np.ndarray) -> None:
    if inputs.ndim < 2 or 0 in inputs.shape:
        raise InputError(
            f"{field}: shape {inputs.shape} is not allowed, it must be (examples, *input_shape) "
            "with at least one example"
        )
    if inputs.dtype == np.uint8:
        return
    if inputs.dtype == np.int32:
        check_each(field, inputs, inputs >= 0, "a token, at least 0")
        return
    if not jax.dtypes.issubdtype(inputs.dtype, np.floating):  # NumPy's own misses bfloat16
        raise InputError(
            f"{field}: {inputs.dtype} is not allowed, it must be uint8, floating or, for tokens, "
            "int32"
        )
    check_each(field, inputs, np.isfinite(inputs), "finite")


def one_label_each(examples: Examples) -> np.ndarray:
    """Returns [N] labels; raises `InputError` where an example has several."""
    labels = np.asarray(examples.labels)
    if labels.ndim != 1:
        raise InputError(
            f"labels: shape {labels.shape} is not allowed for a division by label, it must be "
            f"({len(labels)},), one an example (iid, quantity, log_normal and natural need none)"
        )
    return labels


def _check_labels(field: str, labels: np.ndarray, num_classes: int | None) -> None:
    low = 0 if labels.ndim == 1 else PADDING
    high = None if num_classes is None else num_classes - 1
    check_whole(field, labels, labels.shape, low=low, high=high)


def check_whole(
    field: str,
    values: np.ndarray,
    shape: tuple[int, ...],
    *,
    low: int = 0,
    high: int | None = None,
) -> None:
    """Raises `InputError` unless `values` have `shape` and are integers from `low` to `high`."""
    if values.shape != shape:
        raise InputError(f"{field}: shape {values.shape} is not allowed, it must be {shape}")
    if not np.issubdtype(values.dtype, np.integer):
        raise InputError(f"{field}: {values.dtype} is not allowed, it must be whole numbers")
    if high is None:
        check_each(field, values, values >= low, f"at least {low}")
    else:
        check_each(field, values, (values >= low) & (values <= high), f"from {low} to {high}")


def check_each(field: str, values: np.ndarray, allowed: np.ndarray, what: str) -> None:
    """Raises `InputError` that names the first entry of `values` where `allowed` is false."""
    if np.all(allowed):
        return
    first = np.unravel_index(np.argmin(allowed), values.shape)
    position = f"[{', '.join(str(i) for i in first)}]" if first else ""
    raise InputError(f"{field}{position}: {values[first]} is not allowed, it must be {what}")
