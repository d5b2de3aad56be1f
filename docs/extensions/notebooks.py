"""The notebooks of the gallery, as executed, behind the theme's button for downloads."""

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def offer(
    app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document | None
) -> None:
    """Copies a page's notebook to where the theme looks for it."""
    made = Path(app.outdir).parent / "jupyter_execute" / f"{page}.ipynb"
    if document is not None and made.exists():
        offered = Path(app.outdir) / "_sources" / f"{page}.ipynb"
        offered.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, offered)
        context["ipynb_source"] = f"{page}.ipynb"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects it."""
    app.connect("html-page-context", offer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
