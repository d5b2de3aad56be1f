"""Links that pages need on a plain git host, made to lead somewhere on the site too.

- A link to a file of the repository leads to the page that shows it, or hands the file over.
- A name in code, `fx.simulate`, leads to where it is described.
- The number of an arXiv paper leads to the paper.
"""

import os
import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

NAME = re.compile(r"(?:fx|fedjax_ecgr)((?:\.[A-Za-z_]\w*)+)(?:\(.*\))?", re.DOTALL)
PAPER = re.compile(r"arXiv[ \n](\d{4}\.\d{5})")
APART = (
    nodes.title,
    nodes.reference,
    addnodes.pending_xref,
    addnodes.download_reference,
    addnodes.desc_signature,
    nodes.literal,
    nodes.FixedTextElement,
    nodes.math,
    nodes.math_block,
)
"""Where nothing becomes a link: what is one, names it, or is shown as it is."""


def apart(node: nodes.Node) -> bool:
    """Whether a node is within one of `APART`."""
    parent = node.parent
    while parent is not None:
        if isinstance(parent, APART):
            return True
        parent = parent.parent
    return False


class Files(SphinxTransform):
    """Links to files, relative to their page or, in what is included, to the repository's root."""

    default_priority = 700

    def apply(self, **_: object) -> None:
        """Changes those that lead to no page of the site by themselves."""
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node["reftype"] == "myst" and node["reftarget"] not in self.env.found_docs:
                self.lead(node)

    def lead(self, node: addnodes.pending_xref) -> None:
        """Leads one to a page or a file; leaves alone what is neither, which is a warning then."""
        root, page = Path(self.env.srcdir).parent, Path(self.env.doc2path(self.env.docname)).parent
        name, _, anchor = node["reftarget"].partition("#")
        if not re.search(r"[./]", name):
            return  # an anchor
        # Sphinx itself takes the suffix off what it holds to be a page
        tried = [place / f"{name}{suffix}" for place in (page, root) for suffix in ("", ".md")]
        path = next((path.resolve() for path in tried if path.exists()), None)
        if path is None or not path.is_relative_to(root):
            return
        shown = self.config.links_pages.get(str(path.relative_to(root)))
        docname = shown or self.env.path2doc(path)
        if docname in self.env.found_docs:
            node.attributes.update(refdomain="doc", reftarget=docname, reftargetid=anchor or None)
        elif path.is_file():
            target = os.path.relpath(path, page)
            file = addnodes.download_reference("", *node.children, reftarget=target)
            node.replace_self(file)
        else:  # a folder
            node.replace_self(node.children)


class Names(SphinxTransform):
    """Names of this package, and numbers of papers."""

    default_priority = 710

    def apply(self, **_: object) -> None:
        """Makes them links."""
        for node in list(self.document.findall(nodes.literal)):
            found = NAME.fullmatch(node.astext())
            if found and not apart(node):
                target = f"fedjax_ecgr{found[1]}"
                link = addnodes.pending_xref(
                    refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname
                )
                node.replace_self(link)
                link += node
        for node in list(self.document.findall(nodes.Text)):
            if PAPER.search(node) and not apart(node):
                node.parent.replace(node, self.papers(str(node)))

    def papers(self, text: str) -> list[nodes.Node]:
        """Returns text with links in it."""
        found: list[nodes.Node] = []
        end = 0
        for match in PAPER.finditer(text):
            found.append(nodes.Text(text[end : match.start()]))
            target = f"https://arxiv.org/abs/{match[1]}"
            found.append(nodes.reference("", match[0], refuri=target))
            end = match.end()
        return [*found, nodes.Text(text[end:])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds both."""
    app.add_config_value("links_pages", {}, "env")  # what shows which file of the root
    app.add_transform(Files)
    app.add_transform(Names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
