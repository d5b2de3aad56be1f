r"""Docstrings as they are written, made what Sphinx reads; and signatures as they are written.

In the source, formulas stand between dollar signs and code between single backticks. Types in a
signature are the names that the source gives them (`PyTree`), not what these stand for (`Any`).
"""

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterable
from copy import deepcopy
from textwrap import indent
from typing import Any

from sources import find, named
from sphinx.application import Sphinx

# what is kept as it is, what is changed, and characters that would mean something
PARTS = re.compile(
    r"""
      (?P<doctest>^[ ]*>>>[^\n]*(?:\n[ ]*\S[^\n]*)*)
    | (?P<directive>^\.\.[ ]\w+::[^\n]*(?:\n[ ]*|\n[ ]+\S[^\n]*)*)
    | (?P<margin>^[ ]*)?\$\$(?P<display>.+?)\$\$
    | \$(?P<formula>[^$]+?)\$
    | (?<!`)`(?P<code>[^`]+)`(?!`)
    | (?P<emphasis>(?<![\w*])\*(?=[\w])[^*\n]+\*(?![\w*]))
    | (?P<argument>^[ ]*\*{1,2}(?=\w+:))
    | (?P<bare>[|*]|(?<=\w)_(?![\w{]))
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)


def as_rest(text: str) -> str:
    """Returns a docstring as reStructuredText.

    Example:
      >>> as_rest("The `update` is $u$, |u| numbers.")
      'The ``update`` is :math:`u`, \\\\|u\\\\| numbers.'
    """
    return PARTS.sub(_part, text)


def _part(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "display":
        margin = match["margin"] or ""
        lines = " ".join(match["display"].split())
        return f"\n\n{margin}.. math::\n\n{margin}   {lines}\n\n{margin}"
    if kind == "formula":
        return _role(match, f":math:`{' '.join(match['formula'].split())}`")
    if kind == "code":
        return _role(match, f"``{' '.join(match['code'].split())}``")
    return "\\" + match[0] if kind == "bare" else match[0]


def _role(match: re.Match[str], text: str) -> str:
    """Returns inline markup, set off from a letter before or behind it."""
    before, behind = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return (r"\ " if before.isalnum() else "") + text + (r"\ " if behind.isalnum() else "")


def process(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Changes the lines of a docstring; before napoleon sees them."""
    text = "\n".join(lines)
    if what == "module":  # what is set in by four is shown as it is
        text = re.sub(
            r"(?<=\n\n)(?: {4}.*\n?)+", lambda block: f"::\n\n{indent(block[0], '  ')}\n", text
        )
    lines[:] = as_rest(text).splitlines()


class Linked(ast.NodeTransformer):
    """Gives names in annotations what Sphinx links them by: `Loss`, `~fedjax_ecgr.types.Loss`.

    The tilde, which Sphinx takes for "shown by its last name", is Python's too, so that it parses.
    """

    def __init__(self, module: str):
        self.names = named(module)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Changes a name of this package's."""
        if node.id not in self.names:
            return node
        return ast.UnaryOp(ast.Invert(), ast.parse(self.names[node.id], mode="eval").body)


def linked(module: str, nodes: Iterable[ast.arg | ast.AnnAssign | None]) -> None:
    """Changes the annotations of arguments or fields, not their defaults."""
    for node in nodes:
        if node is not None and node.annotation is not None:
            node.annotation = Linked(module).visit(node.annotation)


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: object, *given: str | None
) -> tuple[str, str] | None:
    """Returns arguments and result as the source has them; None leaves what Sphinx found."""
    obj = inspect.unwrap(getattr(obj, "__func__", obj))
    module = getattr(obj, "__module__", None) or ""
    if not module.startswith("fedjax_ecgr"):
        return None
    match deepcopy(find(module, getattr(obj, "__qualname__", ""))):
        case ast.FunctionDef(args=a, returns=result):
            linked(module, [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg])
            if what == "method":
                del a.args[0]
            return f"({ast.unparse(a)})", ast.unparse(
                Linked(module).visit(result)
            ) if result else ""
        case ast.ClassDef(body=body) if hasattr(obj, "_fields") or dataclasses.is_dataclass(obj):
            fields = [node for node in body if isinstance(node, ast.AnnAssign)]
            linked(module, fields)
            return f"({', '.join(map(ast.unparse, fields))})", ""
        case ast.ClassDef() if not issubclass(obj, Exception):
            return "", ""  # a protocol, or keyword arguments by name
    return None


def skip(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leaves out fields of a NamedTuple: they are described in its docstring."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects all of it."""
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-process-signature", signature)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
