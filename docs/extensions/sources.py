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
def named(module: str) -> dict[str, str]:
    """Returns the names of this package's that a module has, and where each is defined."""
    found: dict[str, str] = {}
    for node in tree(module).body:
        match node:
            case ast.ImportFrom(module=str(source)) if _ours(source):
                found |= {shown: _origin(source, name) for name, shown in _imported(source, node)}
            case ast.Assign(value=ast.Call(func=ast.Name(id="TypeVar"))):
                pass  # of annotations alone
            case _:
                found |= {name: f"{module}.{name}" for name in _defined(node)}
    return found


@cache
def exported(module: str) -> dict[str, str]:
    """Returns the names that a module exports, and where each is defined.

    Exported is what a type checker lets others import: what is defined there without an underscore,
    imported `as` itself or by an asterisk; or, where `__all__` is a plain list, what it lists.
    """
    found: list[str] = []
    for node in tree(module).body:
        match node:
            case ast.ImportFrom(module=str(source), names=aliases) if _ours(source):
                again = {alias.name for alias in aliases if alias.asname == alias.name}
                all_of_it = aliases[0].name == "*"
                found += [n for n, _ in _imported(source, node) if all_of_it or n in again]
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                found = ast.literal_eval(value)
                break
            case _:
                found += _defined(node)
    names = named(module)
    return {name: names[name] for name in found if name in names and not name.startswith("_")}


@cache
def is_module(name: str) -> bool:
    """Whether what `exported` says of a definition is a module."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _imported(source: str, node: ast.ImportFrom) -> list[tuple[str, str]]:
    """Returns the names that a statement imports, as they are there and here."""
    if node.names[0].name == "*":
        return [(name, name) for name in importlib.import_module(source).__all__]
    return [(alias.name, alias.asname or alias.name) for alias in node.names]


def _ours(module: str) -> bool:
    return module.partition(".")[0] == "fedjax_ecgr"


def _origin(source: str, name: str) -> str:
    """Returns where what `from source import name` gives is defined."""
    if inspect.ismodule(getattr(importlib.import_module(source), name)):
        return f"{source}.{name}"
    return named(source).get(name, f"{source}.{name}")


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []
