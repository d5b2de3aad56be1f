"""The notebooks of the gallery: executed apart from the user's settings, and there to download."""

import os
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def set_apart(app: Sphinx) -> None:
    """Gives kernels a profile of their own: no start-up files of the user's, and no chatter.

    What they compile is kept, too, for the next time that the site is built here, unless the user
    keeps it elsewhere.
    """
    made = Path(app.outdir).parent
    profile = made / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    config = 'get_config().IPKernelApp.log_level = "ERROR"\n'
    (profile / "ipython_kernel_config.py").write_text(config, encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(profile.parent)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(made / "programs"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def offer(
    app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document | None
) -> None:
    """Copies a page's notebook to where the theme's button looks for it."""
    made = Path(app.outdir).parent / "jupyter_execute" / f"{page}.ipynb"
    if document is not None and made.exists():
        offered = Path(app.outdir) / "_sources" / f"{page}.ipynb"
        offered.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, offered)
        context["ipynb_source"] = f"{page}.ipynb"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects both."""
    app.connect("builder-inited", set_apart)
    app.connect("html-page-context", offer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
