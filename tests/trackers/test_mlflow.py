"""MLflow's files, read back by MLflow."""

import pytest

from fedjax_ecgr.trackers import Trackers, mlflow
from tests.trackers.runs import about, follow, measured, rows

pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _nowhere_else(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def found(folder, experiment):
    from mlflow import MlflowClient

    client = MlflowClient((folder / "mlflow").as_uri())
    number = client.get_experiment_by_name(experiment).experiment_id
    return client, client.search_runs([number])


def columns(client, run, names):
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in names
    }


def test_a_run_holds_rows_options_and_status(tmp_path):
    tables = rows(1, 2), rows(3, 90)
    follow(mlflow(), about(tmp_path), *tables)
    client, (run,) = found(tmp_path, "fedjax-ecgr")
    expected = measured(*tables)
    assert run.data.metrics.keys() == expected.keys()
    assert columns(client, run, expected) == expected
    assert run.data.params["algorithm.learning_rate"] == "0.1"
    assert run.data.params["model.hidden"] == "8,4"
    assert run.info.run_name == "one"
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "finished")


def test_members_are_an_experiment(tmp_path):
    trackers = Trackers([mlflow()])
    for name, status in (("seed=0", "finished"), ("seed=1", "diverged")):
        trackers.begin(about(tmp_path, group="st", name=name))
        trackers.rows(rows(1, 2))
        trackers.end(status)
    told = {(run.info.run_name, run.info.status) for run in found(tmp_path, "st")[1]}
    assert told == {("seed=0", "FINISHED"), ("seed=1", "FAILED")}


def test_a_run_that_goes_on_is_the_same_run(tmp_path):
    follow(mlflow(), about(tmp_path), rows(1, 2))
    follow(mlflow(), about(tmp_path), rows(3, 4))
    client, (run,) = found(tmp_path, "fedjax-ecgr")
    assert columns(client, run, ["drift"])["drift"] == measured(rows(1, 4))["drift"]


def test_another_store_is_taken_where_the_environment_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mine" / "mlflow").as_uri())
    follow(mlflow(), about(tmp_path), rows(1, 2))
    assert len(found(tmp_path / "mine", "fedjax-ecgr")[1]) == 1
