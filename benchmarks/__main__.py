"""Measures the rows of the speed table and writes a record of them.

    python -m benchmarks [--rows NAME …] [--repeats N] [--quick]

Both sides of a row are timed in turn, in steady state; compilation stands in its own column. The
peers are installed in environments of their own on first use.
"""

import argparse
import statistics
import sys
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from benchmarks.lenet import against_torch, ecgr_over_fedavg
from benchmarks.measure import Row, write

ROWS: dict[str, Callable[..., Row]] = {
    "lenet-torch": against_torch,
    "ecgr-overhead": ecgr_over_fedavg,
}


def main(arguments: list[str]) -> int:
    """Runs the rows asked for; returns 1 if one misses its target (never with --quick)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds a side")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the examples, 2 repeats, no record"
    )
    given = parser.parse_args(arguments)
    sizes = {"repeats": 2, "examples": 300} if given.quick else {"repeats": given.repeats}
    rows = [ROWS[name](**sizes) for name in given.rows]
    Console(width=120).print(_table(rows))
    if given.quick:
        return 0
    print(f"record: {write(rows)}")
    return 0 if all(row.reached for row in rows) else 1


def _table(rows: list[Row]) -> Table:
    table = Table("work", "ours, s", "against", "theirs, s", "ratio", "target", "compile, s")
    for row in rows:
        mark = "" if row.reached else " (missed)"
        cells = (_spread(row.ours), row.against, _spread(row.theirs), f"{row.ratio:.2f}×")
        table.add_row(row.name, *cells, row.target + mark, f"{row.compile_seconds:.1f}")
    return table


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
