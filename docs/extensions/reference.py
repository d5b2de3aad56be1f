"""Pages of reference that follow from the imports of the modules they describe.

`.. room:: fedjax_ecgr.algorithms` describes all that the module exports, so that what is new there
is on its page. Each name is described once, on the first page that has it, and found by every other
name it goes by: `fx.History` is `fedjax_ecgr.engine.History` is `fedjax_ecgr.engine.run.History`.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple, is_typeddict

from docstrings import as_rest
from docutils import nodes
from sources import comment, exported, find, is_module, named
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

TOP = "fedjax_ecgr"
ROOM = re.compile(r"^\.\. room:: ([\w.]+)$", re.MULTILINE)
LONGEST = 90  # characters of a constant's value that is shown


class Home(NamedTuple):
    """Where a thing is described."""

    room: str
    name: str

    @property
    def full(self) -> str:
        """The name it is described by."""
        return f"{self.room}.{self.name}"


@cache
def rooms(pages: Path) -> tuple[str, ...]:
    """Returns the modules that pages describe; the top level is last, and so nobody's home."""
    found = [
        room for page in sorted(pages.glob("*.rst")) for room in ROOM.findall(page.read_text())
    ]
    return (*(room for room in found if room != TOP), TOP)


@cache
def homes(pages: Path) -> dict[str, Home]:
    """Returns for each definition, `module.name`, where it is described."""
    found: dict[str, Home] = {}
    for room in rooms(pages):
        for name, origin in exported(room).items():
            if not is_module(origin):
                found.setdefault(origin, Home(room, name))
    return found


class Room(SphinxDirective):
    """Describes what a module exports."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns a table of the names, and what is described here."""
        (room,) = self.arguments
        lines = described(room, homes(Path(self.env.srcdir) / "api"))
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def described(room: str, at: Mapping[str, Home]) -> Iterator[str]:
    """Yields a room's page as reStructuredText."""
    yield f".. automodule:: {room}"
    parent, _, last = room.rpartition(".")
    if parent and not is_module(exported(parent).get(last, room)):
        yield "   :no-index:"  # `fedjax_ecgr.reports.scores` is a function first
    everything = exported(room)
    here = {n: origin for n, origin in everything.items() if at.get(origin) == Home(room, n)}
    package = hasattr(importlib.import_module(room), "__path__")
    yield from table(room, everything if package else here)
    # what is listed has a file of its own
    listed = "listing" in named(room)
    in_files = {n for n, origin in here.items() if listed and origin == f"{room}.{n}.{n}"}
    for name in sorted(in_files):
        # its paper and formulas stand at the top of its file
        yield from heading(name)
        yield from (f".. automodule:: {room}.{name}", "   :no-index:", "")
        yield from one(room, name, here[name])
    if in_files and len(here) > len(in_files):
        yield from heading("Contract and helpers")
    for name, origin in here.items():
        if name not in in_files:
            yield from one(room, name, origin)


def heading(text: str) -> Iterator[str]:
    """Yields a heading."""
    yield from ("", text, "-" * len(text), "")


def table(room: str, names: Mapping[str, str]) -> Iterator[str]:
    """Yields a line for each name: what it is."""
    if not names:
        return
    yield from ("", ".. list-table::", "   :widths: 30 70", "   :class: names", "")
    for name in sorted(names, key=lambda name: (not is_module(names[name]), name.lower())):
        target = names[name] if is_module(names[name]) else f"{room}.{name}"
        yield f"   * - :py:obj:`{name} <{target}>`"
        yield f"     - {summary(room, name, names[name])}"
    yield ""


def summary(room: str, name: str, origin: str) -> str:
    """Returns the first sentence that the source says of a name."""
    value = getattr(importlib.import_module(room), name)
    module, _, own = origin.rpartition(".")
    constant = isinstance(find(module, own), ast.Assign | ast.AnnAssign)
    text = comment(module, own) if constant else inspect.getdoc(value) or ""
    if constant and not text and isinstance(value, Mapping):
        text = f"By name: {', '.join(list(value)[:4])}, …"
    first = " ".join(text.split("\n\n")[0].split()).removeprefix("Returns ")
    first = first.partition(". ")[0].removesuffix(".")
    return as_rest(first[:1].upper() + first[1:])


def one(room: str, name: str, origin: str) -> Iterator[str]:
    """Yields what describes a name."""
    module, _, own = origin.rpartition(".")
    value = getattr(importlib.import_module(room), name)
    match find(module, own):
        case ast.ClassDef():
            kind = "exception" if issubclass(value, Exception) else "class"
            # Sphinx cannot find the arguments of a TypedDict
            yield f".. auto{kind}:: {room}::{name}{'()' if is_typeddict(value) else ''}"
            yield "   :members:"
            if getattr(value, "_is_protocol", False):
                yield "   :special-members: __call__"
        case ast.FunctionDef():
            yield f".. autofunction:: {room}::{name}"
        case ast.Assign() | ast.AnnAssign() as node:
            yield from (f".. py:data:: {name}", f"   :module: {room}")
            shown = ast.unparse(node.value) if node.value else ""
            if not isinstance(value, Mapping) and len(shown) <= LONGEST:
                yield f"   :value: {shown}"
            yield from ("", *(f"   {line}" for line in as_rest(comment(module, own)).split("\n")))
            if isinstance(value, Mapping):
                yield from ("", f"   By name: {', '.join(f'``{key}``' for key in value)}.")
    yield ""


def note_other_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Lets each thing be found by every name it goes by."""
    domain = env.domains.python_domain
    at = homes(Path(env.srcdir) / "api")
    # `fx.datasets` is the module `fedjax_ecgr.data.datasets`
    short = {origin: f"{TOP}.{name}" for name, origin in exported(TOP).items() if is_module(origin)}
    others: dict[str, set[str]] = {}
    for room in rooms(Path(env.srcdir) / "api"):
        spellings = {room, short.get(room, room)}
        if room in short:
            domain.modules[short[room]] = domain.modules[room]
            domain.objects[short[room]] = domain.objects[room]._replace(aliased=True)
        for name, origin in named(room).items():
            if origin in at:
                names = {origin, *(f"{spelling}.{name}" for spelling in spellings)}
                others.setdefault(at[origin].full, set()).update(names)
    for full, entry in list(domain.objects.items()):
        # of a class's members, that of the class
        owner = full if full in others else full.rpartition(".")[0]
        for other in others.get(owner, ()) if not entry.aliased else ():
            name = other + full.removeprefix(owner)
            domain.objects.setdefault(name, entry._replace(aliased=True))


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the directive, and the other names."""
    app.add_directive("room", Room)
    app.connect("env-updated", note_other_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
