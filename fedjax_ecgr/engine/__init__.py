"""The engine: clients' rounds laid out over the hardware, rounds compiled into runs."""

from fedjax_ecgr.engine.evaluation import Evaluation
from fedjax_ecgr.engine.memory import Memory
from fedjax_ecgr.engine.program import Simulation, simulation
from fedjax_ecgr.engine.round import RoundInfo
from fedjax_ecgr.engine.run import DivergedError, History, Progress, run, simulate
from fedjax_ecgr.engine.state import State

__all__ = [
    "DivergedError",
    "Evaluation",
    "History",
    "Memory",
    "Progress",
    "RoundInfo",
    "Simulation",
    "State",
    "run",
    "simulate",
    "simulation",
]
