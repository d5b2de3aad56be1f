"""A run described, recorded and shown: the floor that touches files."""

from fedjax_ecgr.files import write
from fedjax_ecgr.runs.config import Choice, RunConfig, build, from_json, to_json
from fedjax_ecgr.runs.environment import changes, environment
from fedjax_ecgr.runs.recorded import Recorded
from fedjax_ecgr.runs.report import Group, Row, Spread, comparison, curves, group, row, table
from fedjax_ecgr.runs.store import load, record, refuse_existing, resume

__all__ = [
    "Choice",
    "Group",
    "Recorded",
    "Row",
    "RunConfig",
    "Spread",
    "build",
    "changes",
    "comparison",
    "curves",
    "environment",
    "from_json",
    "group",
    "load",
    "record",
    "refuse_existing",
    "resume",
    "row",
    "table",
    "to_json",
    "write",
]
