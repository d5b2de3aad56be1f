"""The guides: every block of code runs, in order, page by page."""

import re
from pathlib import Path

import jax
import pytest

PAGES = sorted((Path(__file__).parents[1] / "docs" / "guide").glob("*.md"))


def blocks(page):
    """Returns (first line, code) of the page's Python blocks."""
    text = page.read_text()
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text[: match.start(1)].count("\n"), match.group(1)


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "README"], ids=lambda p: p.stem)
def test_every_block_of_a_guide_runs(page):
    # as a reader has it: JAX's own promotion of types and ranks
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        namespace = {"__name__": f"guide_{page.stem}"}
        found = list(blocks(page))
        assert len(found) >= 2
        for line, code in found:
            exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_the_guides_name_every_page():
    index = (PAGES[0].parent / "README.md").read_text()
    assert {f"({p.name})" in index for p in PAGES if p.stem != "README"} == {True}


def test_the_guide_s_algorithm_is_short_and_has_an_oracle_that_agrees(monkeypatch, x64):
    """FedAvgM as the guide writes it, held against the oracle as the guide writes it."""
    from types import ModuleType

    from tests.algorithms import test_contract as contract

    page = next(p for p in PAGES if p.stem == "algorithm")
    codes = [code for _, code in blocks(page)]
    method = next(code for code in codes if "def my_fedavgm" in code)
    lines = [line for line in method.splitlines() if line.strip()]
    assert len(lines) <= 25
    namespace, oracle = {}, {}
    exec(method, namespace)
    exec(next(code for code in codes if "def init_server(w" in code), oracle)
    module = ModuleType("tests.plain.algorithms.my_fedavgm")
    vars(module).update({name: oracle[name] for name in ("init_server", "server")})
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    monkeypatch.setitem(contract.ALGORITHMS, "my_fedavgm", namespace["my_fedavgm"])
    for regulator, placement in (("ecgr", "vmap"), ("identity", "scan")):
        contract.test_an_algorithm_is_its_plain_loop("my_fedavgm", regulator, placement)
