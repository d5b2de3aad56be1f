"""The site: whole, nothing public left out, and alive in a real browser where there is one."""

import doctest
import importlib
import json
import os
import re
import subprocess
import sys
import zlib
from html import unescape
from html.parser import HTMLParser
from inspect import ismodule
from pathlib import Path

import pytest

import fedjax_ecgr as fx
from tests.reports.test_page import CHROMIUM, QUIET, needs_chromium
from tests.test_docs import PAGES, names

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fedjax_ecgr"
# exported, as typing has it
EXPORT = re.compile(r"^from [\w.]+ import (\w+) as \1$", re.MULTILINE)
ALL_OF = re.compile(r"^from ([\w.]+) import \*", re.MULTILINE)
CONSTANT = re.compile(r"^(\w+)(?:: [^=\n]+)? = ", re.MULTILINE)
SHOWN = {"fedjax_ecgr.metrics", "fedjax_ecgr.types"}  # modules, no packages
BEFORE = """<meta http-equiv="Content-Security-Policy"
  content="default-src file: data: 'unsafe-inline' 'unsafe-eval'">
<script>
const wrong = [];
console.error = (...texts) => { wrong.push(texts.join(" ")); };
addEventListener("error", e => { wrong.push(e.message ?? e.target.src ?? e.target.href); }, true);
addEventListener("unhandledrejection", e => { wrong.push(String(e.reason)); });
addEventListener("securitypolicyviolation", e => { wrong.push(`asked for ${e.blockedURI}`); });
</script>"""
AFTER = """<script>
addEventListener("load", () => setTimeout(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const seen = {
    wrong,
    heading: document.querySelector("h1").firstChild.textContent,
    links: all("nav a").length,
    pictures: all("article img").map(image => image.naturalWidth),
    formulas: all("article math").map(math => math.getBoundingClientRect().height),
    fetched: performance.getEntriesByType("resource").map(entry => entry.name),
    styled: getComputedStyle(document.querySelector("pre")).fontFamily,
  };
  const pre = document.createElement("pre");
  pre.id = "seen";
  pre.textContent = JSON.stringify(seen);
  document.body.append(pre);
}, 500));
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site's folder; warnings are errors, and so is a cell of a notebook that fails."""
    made = tmp_path_factory.mktemp("site")
    own = {name: str(made / name) for name in ("XDG_CACHE_HOME", "JUPYTER_DATA_DIR")}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", ROOT / "docs"]
    done = subprocess.run(
        [*command, made / "html"], env={**os.environ, **own}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return made / "html"


@pytest.fixture(scope="module")
def described(site):
    """All names of Python's that the reference has, from the inventory other sites read."""
    head, body = (site / "objects.inv").read_bytes().split(b"zlib.\n", 1)
    assert b"fedjax_ecgr" in head
    lines = zlib.decompress(body).decode().splitlines()
    return {line.split(" ")[0] for line in lines if re.match(r"\S+ py:", line)}


def exported(file):
    """Returns the names that a package or module exports."""
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    own = {n for n, v in vars(module).items() if getattr(v, "__module__", None) == name}
    text = file.read_text()
    found = {*EXPORT.findall(text), *getattr(module, "__all__", ())}
    for source in ALL_OF.findall(text):
        found |= set(importlib.import_module(source).__all__)
    if found or file.stem != "__init__":  # a package that exports nothing is not public
        found |= own | set(CONSTANT.findall(text))
    return module, {n for n in found if not n.startswith("_")}


def public():
    """Yields every public name: what packages export, what modules that `fx` shows define."""
    files = sorted(PACKAGE.rglob("__init__.py"))
    files += [Path(v.__file__) for v in vars(fx).values() if ismodule(v) and v.__name__ in SHOWN]
    for file in files:
        module, own = exported(file)
        yield from (f"{module.__name__}.{name}" for name in own)
    for short in EXPORT.findall((PACKAGE / "__init__.py").read_text()):
        if ismodule(getattr(fx, short)):  # fx.datasets.digits
            own = exported(Path(getattr(fx, short).__file__))[1]
            yield from (f"fedjax_ecgr.{short}.{name}" for name in own)


def test_every_public_name_is_in_the_reference(described):
    wanted = set(public())
    assert len(wanted) > 300
    assert {"fedjax_ecgr.fedavg", "fedjax_ecgr.datasets.digits", "fedjax_ecgr.types.Loss"} <= wanted
    assert sorted(wanted - described) == []


def test_what_the_pages_name_is_in_the_reference(described):
    wanted = {name for page in PAGES for name in names(page.read_text())}
    assert sorted(wanted - described) == []


class Addresses(HTMLParser):
    """Collects what a page has the browser fetch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.found += [given[name] for name in ("src", "srcset", "data") if given.get(name)]
        if tag == "link":
            self.found.append(given["href"])


def test_no_page_asks_for_anything_elsewhere(site):
    elsewhere = re.compile(r"(https?:)?//")
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        addresses = Addresses()
        addresses.feed(page.read_text())
        assert [a for a in addresses.found if elsewhere.match(a)] == [], page
    for sheet in site.rglob("*.css"):
        text = sheet.read_text()
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", text), sheet


def test_links_to_the_repository_lead_somewhere(site):
    results = (site / "results.html").read_text()
    (file,) = re.findall(r'href="(_downloads/\w+/combinations\.toml)"', results)
    assert (site / file).read_text() == (ROOT / "experiments" / "combinations.toml").read_text()
    contributing = (site / "project" / "contributing.html").read_text()
    assert 'href="../guide/algorithm.html"' in contributing
    assert 'href="changelog.html"' in contributing
    methods = (site / "methods.html").read_text()
    assert 'href="https://arxiv.org/abs/1602.05629"' in methods
    guide = (site / "guide" / "partition.html").read_text()
    assert "../api/partition.html#fedjax_ecgr.data.partition.hold_out" in guide


def opened(site, page, profile):
    """Returns what there is to see in a page that Chromium shows."""
    text = (site / page).read_text(encoding="utf-8")
    text = text.replace("<head>", f"<head>{BEFORE}", 1).replace("</body>", f"{AFTER}</body>")
    copy = (site / page).with_name("seen.html")
    copy.write_text(text, encoding="utf-8")
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    copy.unlink()
    # on a slow machine the theme has given it a tabindex by then, as any block that scrolls
    (found,) = re.findall(r'<pre id="seen"[^>]*>(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(unescape(found))


@needs_chromium
@pytest.mark.parametrize(
    ("page", "heading", "pictures", "formulas"),
    [
        ("index.html", "fedjax_ecgr", 0, 0),
        ("api/algorithms.html", "Algorithms", 0, 50),
        ("gallery/inside_ecgr.html", "What ECGR does to a client’s steps", 3, 4),
    ],
)
def test_a_page_is_alive_in_a_browser(site, tmp_path, page, heading, pictures, formulas):
    seen = opened(site, page, tmp_path)
    assert seen["wrong"] == []
    assert [name for name in seen["fetched"] if not name.startswith("file:")] == []
    assert seen["heading"] == heading
    assert seen["links"] > 20
    assert "monospace" in seen["styled"]
    assert len(seen["pictures"]) == pictures
    assert all(width > 100 for width in seen["pictures"])
    assert len(seen["formulas"]) >= formulas
    assert all(height > 5 for height in seen["formulas"])


@pytest.mark.parametrize("name", ["citation", "docstrings", "mathml"])
def test_examples_of_the_extensions(monkeypatch, name):
    monkeypatch.syspath_prepend(ROOT / "docs" / "extensions")
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
