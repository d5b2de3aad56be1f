"""What a module's source says that Python forgets: who is exported, what a signature was."""

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path


@cache
def tree(module: str) -> ast.Module:
    """Returns a module's source, parsed."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def find(module: str, qualified_name: str) -> ast.stmt | None:
    """Returns the statement that defines `Class.method`, a function, a class or a constant."""
    body: Sequence[ast.stmt] = tree(module).body
    found = None
    for part in qualified_name.split("."):
        found = next((node for node in body if part in _defined(node)), None)
        body = found.body if isinstance(found, ast.ClassDef) else []
    return found


def comment(module: str, name: str) -> str:
    """Returns the string below a constant; "" where there is none."""
    for node, after in pairwise(tree(module).body):
        match after:
            case ast.Expr(ast.Constant(str(text))) if name in _defined(node):
                return inspect.cleandoc(text)
    return ""


@cache
def exported(module: str) -> dict[str, str]:
    """Returns the names that a module exports, and for each where it is defined.

    Exported is what a type checker lets others import: what is defined there without an underscore,
    imported `as` itself or by an asterisk; or, where `__all__` is a plain list, what it lists.
    """
    imported: dict[str, str] = {}
    found: dict[str, str] = {}
    listed: list[str] | None = None
    for node in tree(module).body:
        match node:
            case ast.ImportFrom(module=str(source), names=[ast.alias(name="*")]):
                names = importlib.import_module(source).__all__
                found |= {name: _origin(source, name) for name in names}
            case ast.ImportFrom(module=str(source), names=aliases) if _ours(source):
                for alias in aliases:
                    name = alias.asname or alias.name
                    imported[name] = _origin(source, alias.name)
                    if alias.asname == alias.name:
                        found[name] = imported[name]
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                listed = ast.literal_eval(value)
            case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
                pass  # of annotations alone
            case _:
                found |= {name: f"{module}.{name}" for name in _defined(node)}
    if listed is not None:
        found = {name: imported.get(name, f"{module}.{name}") for name in listed}
    return {name: origin for name, origin in found.items() if not name.startswith("_")}


@cache
def is_module(name: str) -> bool:
    """Whether what `exported` says of a definition is a module."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _ours(module: str) -> bool:
    return module.partition(".")[0] == "fedjax_ecgr"


def _origin(source: str, name: str) -> str:
    """Returns where what `from source import name` gives is defined."""
    if inspect.ismodule(getattr(importlib.import_module(source), name)):
        return f"{source}.{name}"
    return exported(source).get(name, f"{source}.{name}")


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []
