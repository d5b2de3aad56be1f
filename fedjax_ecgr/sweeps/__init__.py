"""Sweeps: many runs described by one study, computed by few programs, recorded in one folder."""

from fedjax_ecgr.sweeps.conduct import Plan, Progress, compiled, conduct, plan, take_part
from fedjax_ecgr.sweeps.on_ray import RayProgress, conduct_on_ray
from fedjax_ecgr.sweeps.python import sweep
from fedjax_ecgr.sweeps.shares import Shard
from fedjax_ecgr.sweeps.study import (
    MANY,
    Members,
    Study,
    identity,
    members_of,
    of_configs,
    read,
    study,
)

__all__ = [
    "MANY",
    "Members",
    "Plan",
    "Progress",
    "RayProgress",
    "Shard",
    "Study",
    "compiled",
    "conduct",
    "conduct_on_ray",
    "identity",
    "members_of",
    "of_configs",
    "plan",
    "read",
    "study",
    "sweep",
    "take_part",
]
