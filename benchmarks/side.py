"""One side of a comparison: a program in a process of its own that answers JSON lines."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]
_PATIENCE = 30  # seconds that a program gets to end by itself


class SideError(RuntimeError):
    """A program could not be started, or stopped before it answered."""


class Side:
    """A running program; it ends when it is left.

    Attributes:
      about: what it said of itself.
    """

    def __init__(
        self,
        command: Sequence[str],
        *arguments: str,
        environment: Mapping[str, str] | None = None,
    ):
        """Starts a program and waits for what it says of itself.

        Args:
          command: what to run, in the checkout's root.
          *arguments: its arguments.
          environment: variables that it gets besides those of this process.

        Raises:
          SideError: it does not start, ends without a word, or says something else.
        """
        self._command = " ".join([*command, *arguments])
        try:
            self._process = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            raise SideError(f"cannot run {self._command}: {error}") from error
        try:
            self.about = self._answer()
        except SideError:
            self.close()
            raise

    def ask(self, **order: Any) -> dict[str, Any]:
        """Sends one order and waits for the answer.

        Raises:
          SideError: the program stopped instead; what it had to say is on standard error.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it stopped: there will be no answer either
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Tells the program to end, and ends it if it does not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SideError(
                f"exit status {self._process.wait()} instead of an answer: {self._command}"
            )
        try:
            return json.loads(line)
        except json.JSONDecodeError:
            raise SideError(f"{line.rstrip()!r} is not an answer: {self._command}") from None

    def __enter__(self) -> "Side":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
