"""A thousand members, step sizes by β by seeds, in one sweep: against other simulators' runs.

Digits' size and the digits' MLP: 10 clients of 144 examples, 64-64-10, 50 rounds a member. The
other side runs ten members, one after another in a process that is up, and is extrapolated. Ten
members of this project's own tell whether a member costs the same among few.
"""

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks import disturbance
from benchmarks.measure import (
    Bench,
    Comparison,
    Result,
    at_least,
    check_agreement,
    check_hardware,
    product_rate,
    result,
    start,
)
from benchmarks.side import Side
from benchmarks.work import Federation, Work, images

TASK = Work("digits", batch_size=32, learning_rate=0.02)  # the others have no momentum
ROUNDS = 50
ENOUGH = 3  # repeats of this side
OTHERS = 10  # members that the other side runs


def measure_pfl(bench: Bench) -> Result:
    """Measures against pfl."""
    return _measure(bench, "pfl_loop")


def measure_flower(bench: Bench) -> Result:
    """Measures against Flower's simulation engine."""
    return _measure(bench, "flower_loop")


def _measure(bench: Bench, program: str) -> Result:
    members, rounds, others = (20, 2, 2) if bench.quick else (1000, ROUNDS, OTHERS)
    task = TASK._replace(members=members, beta=0.2)
    few = task._replace(members=10)
    row = Comparison(
        title=f"{members:,} members of {rounds} rounds, MLP 64-64-10",
        task=task,
        federation=federation(),
        program=program,
        targets={"cpu": at_least(50)},
        rounds=rounds,
        other=TASK,
        agree_on=("losses",),
        agree_after=1,  # what ECGR uploads after that differs, as it should
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def started(side: str, name: str, work: Work) -> Side:
            path = folder / f"{side}.npz"
            return stack.enter_context(start(bench, name, work, row.federation, path))

        here, there = started("ours", "ours", task), started("theirs", program, TASK)
        check_hardware(here.about, there.about)
        checked = check_agreement(bench.kind, row, here, there)
        order = {"rounds": rounds, "shuffle": True, "cohorts": None}
        warm = here.ask(**order)
        there.ask(**order)
        before = disturbance.reading()
        ours = [here.ask(**order) for _ in range(min(bench.repeats, ENOUGH))]
        theirs = [there.ask(**order) for _ in range(others)]
        disturbed = disturbance.others_share(before, disturbance.reading())
        rate = product_rate(bench, here)
        some = started("few", "ours", few)
        some.ask(**order)
        alone = [some.ask(**order) for _ in range(min(bench.repeats, 9))]
        foretold = [side.ask(memory=True, **order)["bytes"] for side in (here, some)]
    mine = statistics.median(answer["seconds"] for answer in ours)
    other = statistics.median(answer["seconds"] for answer in theirs)
    figure = members * other / mine
    return result(
        bench,
        task,
        row.federation,
        title=row.title,
        against=there.about["name"],
        ours=[answer["seconds"] / rounds for answer in ours],
        theirs=[answer["seconds"] / rounds for answer in theirs],
        figure=figure,
        shown=f"{figure:.0f}×",
        target=row.targets.get(bench.kind),
        compile_seconds=warm["compile_seconds"],
        rate=rate,
        peak_bytes={"ours": ours[-1]["peak_bytes"], "theirs": theirs[-1]["peak_bytes"]},
        others_share=disturbed,
        details={
            "rounds": rounds,
            "agreement": checked,
            "against": there.about,
            "members_of_theirs": others,
            "seconds_of_the_study": mine,
            "seconds_of_theirs_extrapolated": members * other,
            "seconds_a_member": mine / members,
            "seconds_a_member_of_ten": statistics.median(
                answer["seconds"] / few.members for answer in alone
            ),
            "bytes_more_than_ten": ours[-1]["peak_bytes"] - alone[-1]["peak_bytes"],
            "bytes_more_foretold": foretold[0] - foretold[1],
        },
    )


def federation() -> Federation:
    """Returns the clients, of 144 examples each."""
    return images(10, 144, (64,))
