"""The other side of a comparison: programs in virtual environments of their own."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from types import TracebackType
from typing import Any

ENVIRONMENTS = Path(__file__).parent.parent / ".venv-peers"
REQUIREMENTS = {"torch": ["torch==2.13.0", "numpy"]}


def python_of(peer: str) -> Path:
    """Returns the interpreter of a peer's environment, made on first use."""
    home = ENVIRONMENTS / peer
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (home / "ready").exists():
        print(f"installing {' '.join(REQUIREMENTS[peer])} for the comparison …", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([python, *install, *REQUIREMENTS[peer]], check=True)
        (home / "ready").touch()
    return python


class Peer:
    """A child process that answers each JSON line with one; stops when it is left."""

    def __init__(self, peer: str, program: Path, *arguments: str):
        self._process = subprocess.Popen(
            [python_of(peer), program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._answer()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Sends one order and waits for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer stopped with exit status {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
