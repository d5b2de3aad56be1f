"""MLflow: a run each, in files of its own, `<run>/mlflow`, or where MLFLOW_TRACKING_URI says.

Members of a sweep are an experiment under its name; other runs are in `fedjax-ecgr`. A run that
goes on is the same run there.
"""

import os
import time

from fedjax_ecgr.engine.run import Table
from fedjax_ecgr.kinds import write
from fedjax_ecgr.trackers.base import About, Tracker, Tracking, not_installed, points

EXPERIMENT = "fedjax-ecgr"
_ID = "id"  # a file, of a run on its own
_PARAMS, _METRICS = 100, 1000  # that a store takes at once
_ENDS = {"finished": "FINISHED", "interrupted": "KILLED"}


def mlflow() -> Tracker:
    """Returns runs of MLflow, in files or on a server.

    Raises:
      InputError: if mlflow-skinny (or mlflow) is not installed.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
    except ImportError:
        raise not_installed("mlflow", "mlflow-skinny") from None

    def begin(about: About) -> Tracking:
        about.folder.mkdir(parents=True, exist_ok=True)
        where = os.environ.get("MLFLOW_TRACKING_URI")
        if where is None:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # files, which MLflow asks
            where = about.folder.absolute().as_uri()
        client, name = MlflowClient(where), about.group or EXPERIMENT
        found = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if found is None else found.experiment_id
        known = about.folder / _ID
        if not about.group and known.exists():
            run = known.read_text(encoding="utf-8")
            client.update_run(run, status="RUNNING")
        else:
            run = client.create_run(experiment, run_name=about.name).info.run_id
            params = [Param(n, write(value)) for n, value in about.options.items()]
            for i in range(0, len(params), _PARAMS):
                client.log_batch(run, params=params[i : i + _PARAMS])
        if not about.group:
            known.write_text(run, encoding="utf-8")

        def rows(table: Table) -> None:
            now = int(1000 * time.time())
            metrics = [
                Metric(name, value, now, number)
                for number, values in points(table)
                for name, value in values.items()
            ]
            for i in range(0, len(metrics), _METRICS):
                client.log_batch(run, metrics=metrics[i : i + _METRICS])

        def end(status: str) -> None:
            client.set_tag(run, "status", status)
            client.set_terminated(run, _ENDS.get(status, "FAILED"))

        return Tracking(rows, end)

    return Tracker("mlflow", begin)
