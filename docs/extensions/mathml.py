"""Formulas as MathML, which browsers show by themselves: no script, no font, no network."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)


def _written(self: HTML5Translator, node: nodes.Element, *, block: bool) -> None:
    """Writes a formula; one that cannot be read is a warning."""
    try:
        text = tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        LOGGER.warning("formula: %s", error, location=node, type="mathml")
        text = f"<code>{self.encode(node.astext())}</code>"
    self.body.append(f'<div class="math">{text}</div>\n' if block else text)
    raise nodes.SkipNode


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """Writes a formula in a line."""
    _written(self, node, block=False)


def display(self: HTML5Translator, node: nodes.math_block) -> None:
    """Writes a formula of its own."""
    _written(self, node, block=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
