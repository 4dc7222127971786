"""Functions that the client sends: pools, executors, decorators."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time

import pytest
from conftest import METHODS, PATIENCE, Cluster, kill, wait_for

import muster


class Custom(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.a = a


def module_square(x):
    return x * x


def test_lambdas_closures_and_modules(private):
    offset = 5
    assert private.call(lambda x: x + offset, 1) == 6
    assert private.map(module_square, range(10)) == [x * x for x in range(10)]
    assert private.map(lambda x: x * x, range(100_000)) == [x * x for x in range(100_000)]
    assert private.submit(max, 3, 4).result() == 4
    assert private.submit(int, "11", base=2).result() == 3


def test_a_changed_closure_is_sent_again(private):
    cell = [1]
    assert private.call(lambda: cell[0]) == 1
    cell[0] = 2
    assert private.call(lambda: cell[0]) == 2


def test_any_pickle_makes_the_round_trip(private):
    value = {(1, 2): {3, 4}, "b": b"x" * 100_000, "c": 1 + 2j}
    assert private.call(lambda v: v, value) == value


def test_exceptions_keep_their_class(private):
    def fail(x):
        raise Custom(x, "b")

    with pytest.raises(Custom) as caught:
        private.map(fail, [1, 2])
    assert caught.value.a == 1 and caught.value.index == 0
    with pytest.raises(Custom) as caught:
        private.call(fail, 3)
    assert caught.value.a == 3 and "in fail" in caught.value.remote_traceback


def test_what_cannot_be_sent_is_named(private):
    with pytest.raises(muster.NotPicklable):
        private.call(lambda x: x, threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        private.call(threading.Lock)
    outcomes = private.map(lambda x: threading.Lock() if x else x, [0, 1], return_exceptions=True)
    assert outcomes[0] == 0 and isinstance(outcomes[1], TypeError)


def test_arrays_are_sent_as_frames_and_can_be_written_to(private):
    numpy = pytest.importorskip("numpy")
    array = numpy.random.default_rng(1).random(1 << 16)

    def double(a):
        a *= 2
        return a

    back = private.call(double, array)
    assert (back == array * 2).all()
    back[0] = 1


def test_the_multiprocessing_names(private):
    assert private.apply(pow, (2, 3)) == 8
    assert private.apply(int, ("11",), {"base": 2}) == 3
    seen = []
    result = private.apply_async(pow, (2, 4), callback=seen.append)
    assert result.get(30) == 16 and result.ready() and result.successful()
    wait_for(lambda: seen == [16], "the callback")
    errors = []
    failed = private.apply_async(int, ("x",), error_callback=errors.append)
    with pytest.raises(ValueError):
        failed.get(30)
    assert not failed.successful()
    wait_for(lambda: len(errors) == 1, "the error callback")
    assert private.map_async(abs, [-1, 2]).get(30) == [1, 2]
    assert private.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert private.starmap_async(pow, [(2, 3)]).get(30) == [8]
    assert list(private.imap(abs, [-1])) == [1]
    with pytest.raises(multiprocessing.TimeoutError):
        private.apply_async(time.sleep, (5,)).get(0.05)


def test_an_initializer_runs_once_in_each_process():
    def prepare(value):
        import builtins

        builtins.prepared = [*getattr(builtins, "prepared", []), value]

    def look(_):
        import builtins

        return builtins.prepared

    with muster.Pool(2, prepare, ("x",)) as pool:
        assert pool.map(look, range(20), 1) == [["x"]] * 20


def test_maxtasksperchild_replaces_processes():
    with muster.Pool(1, maxtasksperchild=3) as pool:
        pids = [pool.apply(os.getpid) for _ in range(9)]
    assert len(set(pids)) >= 3
    assert max(map(pids.count, pids)) <= 3
    # Replaced between calls, one after the other.
    assert pids == sorted(pids, key=pids.index)


def test_own_memory():
    def bump():
        import builtins

        builtins.bumps = getattr(builtins, "bumps", 0) + 1
        return os.getpid(), builtins.bumps

    with muster.Pool(2) as pool:
        counts: dict[int, int] = {}
        for pid, bumps in [pool.apply(bump) for _ in range(20)]:
            counts[pid] = counts.get(pid, 0) + 1
            assert bumps == counts[pid]


def test_the_executor():
    with muster.MusterExecutor(2) as executor:
        assert executor.submit(pow, 2, 5).result(30) == 32
        assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]
        assert list(executor.map(abs, range(-3, 0), timeout=30)) == [3, 2, 1]
        with pytest.raises(TimeoutError):
            list(executor.map(time.sleep, [5], timeout=0.05))
        blockers = [executor.submit(time.sleep, 30) for _ in range(4)]
        executor.shutdown(wait=False, cancel_futures=True)
        assert all(blocker.cancelled() for blocker in blockers)
        with pytest.raises(RuntimeError):
            executor.submit(pow, 1, 1)


def test_a_killed_worker_costs_a_retry():
    """What ends a ProcessPoolExecutor with BrokenProcessPool."""

    def work(x):
        time.sleep(0.02)
        return x, os.getpid()

    with muster.MusterExecutor(2) as executor:
        victim = executor.submit(os.getpid).result(30)
        futures = [executor.submit(work, x) for x in range(100)]
        kill(victim)
        results = [future.result(60) for future in futures]
    assert [x for x, _ in results] == list(range(100))
    assert len({pid for _, pid in results}) >= 2


def test_a_worker_killed_in_a_map():
    def work(x):
        time.sleep(0.005)
        return x

    with muster.Pool(2) as pool:
        victim = pool.apply(os.getpid)
        results = pool.imap(work, range(400))
        first = [next(results) for _ in range(20)]
        kill(victim)
        assert first + list(results) == list(range(400))


def test_a_private_cluster_leaves_nothing():
    with muster.Pool(1) as pool:
        cluster = pool._cluster
        assert pool.apply(abs, (-1,)) == 1
        pids = [pool.status()["pid"], cluster._keeper.pid, pool.apply(os.getpid)]
    assert not cluster.path.exists()
    wait_for(lambda: not any(map(is_alive, pids)), "the processes to end")


@pytest.mark.parametrize(
    "end", ["os._exit(0)", "os.kill(os.getpid(), 9)", "sys.exit(0)", "raise SystemError"]
)
def test_a_private_cluster_ends_with_its_program(end):
    script = (
        "import os, sys, muster; pool = muster.Pool(1)\n"
        "cluster = pool._cluster\n"
        "print(pool.status()['pid'], cluster._keeper.pid, pool.apply(os.getpid), cluster.path, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script + end], capture_output=True, text=True, timeout=60)
    *pids, path = done.stdout.split()
    assert len(pids) == 3, done.stderr
    wait_for(lambda: not any(is_alive(int(pid)) for pid in pids), "the processes to end")
    wait_for(lambda: not os.path.exists(path), "the folder to be removed")


def test_functions_of_main_work():
    script = (
        "import muster\n"
        "class Point:\n    def __init__(self, x): self.x = x\n"
        "def double(p): return Point(p.x * 2)\n"
        "with muster.Pool(1) as pool: print(pool.apply(double, (Point(4),)).x)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "8\n", done.stderr
    # Nor does the cluster say anything when it ends.
    assert done.stderr == ""


def test_without_allow_apply_the_refusal_is_clear(cluster: Cluster):
    cluster.serve()
    pool = cluster.connect(slots=2)
    with pytest.raises(muster.ApplyNotAllowed, match="--allow-apply"):
        pool.call(lambda: 1)
    with pytest.raises(muster.ApplyNotAllowed, match="--allow-apply"):
        pool.map(lambda x: x, [1])


def test_remote_and_parallel(private):
    @private.remote
    def add(x, y):
        """Add."""
        return x + y

    assert add.__doc__ == "Add." and add(1, 2).result(30) == 3
    assert private.remote(add.function, block=True)(1, 2) == 3
    assert add.map([1], chunksize=1, return_exceptions=True)[0].__class__.__name__ == "TypeError"

    @private.parallel
    def doubled(xs, factor):
        return [x * factor for x in xs]

    assert doubled(list(range(10)), 2) == [x * 2 for x in range(10)]
    assert doubled([5], factor=3) == [15]
    with pytest.raises(ValueError, match="one length"):
        doubled(1, 2)


def test_a_parallel_product_is_bit_for_bit_the_local_one(private):
    numpy = pytest.importorskip("numpy")

    @private.parallel(parts=5)
    def product(a, b):
        return a * b

    random = numpy.random.default_rng(7)
    for _ in range(10):
        a, b = random.random((64, 48)), random.random((64, 48))
        assert product(a, b).tobytes() == (a * b).tobytes()


def test_a_failed_part_is_named_and_the_others_kept(private):
    @private.parallel(parts=4)
    def checked(xs):
        if 5 in xs:
            raise ValueError("five")
        return xs

    with pytest.raises(ValueError, match="five") as caught:
        checked(list(range(8)))
    assert caught.value.index == 2
    assert caught.value.results[0] == [0, 1] and caught.value.results[3] == [6, 7]


def test_a_function_can_hold_a_pool(cluster: Cluster):
    cluster.serve("--allow-apply", slots=2)
    pool = cluster.connect(slots=2)
    assert pool.call(lambda n: pool.call("square", n), 7) == 49


def test_once_shipped_a_function_is_not_sent_again(cluster: Cluster):
    cluster.serve("--allow-apply", slots=1)
    pool = cluster.connect(slots=1)
    payload = b"x" * 2_000_000

    def measure(x):
        return len(payload) + x

    packed = pool.shipment(measure)._packed
    assert [pool.call(measure, n) for n in range(3)] == [2_000_000, 2_000_001, 2_000_002]
    assert packed.sendings == 0
    # A process that was started since asks for it.
    kill(pool.call(os.getpid))
    assert pool.call(measure, 5) == 2_000_005
    assert pool.map(measure, [1, 2]) == [2_000_001, 2_000_002]


def test_hosted_and_shipped_side_by_side(cluster: Cluster):
    cluster.serve("--allow-apply")
    pool = cluster.connect(slots=2)
    with muster.MusterExecutor(pool=pool) as executor:
        assert executor.submit("square", 4).result(30) == 16
        assert list(executor.map("square", [1, 2])) == [1, 4]
        assert executor.submit(abs, -1).result(30) == 1
    assert pool.call("square", 3) == 9
    assert METHODS.exists()


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_function_refers_to_may_change(private):
    # Of functions that refer to nothing the pickle is kept; these do.
    scope = {}
    exec("def plus(x):\n    return x + step", scope)
    scope["step"] = 1
    assert private.submit(scope["plus"], 1).result(PATIENCE) == 2
    scope["step"] = 10
    assert private.submit(scope["plus"], 1).result(PATIENCE) == 11
    steps = [1]
    assert private.submit(lambda x: x + steps[0], 1).result(PATIENCE) == 2
    plain = lambda x: len(x)  # noqa: E731
    assert private.submit(plain, "ab").result(PATIENCE) == 2
    # A global of that name comes to be.
    plain.__globals__["len"] = lambda x: 7
    try:
        assert private.submit(plain, "ab").result(PATIENCE) == 7
    finally:
        del plain.__globals__["len"]
    plain.__code__ = (lambda x: x * 2).__code__
    assert private.submit(plain, "ab").result(PATIENCE) == "abab"


def test_what_was_asked_for_again_is_cancelled_as_well():
    def nap(seconds):
        time.sleep(seconds)

    with muster.Pool(1) as pool:
        for _ in range(4):
            pool.apply(nap, (0,))
        # A new process does not know the function, and the pool no longer sends it along.
        for make, end in (
            (lambda: pool.imap(nap, [300]), lambda results: results.close()),
            (lambda: pool.submit(nap, 300), lambda future: future.cancel()),
        ):
            with pytest.raises(muster.WorkerLost):
                pool.options(attempts=1).call(os._exit, 3)
            made = make()
            sent = pool.link._ledger.waiting
            wait_for(lambda: any(entry.is_again for entry in list(sent())), "the function to be sent again")
            end(made)
            wait_for(lambda: pool.status()["calls"]["running"] == 0, "the end of it", 20)


def test_the_argument_or_item_that_cannot_be_sent_is_named(private):
    lock = threading.Lock()
    with pytest.raises(muster.NotPicklable, match=r"argument 1 cannot be sent: .*lock"):
        private.submit(pow, 1, lock)
    with pytest.raises(muster.NotPicklable, match=r"argument 'base' cannot be sent: .*lock"):
        private.submit(int, "1", base=lock)
    with pytest.raises(muster.NotPicklable, match=r"the item <unlocked _thread.lock .* cannot be sent"):
        private.map(abs, [1, lock])
    with pytest.raises(TypeError, match="3 is neither a function nor the name of a method"):
        private.submit(3)


@pytest.mark.parametrize(
    "wrong", [{"timeout": -1}, {"timeout": float("nan")}, {"attempts": 0}, {"priority": 11}, {"priority": -11}]
)
def test_options_that_mean_nothing_are_refused_at_once(private, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        private.options(**wrong)


@pytest.mark.parametrize("size", [0, -1])
def test_a_chunk_has_an_item(private, size):
    with pytest.raises(ValueError, match="chunksize"):
        private.map(abs, [1], chunksize=size)


def test_a_failed_item_is_named_below_its_traceback(private):
    with pytest.raises(ZeroDivisionError) as caught:
        private.map(lambda x: 1 / x, [1, 0, 2])
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["(item 1 of the map)"]
