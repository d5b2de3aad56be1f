"""Shares of a study, for processes that need know nothing of one another.

What a share is follows from the study alone, not from what is recorded or from the machine: each
process finds its own, shares have no member in common, and together they are all.

What a member takes beside others is known where they have model, data and batch size in common: it
is proportional to the rounds, and to the passes over the data in each. Such members stand in a row,
those of one program together, and the row is cut into pieces of about equal work, to within a
member; so few programs are compiled more than once. Of members of another model, data or batch size
nothing is known, so that each such row is cut for all shares.
"""

from collections.abc import Sequence
from typing import Any

from fedjax_ecgr import check
from fedjax_ecgr.check import InputError
from fedjax_ecgr.runs.config import RunConfig
from fedjax_ecgr.sweeps.members import program_of
from fedjax_ecgr.sweeps.study import Members

Shard = tuple[int, int]
"""`(i, n)`: share i of n, 1 for the first."""


def share(asked: Members, shard: Shard) -> Members:
    """Returns one share of some members, in their order.

    Args:
      asked: all of them.
      shard: which share, of how many.

    Raises:
      InputError: if there are not so many shares, or fewer members than shares.
    """
    number, count = _checked(shard, len(asked.configs))
    names = set(_shares(asked, count)[number - 1])
    return asked._replace(configs={n: c for n, c in asked.configs.items() if n in names})


def _checked(shard: Any, members: int) -> Shard:
    if not isinstance(shard, Sequence) or isinstance(shard, str) or len(shard) != 2:
        raise InputError(f"shard: {shard!r} is not allowed, it must be (i, n), share i of n")
    number, count = shard
    check.count("shard: n", count, high=members, why="the members there are")
    check.count("shard: i", number, high=count, why="the shares there are")
    return number, count


def _shares(asked: Members, count: int) -> list[list[str]]:
    """Returns the names of each share's members; none is empty."""
    rows: dict[str, dict[str, list[str]]] = {}
    for name, config in asked.configs.items():
        programs = rows.setdefault(_comparable(config), {})
        programs.setdefault(program_of(config), []).append(name)
    works = {name: _work(config) for name, config in asked.configs.items()}
    shares: list[list[str]] = [[] for _ in range(count)]
    done = [0] * count
    for programs in rows.values():
        row = [name for names in programs.values() for name in names]
        pieces: list[list[str]] = [[] for _ in range(count)]
        for name, place in zip(row, _cut([works[n] for n in row], count), strict=True):
            pieces[place].append(name)
        # the largest piece to the share that has least so far, and to each share one
        pieces.sort(key=lambda piece: -sum(works[n] for n in piece))
        order = sorted(range(count), key=lambda i: done[i])
        for i, piece in zip(order, pieces, strict=True):
            shares[i] += piece
            done[i] += sum(works[n] for n in piece)
    return shares


def _comparable(config: RunConfig) -> str:
    """Returns what members have in common whose work is known beside one another's."""
    return repr((config.dataset, config.model, config.batch_size))


def _work(config: RunConfig) -> int:
    """Returns how many times a member passes over a thousandth of the data."""
    cohort = config.cohort_size or config.num_clients
    return max(1, 1000 * config.rounds * config.local_epochs * cohort // config.num_clients)


def _cut(works: Sequence[int], count: int) -> list[int]:
    """Returns the piece that each of a row belongs to, in order; no piece before the last is empty.

    A piece ends where it is nearest to an equal part of what is left.
    """
    places, place, held, left = [], 0, 0, sum(works)
    for number, work in enumerate(works):
        pieces = count - place
        enough = (2 * held + work) * pieces > 2 * (held + left)
        scarce = len(works) - number < pieces
        if held and pieces > 1 and (enough or scarce):
            place, held = place + 1, 0
        places.append(place)
        held, left = held + work, left - work
    return places
