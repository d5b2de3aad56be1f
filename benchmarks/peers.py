"""The environments of the other sides: one each, made on first use."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.side import ROOT

ENVIRONMENTS = ROOT / ".venv-peers"
TORCH = "torch==2.13.0"

# Written last: an environment without it, or with another list in it, is made anew.
_STAMP = "installed.txt"

Version = tuple[int, int]


class PeerError(RuntimeError):
    """A peer's environment cannot be made here."""


class Peer(NamedTuple):
    """What one of the other sides needs.

    Attributes:
      requirements: what pip is told to install.
      oldest: the oldest Python it runs on.
      newest: the newest one.
      free_threaded: whether that is to be one without a global interpreter lock.
    """

    requirements: tuple[str, ...]
    oldest: Version = (3, 11)
    newest: Version = (3, 14)
    free_threaded: bool = False


PEERS: dict[str, Peer] = {
    "torch": Peer((TORCH, "numpy")),
    "pfl": Peer(("pfl==0.6.0", TORCH, "numpy"), oldest=(3, 10), newest=(3, 12)),
    "flower": Peer(("flwr[simulation]==1.41.0", TORCH, "numpy")),
    "blazefl": Peer(
        ("blazefl[contrib]==3.0.0", TORCH, "numpy"), oldest=(3, 14), free_threaded=True
    ),
}

PROGRAMS = {
    "torch_loop": "torch",
    "pfl_loop": "pfl",
    "flower_loop": "flower",
    "blazefl_loop": "blazefl",
}
"""Which peer's environment a program runs in; one that is not here runs in this one."""

Commands = Callable[[str], list[str]]


def commands(given: Mapping[str, str]) -> Commands:
    """Returns what maps a program's name to the command that runs it.

    Args:
      given: interpreters to take instead of making an environment, by peer.
    """

    def command(program: str) -> list[str]:
        peer = PROGRAMS.get(program)
        python = sys.executable if peer is None else given.get(peer) or str(environment(peer))
        # a module that does not know of free threads would turn the lock on again
        flags = ["-X", "gil=0"] if peer is not None and PEERS[peer].free_threaded else []
        return [python, *flags, "-m", f"benchmarks.programs.{program}"]

    return command


def environment(name: str, home: Path = ENVIRONMENTS) -> Path:
    """Returns the interpreter of a peer's environment, which is made if it is not there whole.

    Raises:
      PeerError: no Python here is one that the peer runs on, or it cannot be installed.
    """
    if python := installed(name, home):
        return python
    peer, folder = PEERS[name], home / name
    base, python = _python_for(name, peer), _interpreter(folder)
    print(f"installing {', '.join(peer.requirements)} into {folder} …", file=sys.stderr)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([*pip, *peer.requirements], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PeerError(f"{name}: cannot be installed: {error}") from error
    (folder / _STAMP).write_text(_wanted(peer))
    return python


def installed(name: str, home: Path = ENVIRONMENTS) -> Path | None:
    """Returns the interpreter of a peer's environment if it is there, whole and as listed."""
    stamp = home / name / _STAMP
    if stamp.exists() and stamp.read_text() == _wanted(PEERS[name]):
        return _interpreter(home / name)
    return None


def _wanted(peer: Peer) -> str:
    return "\n".join(peer.requirements) + "\n"


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _python_for(name: str, peer: Peer) -> str:
    """Returns this Python, or one on the PATH, that a peer runs on."""
    if not peer.free_threaded and peer.oldest <= sys.version_info[:2] <= peer.newest:
        return sys.executable
    suffix = "t" if peer.free_threaded else ""
    minors = range(peer.newest[1], peer.oldest[1] - 1, -1)
    for minor in minors:
        if found := shutil.which(f"python3.{minor}{suffix}"):
            return found
    oldest, newest = (".".join(map(str, version)) for version in (peer.oldest, peer.newest))
    raise PeerError(
        f"{name}: needs a {'free-threaded ' * peer.free_threaded}Python from {oldest} to {newest}, "
        f"and this is {sys.version_info[0]}.{sys.version_info[1]}: put a python{newest}{suffix} on "
        f"the PATH, or name an interpreter that has {name} with --peer {name}=PYTHON"
    )
