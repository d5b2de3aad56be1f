"""The record of a run, and the table made from it."""

import json
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.measure import Result

RESULTS = Path(__file__).parent / "results"


def write(
    results: Mapping[str, Result], environment: Mapping[str, Any], folder: Path | None = None
) -> Path:
    """Writes the raw numbers of a run to a file of its own; an older one is never overwritten.

    Args:
      results: the rows by name.
      environment: what this project's side said of itself: hardware, versions, date and commit.
      folder: where to; `RESULTS` by default.
    """
    folder = folder or RESULTS
    record = {
        "environment": {**environment, "load_at_the_end": os.getloadavg()[0]},
        "rows": {name: result._asdict() for name, result in results.items()},
    }
    stamp = environment["started"].replace(":", "").replace("+0000", "Z")
    path = folder / f"{stamp}-{environment['kind']}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("x") as file:
        json.dump(record, file, indent=2, ensure_ascii=False)
        file.write("\n")
    return path


def read(path: Path) -> tuple[dict[str, Result], dict[str, Any]]:
    """Reads what `write` wrote: the rows by name, and the environment."""
    record = json.loads(path.read_text())
    return {name: Result(**row) for name, row in record["rows"].items()}, record["environment"]


def table(results: Mapping[str, Result]) -> Table:
    """Returns the rows as a table; times are a round's, median and range over the repeats."""
    rows = {name: cells(row) for name, row in results.items()}
    columns = list(next(iter(rows.values()), {}))
    shown = Table(
        "row",
        *columns,
        caption="s: seconds a round, median (least to most). of product rate: useful operations "
        "a second over the rate of a matrix product measured in the same run. others' CPU: what "
        "other processes took of the cores meanwhile.",
    )
    for name, row in rows.items():
        shown.add_row(name, *row.values())
    return shown


def cells(row: Result) -> dict[str, str]:
    """Returns what tables say of a row, by column."""
    updates = f"{row.updates_a_second:,.{0 if row.updates_a_second >= 100 else 1}f}"
    return {
        "what": row.title,
        "ours, s": spread(row.ours),
        "against": row.against,
        "theirs, s": spread(row.theirs),
        "result": row.shown,
        "target": row.target + ("" if row.reached else " (missed)"),
        "updates/s": updates,
        "of product rate": f"{row.share:.1%}",
        "peak MB": " / ".join(
            f"{peak / 1e6:,.0f}" if peak else "—" for peak in row.peak_bytes.values()
        ),
        "compile, s": f"{row.compile_seconds:.1f}"
        + (f" (above {row.compile_limit:g})" if row.late else ""),
        "others' CPU": "—" if row.others_share is None else f"{row.others_share:.0%}",
    }


def spread(seconds: list[float]) -> str:
    """Returns the median and range, with three digits that count."""
    if not seconds:
        return "—"
    middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"
