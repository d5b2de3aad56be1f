"""Recorded tables, compared bit for bit."""

import pyarrow.parquet as pq

TIMES = ("compile_seconds", "run_seconds")


def assert_same(ours, theirs, but=TIMES):
    """Asserts that two files, or tables, hold the same columns in every bit, NaN for NaN."""
    ours, theirs = (one if hasattr(one, "schema") else pq.read_table(one) for one in (ours, theirs))
    assert ours.schema.equals(theirs.schema)
    for name in ours.column_names:
        if name not in but:
            assert repr(ours[name].to_pylist()) == repr(theirs[name].to_pylist()), name
