"""Tries the package on every Python and JAX that it is for, and records what came of it.

    python -m tests.matrix [--python VERSION|PATH …] [--jax VERSION …] [--write]

A cell is a Python that uv finds (`uv python install 3.12` brings one), and an environment of its
own with the wheel, that JAX (`newest` is the newest for that Python), and the newest of all else.
`floors` has the oldest of everything that pyproject.toml admits instead, on the first Python. A
telling part of the source distribution's tests runs in it, against what is installed. With
`--write` the cells' rows replace those of docs/support.md. Exits with 1 if a test failed; a cell
that cannot be had is said, with the reason, and is no failure.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.installed import ALONE, ROOT, Built, UvError, build, environment, uv

PAGE = ROOT / "docs" / "support.md"
PYTHONS = ("3.11", "3.12", "3.13")
JAXES = ("floors", "0.10", "0.11", "newest")
SELECTION = (
    "tests/algorithms/test_contract.py",
    "tests/engine/test_run.py",
    "tests/test_cli.py",
    "-k",
    "not identity and not norm_clip and not adaptive_ecgr",
)
"""Every algorithm with ECGR against its plain loop, the engine, and the command line."""
TOOLS = ("pytest", "hypothesis")
SHOWN = ("jax", "flax", "optax", "numpy")

_TABLE = re.compile(
    r"(?<=<!-- support: made by python -m tests\.matrix -->\n).*?(?=<!-- end of it -->)", re.DOTALL
)
_HEAD = (
    "| Python | JAX | what it was | passed | failed | skipped | minutes | on |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
)


class Row(NamedTuple):
    """A cell, as it is recorded; where it could not be had, `what` says why and nothing passed."""

    python: str
    jax: str
    what: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    minutes: float = 0
    on: str = date.today().isoformat()

    def __str__(self) -> str:
        """Returns the row of the table."""
        return "| " + " | ".join(map(str, self)) + " |\n"


def recorded() -> list[Row]:
    """Reads the rows of docs/support.md."""
    lines = _TABLE.findall(PAGE.read_text())[0].splitlines()[2:]
    rows = (line.strip("| ").split(" | ") for line in lines)
    return [
        Row(python, jax, what, int(passed), int(failed), int(skipped), float(minutes), on)
        for python, jax, what, passed, failed, skipped, minutes, on in rows
    ]


def write(row: Row) -> None:
    """Puts a row into docs/support.md, in place of that of the same cell."""
    known = {one[:2]: one for one in [*recorded(), row]}

    def place(cell: tuple[str, str]) -> tuple[int, int]:
        return int(cell[0].partition(".")[2]), JAXES.index(cell[1])

    table = _HEAD + "".join(str(known[cell]) for cell in sorted(known, key=place))
    PAGE.write_text(_TABLE.sub(lambda _: table, PAGE.read_text()))


def requirements(jax: str) -> list[str]:
    """What a cell asks for beside the wheel."""
    if jax == "floors":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return ["--resolution=lowest-direct", *project["dependencies"]]
    return ["jax"] if jax == "newest" else [f"jax=={jax}.*"]


def cells(pythons: Sequence[str], jaxes: Sequence[str], built: Built) -> Iterator[Row]:
    """Tries every cell; yields its row as it ends."""
    for nth, asked in enumerate(pythons):
        try:
            python = uv("python", "find", "--system", asked)
        except UvError:
            if asked not in PYTHONS:
                raise
            yield from (Row(asked, jax, "no such Python here") for jax in jaxes if jax != "floors")
            continue
        for jax in jaxes:
            if jax != "floors" or nth == 0:
                yield cell(python, jax, built)


def cell(python: str, jax: str, built: Built) -> Row:
    """Tries one cell.

    Raises:
      UvError: if it cannot be had for another reason than that JAX takes other Pythons.
    """
    minor = output(python, "-c", "import sys; print('{}.{}'.format(*sys.version_info))")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            programs = environment(folder / "environment", python, built.wheel, *requirements(jax))
        except UvError as error:
            needed = re.search(r"depends on (Python[^\s,]+)", str(error))
            if needed is None:
                raise
            return Row(minor, jax, f"takes {needed[1]}")
        versions = installed(programs / "python")
        series = ".".join(versions["jax"].split(".")[:2])
        if jax == "newest" and series in JAXES:
            return Row(minor, jax, f"{versions['jax']}: see {series}")
        uv("pip", "install", "--python", folder / "environment", *TOOLS)
        started = time.monotonic()
        counted = check(programs / "python", built.sdist, folder)
        minutes = round((time.monotonic() - started) / 60, 1)
        what = ", ".join(f"{package} {version}" for package, version in versions.items())
        return Row(minor, jax, what, *counted, minutes)


def installed(python: Path) -> dict[str, str]:
    """Returns the versions that tell most about an environment."""
    code = (
        "import platform, sys; from importlib.metadata import version\n"
        "print(platform.python_version(), *map(version, sys.argv[1:]))"
    )
    return dict(zip(("Python", *SHOWN), output(python, "-c", code, *SHOWN).split(), strict=True))


def output(*command: str | Path) -> str:
    """Returns what a command prints."""
    done = subprocess.run(command, env=ALONE, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def check(python: Path, sdist: Path, folder: Path) -> tuple[int, int, int]:
    """Runs the tests; returns how many passed, failed, and were skipped.

    Says all that they printed if one failed.
    """
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.glob("fedjax_ecgr-*")
    shutil.rmtree(unpacked / "fedjax_ecgr")  # which would hide what is installed

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-m", *arguments],
            cwd=unpacked,
            env=ALONE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    report = folder / "report.xml"
    tests, cases = run("pytest", f"--junitxml={report}", *SELECTION), run("tests.reference")
    counts = Counter(line.split()[0] for line in cases.stdout.splitlines() if line.strip())
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            worst = {"failure": "FAIL", "error": "FAIL", "skipped": "skip"}
            counts[next((worst[part.tag] for part in case if part.tag in worst), "ok")] += 1
    broken = tests.returncode or cases.returncode
    if broken:
        print(tests.stdout, cases.stdout, sep="\n", file=sys.stderr)
    return counts["ok"], max(counts["FAIL"], int(bool(broken))), counts["skip"]


def main(arguments: Sequence[str]) -> int:
    """Tries the cells that are asked for; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="VERSION|PATH")
    parser.add_argument("--jax", nargs="+", default=JAXES, choices=JAXES)
    parser.add_argument("--write", action="store_true", help="into docs/support.md")
    given = parser.parse_args(arguments)
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for row in cells(given.python, given.jax, build(Path(scratch))):
                print(row, end="", flush=True)
                failed += row.failed
                if given.write:
                    write(row)
        except UvError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
