"""Where something ran: what a record of results must say to be believed."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

import fedjax_ecgr

_COMPARED = ("fedjax_ecgr", "commit", "python", "jax", "jaxlib", "backend", "device")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")


def environment() -> dict[str, Any]:
    """Returns the time, versions, commit and hardware, as JSON takes them."""
    devices = jax.devices()
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "fedjax_ecgr": fedjax_ecgr.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "backend": jax.default_backend(),
        "device": devices[0].device_kind,
        "devices": len(devices),
    }


def changes(before: Mapping[str, Any]) -> list[str]:
    """Returns what code, versions and device are now that they were not in a recorded environment.

    Args:
      before: as `environment` returned it then.
    """
    now = environment()
    return [
        f"{name}: {before[name]} then, {now[name]} now"
        for name in _COMPARED
        if name in before and before[name] != now[name]
    ]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _commit() -> str | None:
    """Returns the commit of the checkout that the package is in, `-dirty` if it was changed."""
    root = Path(fedjax_ecgr.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # no git, or nothing committed yet
    return done.stdout.strip()
