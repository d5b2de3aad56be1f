"""What is released is complete, and works where nothing else is installed."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import numpy as np
import pytest
from packaging.metadata import Metadata

import fedjax_ecgr as fx
from tests.installed import ALONE, ROOT, UvError, build, environment, sources, uv
from tests.matrix import recorded

OPTIONAL = {"dp_accounting", "mlflow", "ray", "tensorboardX", "wandb"}
"""What is imported where the user asks for it, and comes with an extra."""
IMPORT_ALL = """
import importlib, importlib.util, pkgutil, sys
import fedjax_ecgr
for found in pkgutil.walk_packages(fedjax_ecgr.__path__, "fedjax_ecgr."):
    importlib.import_module(found.name)
print(fedjax_ecgr.__file__)
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))
"""
STUDY = """
dataset = "mine.npz"
partition = "iid"
model = "logistic_regression"
num-clients = 3
rounds = 2
[grid]
regulator = ["identity", "ecgr"]
seed = [0, 1]
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: there is nothing to tell which files belong to a release")
    scratch = tmp_path_factory.mktemp("release")
    try:
        uv("pip", "install", "--dry-run", "--target", scratch, "setuptools")
    except UvError as error:
        pytest.skip(f"no package index here: {error}")
    return build(scratch)


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere():
    changes, citation = ((ROOT / name).read_text() for name in ("CHANGELOG.md", "CITATION.cff"))
    version, date = re.search(r"^## (\d\S*) \((\d{4}-\d\d-\d\d)\)$", changes, re.MULTILINE).groups()
    assert version == fx.__version__
    assert f"\nversion: {version}\n" in citation
    assert f"\ndate-released: {date}\n" in citation


def test_the_sdist_is_the_checkout(built):
    with tarfile.open(built.sdist) as archive:
        names = {file.name.partition("/")[2] for file in archive if file.isfile()}
    made = {name for name in names - sources() if ".egg-info/" not in name}
    assert sources() - names == set()
    assert made == {"PKG-INFO", "setup.cfg"}


def test_the_wheel_is_the_package_and_says_what_it_is(built):
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = archive.read(f"fedjax_ecgr-{fx.__version__}.dist-info/METADATA")
    assert names == {name for name in sources() if name.startswith("fedjax_ecgr/")}
    assert {f"fedjax_ecgr/{name}" for name in ("py.typed", "reports/page.css")} <= names
    metadata = Metadata.from_email(about, validate=True)
    assert str(metadata.version) == fx.__version__
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.description.strip() == (ROOT / "README.md").read_text().strip()


def test_the_wheel_works_where_nothing_else_is(built, tmp_path):
    programs = environment(tmp_path / "environment", sys.executable, built.wheel)
    empty = tmp_path / "empty"
    empty.mkdir()

    def output(program, *arguments):
        done = subprocess.run(
            [programs / program, *arguments],
            cwd=empty,
            env={**ALONE, "XDG_CACHE_HOME": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    file, *lacking = output("python", "-c", IMPORT_ALL, *imported(), "pytest").split()
    assert file == str(next(tmp_path.rglob("site-packages")) / "fedjax_ecgr" / "__init__.py")
    assert set(lacking) == {*OPTIONAL, "pytest"}

    assert output("fedjax-ecgr", "--version") == f"{fx.__version__}\n"
    few = ["--model", "logistic_regression", "--num-clients", "3", "--rounds", "2", "--out", "run"]
    output("fedjax-ecgr", "run", "--dataset", "digits", "--regulator", "ecgr", *few)
    assert fx.runs.load(empty / "run").summary["status"] == "finished"

    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 90), ("test", 30)):
        arrays[f"{part}_labels"] = rng.integers(3, size=count)
        arrays[f"{part}_inputs"] = rng.normal(size=(count, 4)) + arrays[f"{part}_labels"][:, None]
    np.savez(empty / "mine.npz", **arrays)
    (empty / "study.toml").write_text(STUDY)
    output("fedjax-ecgr", "sweep", "study.toml")
    assert "ecgr" in output("fedjax-ecgr", "report", "runs/study", "--out", "report")
    assert (empty / "report" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (empty / "report" / "report.html").read_text()


def imported():
    """Names what any file of the package imports from elsewhere, wherever in it."""
    names = set()
    for path in (ROOT / "fedjax_ecgr").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    return sorted(names)


def test_what_the_metadata_promises_was_seen_to_work():
    rows = recorded()
    assert all(row.failed == 0 for row in rows)
    passed = {row.python for row in rows if row.passed}
    named = re.findall(r":: Python :: (3\.\d+)", "\n".join(project()["classifiers"]))
    assert passed == set(named)
    assert project()["requires-python"] == f">={named[0]}"
    assert any(row.jax == "floors" and row.passed for row in rows)
