"""Weights & Biases: a run each, in the project that WANDB_PROJECT names, or `fedjax-ecgr`.

Members of a sweep are grouped under its name. `WANDB_MODE=offline` needs no account: what is in
`<run>/wandb` can be sent later (`wandb sync`). A run that goes on is the same run there.
"""

import os

from fedjax_ecgr.check import InputError
from fedjax_ecgr.engine.run import Table
from fedjax_ecgr.trackers.base import About, Tracker, Tracking, not_installed, points

PROJECT = "fedjax-ecgr"
_ID = "id"  # a file, of a run on its own


def wandb() -> Tracker:
    """Returns runs at Weights & Biases, or offline for it.

    Raises:
      InputError: if wandb is not installed, or nobody is logged in.
    """
    try:
        import wandb
    except ImportError:
        raise not_installed("wandb", "wandb") from None
    if wandb.setup().settings.mode == "online":
        try:
            wandb.login()
        except wandb.Error as error:
            reason = " ".join(str(error).split())
            raise InputError(f"wandb: {reason} (WANDB_MODE=offline needs no account)") from None

    def begin(about: About) -> Tracking:
        about.folder.mkdir(parents=True, exist_ok=True)
        known = about.folder / _ID
        goes_on = not about.group and known.exists()
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=about.name,
            group=about.group or None,
            config=dict(about.options),
            dir=about.folder.parent,  # in which wandb makes a folder that it calls wandb
            id=known.read_text(encoding="utf-8") if goes_on else None,
            resume="allow" if goes_on else None,
            reinit="create_new",
            settings=wandb.Settings(console="off", quiet=True, silent=bool(about.group)),
        )
        if not about.group:
            known.write_text(run.id, encoding="utf-8")

        def rows(table: Table) -> None:
            for number, values in points(table):
                run.log(values, step=number)

        def end(status: str) -> None:
            run.summary["status"] = status
            run.finish(exit_code=0 if status == "finished" else 1)

        return Tracking(rows, end)

    return Tracker("wandb", begin)
