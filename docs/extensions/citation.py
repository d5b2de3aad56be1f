"""BibTeX of CITATION.cff, the software's and that of what it refers to."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TYPES = {"software": "software", "article": "article"}


def entries(citation: Mapping[str, Any]) -> Iterator[str]:
    """Yields an entry for the software and one for each reference."""
    for work in (citation, *citation.get("references", [])):
        yield entry(work)


def entry(work: Mapping[str, Any]) -> str:
    """Returns a work in BibTeX.

    Example:
      >>> work = {"type": "article", "title": "On x", "year": 2026, "notes": "arXiv 2601.00001"}
      >>> print(entry({**work, "authors": [{"family-names": "Luo"}, {"family-names": "Wang"}]}))
      @article{luo2026,
        title = {{On x}},
        author = {Luo and Wang},
        year = {2026},
        note = {arXiv 2601.00001},
      }
    """
    authors = [author(each) for each in work["authors"]]
    first = work["authors"][0]
    name = first.get("family-names", work["title"].partition(":")[0]).lower()
    fields = {
        "title": f"{{{work['title']}}}",
        "author": " and ".join(authors),
        "year": work.get("year") or str(work.get("date-released", ""))[:4],
        "version": work.get("version"),
        "note": work.get("notes"),
        "doi": work.get("doi"),
        "url": work.get("url") or work.get("repository-code"),
    }
    lines = [f"  {field} = {{{value}}}," for field, value in fields.items() if value]
    key = f"{name}{fields['year'] or ''}"
    return "\n".join([f"@{TYPES[work['type']]}{{{key},", *lines, "}"])


def author(person: Mapping[str, str]) -> str:
    """Returns a name as BibTeX takes it."""
    if "name" in person:
        return f"{{{person['name']}}}"  # one name of several words
    return ", ".join(person[part] for part in ("family-names", "given-names") if part in person)


class Citation(SphinxDirective):
    """Shows the entries."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns them as one block."""
        file = Path(self.env.srcdir, self.arguments[0]).resolve()
        self.env.note_dependency(file)
        text = "\n\n".join(entries(yaml.safe_load(file.read_text(encoding="utf-8"))))
        return [nodes.literal_block(text, text, language="bibtex")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the directive."""
    app.add_directive("citation", Citation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
