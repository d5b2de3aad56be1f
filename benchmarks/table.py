"""The speed tables of the documents, made from the records that they name.

    python -m benchmarks.table [--write] [--records NAME.json …]

A table stands between two comments, of which the first says which columns it has and which records
of `benchmarks/results` it is made from; where several hold a row, the last one counts. Without
`--write`, says which files do not show what their records give, and ends with status 1 if any.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Mapping, Sequence

from benchmarks import record
from benchmarks.measure import Result
from benchmarks.rows import ROWS
from benchmarks.side import ROOT

FILES = (ROOT / "README.md", ROOT / "docs" / "performance.md")
ELSEWHERE = ("scale",)
"""Rows that have tables of their own."""
OF_MEMORY = ("memory",)
"""Rows whose figure compares peaks, not seconds: these are shown in place of both sides' times."""

SHORT = ("one round, clients × examples", "ours, s", "against", "theirs, s", "result", "target")
COLUMNS = {
    "short": SHORT,
    "full": (*SHORT, "updates/s", "of product rate", "peak MB, ours / theirs", "compile, s"),
}

_TABLE = re.compile(
    r"(?P<head><!-- speed table, (?P<columns>short|full), of (?P<records>[\w.\- ]+): "
    r"made by python -m benchmarks\.table -->\n)(?P<body>.*?)(?P<foot><!-- end of it -->)",
    re.DOTALL,
)


def main(arguments: list[str]) -> int:
    """Checks the documents' tables, or writes them; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="write them into the files")
    parser.add_argument(
        "--records", nargs="+", metavar="NAME.json", help="in place of those that the files name"
    )
    given = parser.parse_args(arguments)
    unknown = [name for name in given.records or () if not (record.RESULTS / name).exists()]
    if unknown:
        print(f"error: {record.RESULTS} holds no {unknown[0]}", file=sys.stderr)
        return 2
    differing = 0
    for path in FILES:
        text = path.read_text()
        made = renewed(text, given.records)
        if made != text and given.write:
            path.write_text(made)
            print(f"written: {path.relative_to(ROOT)}")
        elif made != text:
            differing += 1
            print(f"not what the records give: {path.relative_to(ROOT)} (see --write)")
    return min(differing, 1)


def renewed(text: str, records: Sequence[str] | None = None) -> str:
    """Returns a document with its tables made anew.

    Args:
      text: the document.
      records: files of `benchmarks/results`; by default those that each table names.

    Raises:
      ValueError: if there is no table.
    """

    def make(match: re.Match[str]) -> str:
        names = records or match["records"].split()
        head = match["head"].replace(match["records"], " ".join(names))
        return head + table(rows_of(names), COLUMNS[match["columns"]]) + match["foot"]

    made, count = _TABLE.subn(make, text)
    if not count:
        raise ValueError("there is no speed table between comments")
    return made


def rows_of(records: Sequence[str]) -> dict[str, Result]:
    """Returns the table's rows, in the order in which they are measured."""
    held: dict[str, Result] = {}
    for name in records:
        held |= record.read(record.RESULTS / name)[0]
    return {name: held[name] for name in ROWS if name in held and name not in ELSEWHERE}


def table(rows: Mapping[str, Result], columns: Sequence[str]) -> str:
    """Returns rows as a table in Markdown; times are a round's, median and range over repeats."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[cells(name, row)[column] for column in columns] for name, row in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cells(name: str, row: Result) -> dict[str, str]:
    """Returns what stands in a row, by column."""
    shown = record.cells(row)
    ours, theirs = of_study(row) or (shown["ours, s"], shown["theirs, s"])
    if name in OF_MEMORY:
        ours, theirs = (f"{peak / 1e6:,.0f} MB" for peak in row.peak_bytes.values())
    return {
        **shown,
        SHORT[0]: row.title,
        "ours, s": ours,
        "theirs, s": theirs,
        "peak MB, ours / theirs": shown["peak MB"],
    }


def of_study(row: Result) -> tuple[str, str] | None:
    """Returns what a whole study takes here and there; None of a row that is of a round."""
    known = row.details
    if "seconds_of_the_study" in known:
        mine, theirs = known["seconds_of_the_study"], known["seconds_of_theirs_extrapolated"]
        sample = known["members_of_theirs"]
    elif "seconds_of_lone_runs" in known:
        mine, lone = known["seconds"], known["seconds_of_lone_runs"]
        theirs, sample = known["members"] * statistics.fmean(lone), len(lone)
    else:
        return None
    return f"{mine:,.0f}, the study", f"{theirs:,.0f}, by {sample} members"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
