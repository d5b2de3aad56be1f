"""The engine: clients' rounds laid out over the hardware, rounds compiled into runs."""

from fedjax_ecgr.engine.evaluation import Evaluation
from fedjax_ecgr.engine.groups import Member
from fedjax_ecgr.engine.memory import Memory
from fedjax_ecgr.engine.program import Simulation, simulation
from fedjax_ecgr.engine.round import RoundInfo
from fedjax_ecgr.engine.run import COLUMNS, DivergedError, History, Progress, run, simulate
from fedjax_ecgr.engine.state import State
from fedjax_ecgr.engine.sweep import SweepProgress, run_members
from fedjax_ecgr.engine.waves import Outcome

__all__ = [
    "COLUMNS",
    "DivergedError",
    "Evaluation",
    "History",
    "Member",
    "Memory",
    "Outcome",
    "Progress",
    "RoundInfo",
    "Simulation",
    "State",
    "SweepProgress",
    "run",
    "run_members",
    "simulate",
    "simulation",
]
