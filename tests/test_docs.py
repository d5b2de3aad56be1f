"""What the documents name exists."""

import importlib.util
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts),
]
NAME = re.compile(r"(?<![\w.\-/])(?:fx|fedjax_ecgr)(?:\.[A-Za-z_]\w*)+")
IMPORT = re.compile(r"^(?:>>> )?from (fedjax_ecgr[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def names(text: str) -> set[str]:
    """Returns the dotted names of this package in a text, those that it imports among them.

    What is called my_something is the reader's own.
    """
    found = {f"{m}.{n.strip()}" for m, of in IMPORT.findall(text) for n in of.split(",")}
    found |= {re.sub(r"^fx\.", "fedjax_ecgr.", name) for name in NAME.findall(text)}
    return {name for name in found if ".my_" not in name}


def resolve(name: str):
    """Returns what a dotted name stands for: an attribute, or a module that is to be imported.

    Raises:
      AttributeError: if it stands for nothing.
    """

    def step(thing, part):
        if not hasattr(thing, part) and hasattr(thing, "__path__"):
            try:
                return importlib.import_module(f"{thing.__name__}.{part}")
            except ModuleNotFoundError:
                raise AttributeError(f"{thing.__name__} has no {part}") from None
        return getattr(thing, part)

    first, *parts = name.split(".")
    return reduce(step, parts, importlib.import_module(first))


def test_names_are_found():
    text = (
        "`fx.History`, fedjax_ecgr.engine.RoundInfo. ~/fedjax_ecgr/x.py, fx.my_method\n"
        ">>> fx.models.mlp(a.b)\n"
        ">>> from fedjax_ecgr.types import Array, PyTree\n"
    )
    found = ["History", "engine.RoundInfo", "models.mlp", "types", "types.Array", "types.PyTree"]
    assert names(text) == {f"fedjax_ecgr.{name}" for name in found}
    assert resolve("fedjax_ecgr.runs.load").__name__ == "load"
    with pytest.raises(AttributeError):
        resolve("fedjax_ecgr.simulation.RoundInfo")
    with pytest.raises(AttributeError):
        resolve("fedjax_ecgr.nothing")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_dotted_name_exists(page):
    text = page.read_text()
    for name in sorted(names(text)):
        resolve(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page):
    """Links to files, and paths from the root that are written as code."""
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert all((page.parent / link).exists() for link in links)
    rooms = "fedjax_ecgr|tests|docs|benchmarks|experiments"
    for path in re.findall(rf"`((?:{rooms})/[\w./\-]+)`", text):
        assert (ROOT / path).exists() or "/my_" in path, path
    for module in re.findall(r"python -m ((?:benchmarks|experiments|tests)[\w.]*)", text):
        assert importlib.util.find_spec(module.rstrip(".")), module


def test_every_method_is_in_its_table():
    from fedjax_ecgr.runs.config import LISTINGS

    text = (ROOT / "docs" / "methods.md").read_text()
    missing = [n for listing in LISTINGS.values() for n in listing if f"| `{n}` |" not in text]
    assert missing == []
