"""A data set and its division in numbers and pictures."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedjax_ecgr.data.federated import Dataset, FederatedDataset, label_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SAMPLES = 8  # of each class, in a picture
_MOST_CLASSES = 20


class Skew(NamedTuple):
    """How clients differ in what they hold; those without data are left out but for `empty`.

    Attributes:
      sizes: smallest, median and largest number of examples.
      empty: clients without data.
      entropy: mean over clients of the entropy of their labels, in bits; log2(classes) at most.
      distance: mean over clients of the total-variation distance between their labels and those of
        all clients together, (1/2) Σ_c |p_ic − p_c|, in [0, 1).
    """

    sizes: tuple[int, int, int]
    empty: int
    entropy: float
    distance: float


def skew(clients: FederatedDataset, num_classes: int) -> Skew:
    """Returns how a division is skewed.

    >>> from fedjax_ecgr.data.federated import Examples, from_assignment
    >>> examples = Examples(np.zeros((4, 2)), np.array([0, 0, 1, 1]), mean=0.0, std=1.0)
    >>> skew(from_assignment(examples, [[0, 1], [2, 3]]), num_classes=2)
    Skew(sizes=(2, 2, 2), empty=0, entropy=0.0, distance=0.5)
    """
    counts, sizes = label_counts(clients, num_classes), np.asarray(clients.sizes)
    held, sizes = counts[counts.sum(axis=1) > 0], sizes[sizes > 0]
    shares = held / held.sum(axis=1, keepdims=True)
    logarithms = np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
    overall = held.sum(axis=0) / held.sum()
    return Skew(
        (int(sizes.min()), int(np.median(sizes)), int(sizes.max())),
        len(counts) - len(sizes),
        abs(float(-(shares * logarithms).sum(axis=1).mean())),
        float(np.abs(shares - overall).sum(axis=1).mean() / 2),
    )


def facts(dataset: Dataset) -> dict[str, str]:
    """Returns what a data set is, in words, by heading."""
    train, test = dataset.train, dataset.test
    shape = " × ".join(map(str, dataset.spec.input_shape))
    labels = np.asarray(train.labels)
    counts = np.bincount(labels[labels >= 0], minlength=dataset.spec.num_classes)
    owners = train.owners
    tokens = dataset.spec.vocabulary
    kind = str(train.inputs.dtype) if tokens is None else f"tokens of {tokens:,}"
    return {
        "name": dataset.name,
        "training examples": f"{len(train.labels):,}",
        "test examples": f"{len(test.labels):,}",
        "an example": f"{shape}, {kind}",
        "classes": f"{dataset.spec.num_classes}, of {counts.min():,} to {counts.max():,} labels",
        "mean": _numbers(train.mean),
        "standard deviation": _numbers(train.std),
        "owners": "none" if owners is None else f"{len(np.unique(np.asarray(owners))):,}",
    }


def samples(dataset: Dataset) -> "Figure":
    """Draws the first images of each class, a row a class."""
    from matplotlib.figure import Figure

    labels, inputs = np.asarray(dataset.train.labels), dataset.train.inputs
    classes = np.unique(labels)[:_MOST_CLASSES]
    figure = Figure(figsize=(_SAMPLES, len(classes)), layout="constrained")
    grid: Any = figure.subplots(len(classes), _SAMPLES, squeeze=False)
    for label, row in zip(classes, grid, strict=True):
        found = np.flatnonzero(labels == label)[:_SAMPLES]
        for axes in row:
            axes.set_axis_off()
        row[0].set_title(f"class {label}", fontsize="small", loc="left")
        for axes, example in zip(row, found, strict=False):
            image = np.asarray(inputs[example])
            axes.imshow(image, cmap="gray" if image.shape[-1] == 1 else None)
    figure.suptitle(dataset.name)
    return figure


def portrait(clients: FederatedDataset, num_classes: int, title: str) -> "Figure":
    """Draws who holds what: clients across, classes up, darker the more examples."""
    from matplotlib.figure import Figure

    counts = label_counts(clients, num_classes)
    height, width = np.clip((0.3 * num_classes + 1.5, 0.3 * len(counts) + 2), 3, 16)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    drawn = axes.imshow(counts.T, origin="lower", aspect="auto", cmap="Blues", vmin=0)
    figure.colorbar(drawn, label="labels")
    axes.set_xlabel("client")
    axes.set_ylabel("class")
    axes.set_title(title, fontsize="medium")
    axes.locator_params(integer=True)
    return figure


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.6g}" for value in np.atleast_1d(np.asarray(values)))
