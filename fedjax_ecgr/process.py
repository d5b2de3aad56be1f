"""Processes: which this is, whether another lives, and what signals do to it."""

import os
import platform
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes:
      signal: which one, `signal.SIGTERM` or `signal.SIGHUP`.
    """

    def __init__(self, number: int):
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)


def this_process() -> dict[str, Any]:
    """Returns what `is_alive` takes."""
    return {"host": platform.node(), "process": os.getpid()}


def is_alive(host: str, process: int) -> bool | None:
    """Returns whether a process lives; None for one of another host, of which nothing is known."""
    if host != platform.node():
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


@contextmanager
def terminable() -> Iterator[None]:
    """Makes a signal to end raise `Terminated` inside, unless the user handles it already."""
    with _handled([s for s in _ENDING if signal.getsignal(s) == signal.SIG_DFL], _terminate):
        yield


class Ending:
    """What a signal asked for, where that waits until something is at a good end."""

    def __init__(self) -> None:
        self._asked: KeyboardInterrupt | None = None

    def raise_if_asked(self) -> None:
        """Raises what the signal would have."""
        if self._asked is not None:
            raise self._asked

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self._asked is not None

    def note(self, error: KeyboardInterrupt) -> None:
        """Notes a first signal; a second one is raised at once."""
        if self._asked is not None:
            raise error
        self._asked = error


@contextmanager
def deferred() -> Iterator[Ending]:
    """Lets a first signal to end wait for `raise_if_asked`; a second one ends what is inside.

    That goes for Ctrl-C too, and for none that the user handles already.
    """
    ending = Ending()

    def note(number: int, frame: FrameType | None) -> None:
        interrupt = number == signal.SIGINT
        ending.note(KeyboardInterrupt() if interrupt else Terminated(number))

    usual = (signal.SIG_DFL, signal.default_int_handler, _terminate)
    with _handled([s for s in (signal.SIGINT, *_ENDING) if signal.getsignal(s) in usual], note):
        yield ending


@contextmanager
def undisturbed() -> Iterator[None]:
    """Lets nothing but SIGKILL end what is inside: Ctrl-C a second time, SIGTERM and SIGHUP."""
    with _handled([signal.SIGINT, *_ENDING], signal.SIG_IGN):
        yield


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


@contextmanager
def _handled(signals: list[signal.Signals], handler: Any) -> Iterator[None]:
    """Handles signals in another way; only the main thread may, and only it gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


@contextmanager
def undone() -> Iterator[None]:
    """Undoes how something inside lets signals to end be handled."""
    here = threading.current_thread() is threading.main_thread()
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, *_ENDING) if here}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)
