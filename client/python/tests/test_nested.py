"""Functions that call the pool they run in, all of whose slots are busy."""

import os

import pytest
from conftest import PATIENCE, Cluster, kill, wait_for

import muster

WORKERS = ["serve", "host"]


def start(cluster: Cluster, kind: str, slots: int) -> muster.Pool:
    getattr(cluster, kind)(slots=slots)
    return cluster.connect(slots=slots)


@pytest.mark.parametrize("kind", WORKERS)
def test_a_pool_that_waits_for_itself_does_not_stand_still(cluster: Cluster, kind: str):
    pool = start(cluster, kind, 2)
    outer = [pool.submit("nested_square", n) for n in range(20)]
    assert [call.result(PATIENCE) for call in outer] == [n * n for n in range(20)]
    assert pool.call("nested_map", 10, timeout=PATIENCE) == sum(n * n for n in range(10))
    assert pool.map("nested_await", range(4)) == [0, 1, 4, 9]
    # What was opened for them goes with them.
    wait_for(lambda: pool.status()["slots"]["total"] == 2, "the nested slots to close")


@pytest.mark.parametrize("kind", WORKERS)
def test_recursion_on_one_slot(cluster: Cluster, kind: str):
    pool = start(cluster, kind, 1)
    assert pool.call("fibonacci", 4, timeout=PATIENCE) == 3
    assert pool.call("descend", 4, timeout=PATIENCE) == 4


@pytest.mark.parametrize("kind", WORKERS)
def test_the_caps_are_named(cluster: Cluster, kind: str):
    # One slot opens four more: the fifth inner call has none.
    pool = start(cluster, kind, 1)
    with pytest.raises(muster.Overloaded, match="nested_slots reached its limit of 4"):
        pool.call("descend", 6, timeout=PATIENCE)
    getattr(cluster, kind)(slots=3)

    def are_there():
        slots = pool.status()["slots"]
        # Those that were opened for the first call are gone.
        return len(pool.workers()) == 2 and slots["total"] == slots["ready"] == 4

    wait_for(are_there, "both workers with their own slots")
    with pytest.raises(muster.Overloaded, match="nested_depth reached its limit of 8"):
        pool.call("descend", 9, timeout=PATIENCE)
    assert pool.call("descend", 8, timeout=PATIENCE) == 8


@pytest.mark.parametrize("kind", WORKERS)
def test_kill_9_of_an_outer_call(cluster: Cluster, kind: str, tmp_path):
    pool = start(cluster, kind, 1)
    path = tmp_path / "pid"
    outer = pool.submit("nested_die", str(path))
    wait_for(lambda: path.exists() and path.read_text(), "the outer call to run")
    kill(int(path.read_text()))
    assert outer.result(PATIENCE) == "survived"
    wait_for(lambda: pool.status()["slots"]["total"] == 1, "the nested slots to close")


def test_shipped_functions_call_the_pool_too():
    def outer(x):
        import muster

        return muster.connect().call(inner, x) + 1

    def inner(x):
        return x * 10, os.getpid()

    with muster.Pool(1) as pool:
        with pytest.raises(TypeError, match="concatenate"):
            pool.call(outer, 4)
        assert pool.call(lambda x: pool.call(inner, x)[0] + 1, 4) == 41
