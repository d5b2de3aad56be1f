"""A study in one command against a process a member, as studies are mostly run.

FedAvg, FedProx, FedNova and SCAFFOLD, each with and without ECGR, by α by seeds, on digits: the
whole command with all that it compiles, from an empty cache of programs, against lone runs of the
command line, one after another. Those are a sample, one of each method, and are given the programs
that the run before them compiled, which is kinder than most studies are.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import disturbance
from benchmarks.measure import Bench, Result, at_least, product_rate, result, start
from benchmarks.side import ROOT, SideError
from benchmarks.work import Work, images

STUDY = """
dataset = "digits"
hidden = [64]
learning-rate = 0.02
regulator.beta = 0.2
rounds = {rounds}
[grid]
algorithm = ["fedavg", "fedprox", "fednova", "scaffold"]
regulator = ["identity", "ecgr"]
alpha = {alphas}
seed = {{ first = 0, last = {last} }}
"""
METHODS = [
    (algorithm, regulator)
    for algorithm in ("fedavg", "fedprox", "fednova", "scaffold")
    for regulator in ("identity", "ecgr")
]
TASK = Work("mlp64", batch_size=32, learning_rate=0.02, momentum=0.9, beta=0.2)
EACH = 3  # lone runs of a method: the first compiles, the others are timed


def measure(bench: Bench) -> Result:
    """Measures the study of 240 members."""
    rounds, alphas, seeds = (2, [0.1], 2) if bench.quick else (50, [0.01, 0.1, 0.5], 10)
    methods = METHODS[:2] if bench.quick else METHODS
    members = len(METHODS) * len(alphas) * seeds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = folder / "study.toml"
        study.write_text(STUDY.format(rounds=rounds, alphas=alphas, last=seeds - 1))
        before = disturbance.reading()
        ours = _seconds(folder / "ours", "sweep", str(study), "--out", str(folder / "sweep"))
        theirs = []
        for algorithm, regulator in methods:
            options = ["--algorithm", algorithm, "--regulator", regulator, "--hidden", "64"]
            options += ["--learning-rate", "0.02", "--rounds", str(rounds)]
            for seed in range(EACH):
                out = str(folder / f"{algorithm}-{regulator}-{seed}")
                command = ["run", *options, "--alpha", str(alphas[0]), "--out", out]
                spent = _seconds(folder / "theirs", *command, "--seed", str(seed))
                theirs += [spent] if seed else []
        disturbed = disturbance.others_share(before, disturbance.reading())
        federation = images(10, 144, (64,))
        with start(bench, "ours", TASK, federation, folder / "task.npz") as here:
            rate = product_rate(bench, here)
    extrapolated = members * statistics.mean(theirs)
    target = at_least(10)
    return result(
        bench,
        TASK._replace(members=members),
        federation,
        title=f"{members} members of {rounds} rounds on digits, 8 programs, the whole command",
        against="a process a member, programs kept",
        ours=[ours / rounds],
        theirs=[extrapolated / rounds],
        figure=extrapolated / ours,
        shown=f"{extrapolated / ours:.1f}×",
        target=target if bench.kind == "cpu" else None,
        compile_seconds=0.0,  # it is in the seconds
        rate=rate,
        peak_bytes={},
        others_share=disturbed,
        details={"seconds": ours, "seconds_of_lone_runs": theirs, "members": members},
    )


def _seconds(cache: Path, *command: str) -> float:
    """Returns what a command takes that finds and leaves its programs in `cache`."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "fedjax_ecgr", *command],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SideError(f"exit status {done.returncode}: {done.stderr.strip()}")
    return time.perf_counter() - began
