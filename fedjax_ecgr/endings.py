"""How a command ends: its exit status, and one line of what went wrong."""

import signal
import sys

from fedjax_ecgr.process import Terminated

UNWRITTEN, BAD_INPUT, DIVERGED = 1, 2, 3
ENDED_BY_SIGNAL = 128  # and the signal's number


def fail(message: str, status: int) -> int:
    """Says what went wrong, and returns the exit status."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status


def ended(by: KeyboardInterrupt, kept: str, where: str = "") -> int:
    """Says which signal ended what, and returns the exit status that tells so.

    Args:
      by: what the signal raised.
      kept: what becomes of what was done.
      where: how far it was, if that is known: " after …".
    """
    number, name = signal.SIGINT, "interrupted"
    if isinstance(by, Terminated):
        number, name = by.signal, f"ended by {by.signal.name}"
    return fail(f"{name}{where}; {kept}", ENDED_BY_SIGNAL + number)
