"""The command line in processes of their own that end at chosen moments.

`python -m tests.sweeps.ending FOLDER` imports once, then forks a process for each line it reads, of
JSON: `[moment, what happens then, arguments…]`. It answers each with the exit status, negative for
the signal that killed, and what was said; blocks of rounds are noted in FOLDER/blocks as they are
done. Waves are short, and saved after each block.
"""

import errno
import json
import os
import shutil
import signal
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import orbax.checkpoint as ocp
import pandas  # noqa: F401  which pyarrow would import, in each process again
import pyarrow.parquet  # noqa: F401

from fedjax_ecgr.__main__ import script
from fedjax_ecgr.engine import groups, waves
from fedjax_ecgr.runs.checkpoints import Checkpoints
from tests import quick

conduct = import_module("fedjax_ecgr.sweeps.conduct")  # which a function of its name hides


def send(number):
    return lambda *arguments: os.kill(os.getpid(), number)


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


EVENTS = {
    "kill": send(signal.SIGKILL),
    "term": send(signal.SIGTERM),
    "interrupt": send(signal.SIGINT),
    "full": full,
}


def before(owner, name, event, when=lambda *arguments: True, number=1):
    """Lets something happen before the so-manieth call of a function that is meant."""
    original, calls = getattr(owner, name), 0

    def called(*arguments, **options):
        nonlocal calls
        calls += when(*arguments)
        if calls == number and when(*arguments):
            event(*arguments)
        return original(*arguments, **options)

    setattr(owner, name, called)


def after(owner, name, event):
    original = getattr(owner, name)

    def called(*arguments, **options):
        original(*arguments, **options)
        event(*arguments)

    setattr(owner, name, called)


def replacing(name):
    """Whether a file, or a file in a folder, of a name is about to appear."""
    return lambda path, target: name in (Path(target).name, Path(target).parent.name)


def half_removed(event):
    """What happens before a checkpoint is removed: it is, in part."""

    def remove(path, *arguments):
        next(file for file in sorted(path.rglob("*")) if file.is_file()).unlink()
        event()

    def is_checkpoint(path, *arguments):
        return Path(path).parent.name == "checkpoints"

    return lambda *arguments: before(shutil, "rmtree", remove, is_checkpoint)


MOMENTS = {
    "never": lambda event: None,
    "the folder is whole": lambda event: before(Path, "rename", event),
    "compiling": lambda event: before(conduct, "compile_group", event),
    "the first block": lambda event: before(waves, "_add", event),
    "the third block": lambda event: before(waves, "_add", event, number=3),
    "saving": lambda event: after(Checkpoints, "save", event),
    "writing a checkpoint": lambda event: before(ocp.StandardCheckpointer, "save", event),
    "an older checkpoint is half gone": lambda event: half_removed(event)(),
    "a part appears": lambda event: before(Path, "replace", event, replacing("parts")),
    "a part is there": lambda event: before(Checkpoints, "drop", event),
    "checkpoints of a part are half gone": lambda event: before(
        Checkpoints, "drop", half_removed(event)
    ),
    "members.parquet": lambda event: before(Path, "replace", event, replacing("members.parquet")),
    "history.parquet": lambda event: before(Path, "replace", event, replacing("history.parquet")),
}


def run(folder, moment, event, arguments):
    """Runs the command line, and ends the process."""
    for stream in (1, 2):
        os.dup2(os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    groups._A_DEVICE = 1
    conduct.Checkpoints = partial(Checkpoints, seconds=0.0)
    run_wave = conduct.run_wave

    def noted(group, compiled, members, wave, *others):
        for standing in run_wave(group, compiled, members, wave, *others):
            with (folder / "blocks").open("a") as file:
                file.write(f"{wave[0]} {standing.done}\n")
            yield standing

    conduct.run_wave = noted
    MOMENTS[moment](EVENTS.get(event))
    sys.argv = ["fedjax-ecgr", *arguments]
    script()


def main():
    folder = Path(sys.argv[1])
    quick.use()
    for line in sys.stdin:
        moment, event, *arguments = json.loads(line)
        (folder / "said").unlink(missing_ok=True)
        process = os.fork()
        if not process:
            run(folder, moment, event, arguments)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said = (folder / "said").read_text() if (folder / "said").exists() else ""
        print(json.dumps([status, said]), flush=True)


if __name__ == "__main__":
    main()
