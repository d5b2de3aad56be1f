"""A sweep: members that differ in seeds, numbers and data, run by one compiled program.

Members whose simulations are of one setting (`Simulation.with_data`) are a group, whatever their
seeds, their hyperparameters and who holds which examples. A group's program has a member axis:

- on a CPU each device, which is a core, runs its share of the members one after another;
- on an accelerator a device runs all of its share at once, with `jax.vmap`;
- several devices share the axis with `jax.shard_map`, and nothing is sent between them; only where
  there are more of them than members do some share the clients of a member.

A group runs in waves of members, all through the same program, so that memory does not grow with
their number.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fedjax_ecgr import check
from fedjax_ecgr.engine.groups import Member, check_members, grouped
from fedjax_ecgr.engine.waves import Outcome, Standing, compile_group, outcomes_of, run_wave


class SweepProgress(NamedTuple):
    """What a caller is told after each block of a wave.

    Attributes:
      members: the wave's members, by their numbers in the sweep.
      standing: where they stand; its states are gone when the next block begins.
      rounds: rounds that all members have done so far.
      total: rounds of all members together.
      compile_seconds: what compilation took so far.
      run_seconds: what running took so far.
    """

    members: tuple[int, ...]
    standing: Standing
    rounds: int
    total: int
    compile_seconds: float
    run_seconds: float


def run_members(
    members: Sequence[Member],
    *,
    rounds: int,
    eval_every: int = 1,
    members_at_once: int | None = None,
    num_devices: int | None = None,
    on_progress: Callable[[SweepProgress], None] | None = None,
) -> list[Outcome]:
    """Runs all members, those of one setting by one program; one that diverges stops alone.

    Args:
      members: the simulations.
      rounds: how many rounds.
      eval_every: rounds from one evaluation to the next; the last round is always evaluated.
      members_at_once: on each device; by default 1 on a CPU, else as many as there are, up to 64.
      num_devices: how many devices members are spread over; all by default.
      on_progress: called after each block of a wave.

    Returns:
      An outcome for each member, in their order.

    Raises:
      InputError: if anything is out of range; nothing is compiled then.
    """
    rounds = check.count("rounds", rounds)
    eval_every = check.count("eval_every", eval_every)
    groups = grouped(members, members_at_once=members_at_once, num_devices=num_devices)
    check_members(members, rounds)
    found: dict[int, Outcome] = {}
    done, compiling, running = 0, 0.0, 0.0
    for group in groups:
        compiled = compile_group(group, members, min(eval_every, rounds))
        compiling += compiled.seconds
        for wave in group.waves:
            began = time.perf_counter()
            for standing in run_wave(group, compiled, members, wave, rounds):
                seconds = running + time.perf_counter() - began
                if on_progress is not None:
                    so_far = done + len(wave) * standing.done
                    total = rounds * len(members)
                    told = SweepProgress(wave, standing, so_far, total, compiling, seconds)
                    on_progress(told)
            spent = time.perf_counter() - began
            done, running = done + len(wave) * rounds, running + spent
            share = spent / len(wave)
            outcomes = outcomes_of(standing, len(wave), compiled.seconds, share)
            found |= zip(wave, outcomes, strict=True)
    return [found[number] for number in range(len(members))]
