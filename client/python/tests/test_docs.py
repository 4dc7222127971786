"""The programs in docs/python.md run as they stand there."""

import asyncio
import re
import sys
import textwrap

import pytest
from conftest import EXAMPLES, PATIENCE, ROOT, Cluster, program

import muster

PAGE = (ROOT / "docs/python.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture
def tour(cluster: Cluster, monkeypatch) -> muster.Pool:
    """The cluster that the page talks of."""
    monkeypatch.setenv("MUSTER_RUNTIME_DIR", str(cluster.folder))
    monkeypatch.setenv("MUSTER_CLUSTER", "t")
    options = ("--name", "atlas-4711", "-n", "4", "--allow-apply", "--interpreter", sys.executable)
    cluster.spawn(program("muster-worker"), "--python", str(EXAMPLES / "methods.py"), *options)
    return cluster.connect(slots=4)


def test_every_program_of_the_page_runs(tour: muster.Pool, cluster: Cluster, capsys):
    numpy = pytest.importorskip("numpy")
    scope = {"muster": muster, "numpy": numpy}
    seen = []
    for text in PROGRAMS:
        if "async with" in text:
            body = "async def main():\n" + textwrap.indent(text, "    ") + "    return results, values\n"
            exec(body, scope)
            results, values = asyncio.run(scope["main"]())
            assert results == [n % 2 == 0 for n in range(100)] and values == [0, 1, 2]
            seen.append("asyncio")
        elif "muster.serve(" in text:
            script = cluster.folder / "served.py"
            script.write_text(text)
            cluster.spawn(sys.executable, str(script))
            tour.wait_for_slots(8, PATIENCE)
            names = [worker["name"] for worker in tour.workers() if worker["name"] != "atlas-4711"]
            assert tour.call_to(names[0], "multiply", 5, 3) == 15
            seen.append("serve")
        else:
            exec(text, scope)
            seen.append("program")
    assert seen == ["program", "program", "program", "asyncio", "serve"]
    assert scope["future"].cancelled()
    assert capsys.readouterr().out.split() == ["0", "1", "2", "3", "4"]
