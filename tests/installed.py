"""Builds what is released and installs it, in environments of their own; uv makes that quick."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
ALONE = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "JAX_COMPILATION_CACHE_DIR")
}
"""What commands find in their environment: nothing that leads back to this Python's packages, or to
what it compiled. It is taken before any test hides the user's caches, of which uv's is one."""


class UvError(Exception):
    """What uv said when it failed."""


class Built(NamedTuple):
    """The files of a release."""

    wheel: Path
    sdist: Path


def uv(*arguments: str | Path) -> str:
    """Runs uv; returns what it prints.

    Raises:
      UvError: if it fails.
    """
    # certificates of the machine's, as pip takes them: a proxy's may be among them
    command = [sys.executable, "-m", "uv", "--system-certs", *arguments]
    done = subprocess.run(command, env=ALONE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UvError(done.stderr.strip())
    return done.stdout.strip()


def sources() -> set[str]:
    """Names the files of the checkout, but for those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if (ROOT / name).is_file()}


def build(folder: Path) -> Built:
    """Builds the sdist, and from it the wheel.

    From a copy of the checkout: setuptools would also take what earlier builds left in it.

    Raises:
      UvError: if it cannot be built.
    """
    for name in sources():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "source" / name)
    uv("build", "--python", sys.executable, "--out-dir", folder / "dist", folder / "source")
    (wheel,) = folder.glob("dist/*.whl")
    (sdist,) = folder.glob("dist/*.tar.gz")
    return Built(wheel, sdist)


def environment(folder: Path, python: str | Path, *requirements: str | Path) -> Path:
    """Makes an environment that has what is required and no more; returns its folder of programs.

    Raises:
      UvError: if there is no such Python, or no such packages for it.
    """
    uv("venv", "--python", python, folder)
    uv("pip", "install", "--python", folder, *requirements)
    return folder / "bin"
