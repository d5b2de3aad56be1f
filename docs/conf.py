"""The site: `make docs`. What Sphinx lacks for it stands in `extensions/`, one thing a file."""

import sys
from pathlib import Path

from fedjax_ecgr import __version__

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "fedjax_ecgr"
author = "The fedjax_ecgr authors"
copyright = author
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "citation",
    "docstrings",
    "links",
    "mathml",
    "notebooks",
    "reference",
]
exclude_patterns = ["_build", "extensions"]

# pages are read on git hosts too: plain Markdown, but for formulas
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
links_pages = {
    "README.md": "index",
    "CHANGELOG.md": "project/changelog",
    "CITATION.cff": "project/citing",
    "CONTRIBUTING.md": "project/contributing",
}

nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_render_markdown_format = "myst"  # which has tables
nb_output_stderr = "remove"  # JAX says there what hardware it misses

default_role = "literal"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_theme_options = {"navbar_persistent": [], "use_fullscreen_button": False}
html_title = project
html_context = {"default_mode": "auto"}
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
