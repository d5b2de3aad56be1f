"""The engine: clients' rounds laid out over the hardware, rounds compiled into runs."""

from fedjax_ecgr.simulation.evaluation import Evaluation
from fedjax_ecgr.simulation.memory import Memory
from fedjax_ecgr.simulation.program import Simulation, simulation
from fedjax_ecgr.simulation.round import RoundInfo, State
from fedjax_ecgr.simulation.run import DivergedError, History, Progress, run, simulate

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
