"""Sweeps: many runs described by one study, computed by few programs, recorded in one folder."""

from fedjax_ecgr.sweeps.conduct import Plan, Progress, compiled, conduct, plan
from fedjax_ecgr.sweeps.python import sweep
from fedjax_ecgr.sweeps.study import MANY, Members, Study, members_of, read, study

__all__ = [
    "MANY",
    "Members",
    "Plan",
    "Progress",
    "Study",
    "compiled",
    "conduct",
    "members_of",
    "plan",
    "read",
    "study",
    "sweep",
]
