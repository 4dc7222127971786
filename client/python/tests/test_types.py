"""What a type checker makes of a program that uses the package."""

import pytest
from conftest import ROOT

api = pytest.importorskip("mypy.api")

PROGRAM = """
import muster

def half(number: int, name: str = "") -> float:
    return number / 2

with muster.Pool(2) as pool:
    reveal_type(pool)
    reveal_type(pool.submit(half, 1, name="a").result())
    reveal_type(pool.submit("half", 1))
    reveal_type(pool.map(half, [1, 2]))
    reveal_type(pool.map(half, [1, 2], return_exceptions=True))
    reveal_type(pool.starmap(half, [(1, "a")]))
    reveal_type(pool.options(timeout=1))
    pool.submit(half, "one")
"""
TYPES = [
    "muster.facade.Pool",
    "float",
    "muster.future.Future[Any]",
    "list[float]",
    "list[Any]",
    "list[float]",
    "muster.facade.Pool",
]


def test_results_have_the_types_of_the_functions(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setenv("MYPYPATH", str(ROOT / "client/python/src"))
    found, _, status = api.run(["--strict", "--cache-dir", str(tmp_path / "cache"), str(program)])
    lines = found.splitlines()
    revealed = [line.split('"')[1] for line in lines if "Revealed type" in line]
    assert [kind.replace("builtins.", "") for kind in revealed] == TYPES, found
    assert status == 1 and sum("error:" in line for line in lines) == 1, found
    assert 'argument types "Callable[[int, str], float]", "str"' in found
