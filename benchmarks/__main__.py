"""Measures the rows of the speed table and writes a record of them.

    python -m benchmarks [--rows NAME …] [--repeats N] [--quick] [--peer NAME=PYTHON …]

Both sides of a row are programs of their own and are timed in turn, in steady state; compilation
stands in its own column. Before that, both must agree on what a round does. Other projects are
installed on first use, in environments of their own. Exit status 1: a row misses its target, or
compiles for longer than it may.
"""

import argparse
import os
import sys

from rich.console import Console

from benchmarks import record
from benchmarks.disturbance import TOLERABLE
from benchmarks.measure import Bench, DifferentWorkError, Result
from benchmarks.peers import PEERS, Commands, PeerError, commands
from benchmarks.rows import ROWS
from benchmarks.side import Side, SideError


def main(arguments: list[str]) -> int:
    """Runs the rows asked for; returns the exit status."""
    given = _parser().parse_args(arguments)
    try:
        return _measure(given, commands(dict(given.peer)))
    except (DifferentWorkError, PeerError, SideError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _measure(given: argparse.Namespace, program: Commands) -> int:
    with Side(program("ours")) as here:
        environment = {**here.about, "load": os.getloadavg()[0]}
    bench = Bench(program, environment["kind"], 2 if given.quick else given.repeats, given.quick)
    results: dict[str, Result] = {}
    for index, name in enumerate(given.rows, start=1):
        _say(f"[{index}/{len(given.rows)}] {name} …")
        results[name] = done = ROWS[name](bench)
        _say(f"[{index}/{len(given.rows)}] {name}: {done.shown}, target {done.target}")
        if (done.others_share or 0) > TOLERABLE:
            _say(f"  other processes took {done.others_share:.0%} of the cores: measure it again")
    Console(width=None if sys.stdout.isatty() else 180).print(record.table(results))
    if given.quick:
        return 0
    print(f"record: {record.write(results, environment)}")
    return 0 if all(row.passed for row in results.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=ROWS,
        default=list(ROWS),
        metavar="NAME",
        help=f"which rows, of {', '.join(ROWS)}; all by default",
    )
    parser.add_argument(
        "--repeats",
        type=_repeats,
        default=9,
        help="timings a side, fewer in slow rows; 9 by default",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, 2 repeats, no record, no targets"
    )
    parser.add_argument(
        "--peer",
        nargs="+",
        type=_peer,
        default=[],
        metavar="NAME=PYTHON",
        help=f"an interpreter that has {' or '.join(PEERS)} already, instead of installing it",
    )
    return parser


def _repeats(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed, it must be at least 1")
    return int(text)


def _peer(text: str) -> tuple[str, str]:
    name, _, python = text.partition("=")
    if name not in PEERS or not python:
        raise argparse.ArgumentTypeError(
            f"{text} is not allowed, it must be NAME=PYTHON with NAME of {', '.join(PEERS)}"
        )
    return name, python


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
