"""The pool in an event loop, and under joblib."""

import asyncio
import os
import time

import pytest
from conftest import wait_for

import muster


def test_await(pool):
    async def main():
        apool = muster.AsyncPool(pool)
        assert await apool.call("multiply", 5, 3) == 15
        assert await asyncio.gather(*(apool.call("square", n) for n in range(50))) == [
            n * n for n in range(50)
        ]
        assert await apool.map("square", range(1000)) == [n * n for n in range(1000)]
        assert [r async for r in apool.imap("square", range(5))] == [0, 1, 4, 9, 16]
        assert sorted([r async for r in apool.imap_unordered("square", range(5))]) == [0, 1, 4, 9, 16]
        with pytest.raises(ValueError, match="bad"):
            await apool.call("fail", "bad")
        with pytest.raises(TimeoutError):
            await apool.call("nap", 30, timeout=0.1)
        assert len(await apool.broadcast("pid")) == 1
        assert (await apool.status())["slots"]["total"] == 2

    asyncio.run(main())


def test_a_cancelled_task_cancels_its_call(pool):
    before = pool.status()["calls"]["cancelled"]

    async def main():
        task = asyncio.create_task(muster.AsyncPool(pool).call("nap", 300))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    wait_for(lambda: pool.status()["calls"]["cancelled"] == before + 1, "the call to be cancelled")


def test_a_cancelled_map_keeps_no_thread(pool):
    async def main():
        task = asyncio.create_task(muster.AsyncPool(pool).map("nap", [300, 300]))
        wait = asyncio.to_thread(wait_for, lambda: pool.status()["calls"]["running"], "the map to run")
        await wait
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # It waits for its threads.
    start = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - start < 60
    wait_for(lambda: pool.status()["calls"]["running"] == 0, "the map to end")


def test_joblib():
    joblib = pytest.importorskip("joblib")
    import muster.joblib  # noqa: F401

    def power(x, n=2):
        return x**n, os.getpid()

    with joblib.parallel_config("muster", n_jobs=2):
        pairs = joblib.Parallel()(joblib.delayed(power)(x) for x in range(200))
        assert [value for value, _ in pairs] == [x * x for x in range(200)]
        assert os.getpid() not in {pid for _, pid in pairs}
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(lambda x: 1 / x)(x) for x in (1, 0))
        generator = joblib.Parallel(return_as="generator")(joblib.delayed(abs)(-x) for x in range(10))
        assert list(generator) == list(range(10))


def test_joblib_on_a_given_pool(private):
    joblib = pytest.importorskip("joblib")
    import muster.joblib  # noqa: F401

    with joblib.parallel_config("muster", pool=private):
        assert joblib.Parallel()(joblib.delayed(abs)(-x) for x in range(5)) == list(range(5))
