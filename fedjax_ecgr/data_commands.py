"""The commands `fedjax-ecgr data` and `fedjax-ecgr partition`."""

from pathlib import Path
from typing import Annotated, Any

import rich
import typer
from rich.markup import escape
from rich.table import Table

from fedjax_ecgr import runs
from fedjax_ecgr.check import InputError
from fedjax_ecgr.data.datasets import DATASETS
from fedjax_ecgr.data.describe import facts, portrait, samples, skew
from fedjax_ecgr.data.prepare import prepare as prepare_
from fedjax_ecgr.data.tfds_folder import default_folder, prepared
from fedjax_ecgr.options import configure, with_options
from fedjax_ecgr.runs.config import data_of, divided
from fedjax_ecgr.runs.parameters import first_line

DataDir = Annotated[
    Path | None,
    typer.Option(help="folder of all prepared data sets [default: TensorFlow Datasets' own]"),
]
Out = Annotated[Path | None, typer.Option(help="PNG to write the picture to")]

_DATA, _DIVIDED = ("dataset",), ("dataset", "partition")  # the kinds that a command takes


def data() -> typer.Typer:
    """Returns the commands about data sets."""
    app = typer.Typer(help="Prepares data sets, lists them, and shows what is in one.")
    app.command("prepare")(prepare)
    app.command("list")(list_data)
    app.command("show")(with_options(show, _DATA, ["seed", "num_clients"]))
    return app


def partition() -> typer.Typer:
    """Returns the commands about partitions."""
    app = typer.Typer(help="Shows who holds what.")
    fields = ["num_clients", "seed", "data_seed", "partition_seed"]
    shown = with_options(show_partition, _DIVIDED, fields)
    app.command("show")(shown)
    app.callback()(_group)
    return app


def prepare(
    name: Annotated[str, typer.Argument(help="mnist, emnist/byclass, cifar10, … or lc25000")],
    manual_dir: Annotated[
        Path | None,
        typer.Option(help="folder with the published files, where they cannot be downloaded"),
    ] = None,
    data_dir: DataDir = None,
    trust_manual: Annotated[
        bool,
        typer.Option("--trust-manual", help="takes other files than the catalogue's, packed again"),
    ] = False,
) -> int:
    """Prepares a data set of TensorFlow Datasets, once, for `--dataset tfds --data-name NAME`.

    Needs `pip install 'fedjax-ecgr[prepare]'`; training does not.
    """
    folder = prepare_(name, data_dir=data_dir, manual_dir=manual_dir, trust_manual=trust_manual)
    print(f"prepared: {folder}")
    return 0


def list_data(data_dir: DataDir = None) -> int:
    """Lists the sources of data, and what is prepared."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "name", "what it is"):
        table.add_column(heading)
    for name, factory in DATASETS.items():
        table.add_row("source", name, escape(first_line(factory).removeprefix("Returns ")))
    for name, path in prepared(default_folder(data_dir)).items():
        table.add_row("prepared", name, escape(str(path)))
    rich.print(table)
    return 0


def show(
    given: dict[str, Any],
    name: Annotated[
        str | None, typer.Argument(help="a source, an .npz file, or a prepared data set")
    ] = None,
    out: Out = None,
) -> int:
    """Shows sizes, classes and normalisation of a data set, and draws some of its images."""
    if out is not None:
        runs.refuse_existing(out)
    if name is not None:
        prepared_ = name not in DATASETS and not name.endswith(".npz")
        given |= {"dataset": "tfds", "data_name": name} if prepared_ else {"dataset": name}
    dataset = data_of(configure(given, kinds=_DATA))
    for heading, text in facts(dataset).items():
        print(f"{heading}: {text}")
    if out is not None:
        if len(dataset.spec.input_shape) != 3 or dataset.spec.input_shape[-1] not in (1, 3, 4):
            raise InputError(
                f"out: {dataset.name} is not made of images of 1, 3 or 4 channels, there is "
                "nothing to draw"
            )
        _draw(samples(dataset), out)
    return 0


def show_partition(given: dict[str, Any], out: Out = None) -> int:
    """Shows how clients differ in what they hold, and draws it: clients across, classes up."""
    if out is not None:
        runs.refuse_existing(out)
    config = configure(given, kinds=_DIVIDED)
    dataset = data_of(config)
    clients, classes = divided(config, dataset), dataset.spec.num_classes
    found = skew(clients, classes)
    smallest, median, largest = found.sizes
    print(f"clients: {clients.num_clients}, of them {found.empty} without data")
    print(f"examples: {smallest} to {largest}, median {median}")
    print(f"entropy of a client's labels: {found.entropy:.3f} bits, mean")
    print(f"total-variation distance to all labels: {found.distance:.3f}, mean")
    if clients.examples is not dataset.train:
        print("inputs: shifted client by client, which labels do not show")
    if out is not None:
        title = f"{config.data_name}, {config.partition.name}: distance {found.distance:.3f}"
        _draw(portrait(clients, classes, title), out)
    return 0


def _group() -> None:
    """Shows who holds what."""


def _draw(figure: Any, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    runs.write(out, lambda file: figure.savefig(file, format="png"))
    print(f"picture: {out}")
