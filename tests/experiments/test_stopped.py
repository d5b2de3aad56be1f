"""Experiments that are stopped say nothing of what they have not run."""

import pytest
import typer

from experiments import claims, digits, fashion_mnist


@pytest.mark.parametrize(
    ("experiment", "options"),
    [(claims, {"names": ["digits"]}), (digits, {}), (fashion_mnist, {})],
    ids=["claims", "digits", "fashion_mnist"],
)
def test_an_experiment_that_is_stopped_ends_there(experiment, options, tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "run_study", lambda *_: 130)
    for setting in ("use_all_cores", "keep_programs"):
        monkeypatch.setattr(experiment, setting, lambda: None)
    with pytest.raises(typer.Exit) as ended:
        experiment.main(**options, out=tmp_path / "out")
    assert ended.value.exit_code == 130
