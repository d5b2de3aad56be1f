"""Formulas as MathML, which browsers show by themselves: no script, no font, no network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)
SPELLINGS = {r"\arg": r"\operatorname{arg}", r"\lfloor": "⌊", r"\rfloor": "⌋", "−": "-"}
"""What the converter knows by another spelling only."""


def mathml(text: str, *, block: bool) -> str:
    r"""Returns a formula of LaTeX's as MathML.

    Raises:
      ValueError: for a command that has no counterpart.

    Example:
      >>> "<mover><mi>u</mi>" in mathml(r"\tilde u", block=False)
      True
    """
    for written, known in SPELLINGS.items():
        text = text.replace(written, known)
    if block and r"\\" in text and r"\begin" not in text:  # several lines
        lines = text.replace(r"\\", r"\\ &")
        text = rf"\begin{{split}}& {lines}\end{{split}}"
    made = convert(text, display="block" if block else "inline")
    unknown = re.findall(r"\\\w+", made)
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}")
    return made


def _write(self: HTML5Translator, node: nodes.Element, *, block: bool) -> None:
    try:
        made = mathml(node.astext(), block=block)
    except Exception as error:  # what the converter raises is its own affair
        LOGGER.warning("formula: %s", error or type(error), location=node, type="mathml")
        made = f"<code>{self.encode(node.astext())}</code>"
    self.body.append(f'<div class="formula">{made}</div>\n' if block else made)
    raise nodes.SkipNode


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """Writes a formula in a line."""
    _write(self, node, block=False)


def display(self: HTML5Translator, node: nodes.math_block) -> None:
    """Writes a formula of its own."""
    _write(self, node, block=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
