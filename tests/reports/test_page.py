"""The page: complete in itself, and alive in a real browser where there is one."""

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from fedjax_ecgr.reports import scores, study
from fedjax_ecgr.reports.curves import curve
from fedjax_ecgr.reports.page import page
from tests.reports.studies import grid, member, results

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)"
)
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=3000", "--window-size=1200,900", "--dump-dom",
]  # fmt: skip
# what the page's own script does wrong is seen too
BEFORE = "<script>const wrong = []; window.onerror = text => { wrong.push(text); };</script>"
AFTER = """<script>
const seen = {};
%s
seen.wrong = wrong;
const pre = document.createElement("pre");
pre.id = "seen";
pre.textContent = JSON.stringify(seen);
document.body.append(pre);
</script>"""
CLICKS = """
const table = document.querySelector("table");
const rows = () => [...table.tBodies[0].rows].map(row => [...row.cells].map(c => c.textContent));
const click = name => {
  const heading = [...table.tHead.rows[0].cells].find(c => c.textContent.startsWith(name));
  heading.querySelector("button").click();
  return [heading.getAttribute("aria-sort"), rows()];
};
seen.first = rows();
seen.up = click("final accuracy");
seen.down = click("final accuracy");
seen.difference = click("difference");
seen.method = click("method");
"""
POINTER = """
const figures = [...document.querySelectorAll("figure")];
const move = (figure, share) => {
  const svg = figure.querySelector("svg.plot"), box = svg.getBoundingClientRect();
  const where = { clientX: box.left + share * box.width, clientY: box.top + 30, bubbles: true };
  svg.dispatchEvent(new PointerEvent("pointermove", where));
  const told = figure.querySelector(".told"), place = told.getBoundingClientRect();
  return {
    round: told.firstChild.textContent,
    rows: [...told.querySelectorAll("tr")].map(r => [...r.cells].slice(1).map(c => c.textContent)),
    shown: !told.hidden, left: place.left, right: place.right,
    dots: [...svg.querySelectorAll(".dot")].map(d => d.getBoundingClientRect().x),
    cursor: getComputedStyle(svg.querySelector(".cursor")).visibility,
  };
};
seen.hidden = figures.every(figure => figure.querySelector(".told").hidden);
seen.start = move(figures[0], 0);
seen.middle = move(figures[1], 0.5);
seen.end = move(figures[1], 1);
seen.width = document.documentElement.clientWidth;
const svg = figures[1].querySelector("svg.plot");
const key = name => svg.dispatchEvent(new KeyboardEvent("keydown", { key: name }));
key("ArrowLeft");
seen.left = figures[1].querySelector(".told").firstChild.textContent;
svg.dispatchEvent(new PointerEvent("pointerleave"));
seen.after = figures[1].querySelector(".told").hidden;
"""
COLOURS = """
seen.dark = matchMedia("(prefers-color-scheme: dark)").matches;
const style = getComputedStyle(document.body);
seen.back = style.backgroundColor;
seen.text = [...document.querySelectorAll("h1, td, .note, th button, figcaption")].map(
  element => getComputedStyle(element).color);
seen.lines = [...document.querySelectorAll(".mean")].map(e => getComputedStyle(e).stroke);
seen.fetched = performance.getEntriesByType("resource").length;
"""


def made(broken=((0.2, 1.0, 3),)):
    return study(grid(broken=set(broken)))


def seen(tmp_path, text, script, *flags):
    """Returns what a script saw in a page that Chromium shows."""
    text = text.replace("<body>", f"<body>{BEFORE}").replace("</body>", f"{AFTER % script}</body>")
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    command = [CHROMIUM, *QUIET, *flags, f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, (tmp_path / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (found,) = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    found = json.loads(unescape(found))
    assert found["wrong"] == []
    return found


class Tags(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes = [], []

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += [(tag, *attribute) for attribute in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing():
    text = page(made(), scores(0.6), "a study")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not {name for _, name, _ in tags.attributes} & {"src", "href", "srcset", "onclick"}
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttpRequest|<link|<iframe", text)
    assert "Content-Security-Policy\" content=\"default-src 'none'" in text


def test_what_a_label_holds_is_text():
    nasty = '</script><script>alert(1)</script>"&<img src=x>'
    runs = [member(regulator=name, seed=s) for name in ("identity", nasty) for s in range(2)]
    text = page(study(results(["regulator", "seed"], runs)), scores(), nasty)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert text.count("<script") == 2
    assert "<img" not in text


def test_a_study_without_a_finished_run_has_a_page_too():
    nothing = results(["seed"], [member("running", [np.nan], seed=s) for s in range(2)])
    text = page(study(nothing), scores(), "nothing yet")
    assert "0 of 2" in text
    tags = Tags()
    tags.feed(text)
    assert tags.open == []


@needs_chromium
def test_a_click_sorts(tmp_path):
    found = seen(tmp_path, page(made(), scores(0.6), "a study"), CLICKS)
    first = found["first"]
    assert len(first) == 6
    by_accuracy = sorted(first, key=lambda row: float(row[3].split()[0]))
    assert found["up"] == ["ascending", by_accuracy]
    assert found["down"] == ["descending", by_accuracy[::-1]]
    order, rows = found["difference"]
    assert order == "ascending"
    given = [float(row[4].split()[0]) for row in rows if row[4]]
    assert given == sorted(given)
    assert [bool(row[4]) for row in rows] == [True] * 4 + [False] * 2  # what has none is last
    assert [row[1] for row in found["method"][1]] == sorted(row[1] for row in first)


@needs_chromium
def test_the_pointer_says_every_method_s_accuracy(tmp_path):
    shown = made()
    found = seen(tmp_path, page(shown, scores(), "a study"), POINTER)
    assert found["hidden"]
    for name, setting, number in (("start", 0, 1), ("end", 1, 20)):
        told = found[name]
        assert told["shown"]
        assert told["cursor"] == "visible"
        assert told["round"] == f"round {number}"
        curves = {m.label: curve(shown.cells[i, setting]) for i, m in enumerate(shown.methods)}
        expected = [
            [
                label,
                f"{100 * c.mean[number - 1]:.2f} "
                f"[{100 * c.low[number - 1]:.2f}, {100 * c.high[number - 1]:.2f}]",
            ]
            for label, c in sorted(curves.items(), key=lambda item: -item[1].mean[number - 1])
        ]
        assert told["rows"] == expected
        assert told["left"] >= 0
        assert told["right"] <= found["width"]
    assert found["middle"]["round"] in ("round 9", "round 10", "round 11")
    assert found["start"]["dots"][0] < found["middle"]["dots"][0] < found["end"]["dots"][0]
    assert found["left"] == "round 19"
    assert found["after"]


def luminance(colour):
    """Relative luminance of `rgb(r, g, b)`, as WCAG 2 defines it."""
    shares = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_readable_in_light_and_in_dark(tmp_path, dark):
    """By WCAG 2: text at 4.5 to 1, lines at 2 to 1 (they differ in more than colour)."""
    text = page(study(grid(betas=(None, *np.arange(1, 7) / 10))), scores(), "a study")
    flags = ["--force-dark-mode"] if dark else []
    found = seen(tmp_path, text, COLOURS, *flags)
    assert found["dark"] is dark
    assert found["fetched"] == 0
    assert len(set(found["lines"])) == 7
    assert min(contrast(colour, found["back"]) for colour in found["text"]) >= 4.5
    assert min(contrast(colour, found["back"]) for colour in found["lines"]) >= 2
