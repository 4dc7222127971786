"""Calls by name, against the Python worker and `muster-worker`."""

import concurrent.futures
import pickle
import pydoc
import time

import pytest
from conftest import Cluster, wait_for

import muster


def test_positions_names_and_both(pool):
    assert pool.call("multiply", 5, 3) == 15
    assert pool.call("multiply", x=5, y=4) == 20
    assert pool.call("multiply", 5, y=7) == 35
    assert pool.call("multiply", 5) == 10


def test_a_name_given_twice_is_refused_before_it_is_sent(pool):
    with pytest.raises(TypeError, match="'x' twice"):
        pool.call("multiply", 5, x=3)


VALUES = [
    None,
    True,
    2**40,
    -1.5,
    "ü\0\ud800",
    [],
    {"a": {"b": [1, {}]}},
    {"$frame": 0},
    {"$literal": {"$base64": "x"}},
]


@pytest.mark.parametrize("value", VALUES)
def test_json_values_make_the_round_trip(pool, value):
    assert pool.call("echo", value) == value


@pytest.mark.parametrize("size", [0, 1, 70_000, 50_000_000])
def test_bytes_make_the_round_trip(pool, size):
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert pool.call("echo", content) == content
    assert pool.call("echo", {"deep": [content, 1]}) == {"deep": [content, 1]}


def test_arrays_make_the_round_trip(pool):
    numpy = pytest.importorskip("numpy")
    for array in (
        numpy.arange(12.0).reshape(3, 4),
        numpy.array([], dtype="i2"),
        numpy.arange(20).reshape(4, 5)[::2, ::-1],
        numpy.array(["2020-01-01"], dtype="M8[D]"),
        numpy.zeros(3, dtype=[("x", "<f4"), ("y", "<i8", (2,))]),
    ):
        back = pool.call("echo", array)
        assert back.dtype == array.dtype and back.shape == array.shape
        assert (back == array).all()
    assert pool.call("echo", [numpy.int64(3), numpy.float32(0.5)]) == [3, 0.5]


def test_what_json_cannot_hold_is_named(pool):
    with pytest.raises(TypeError, match="object"):
        pool.call("echo", object())
    with pytest.raises(ValueError):
        pool.call("echo", float("nan"))


def test_a_builtin_exception_comes_back_as_itself(pool):
    with pytest.raises(ValueError, match=r"^no good$") as caught:
        pool.call("fail", "no good")
    error = caught.value
    assert isinstance(error, muster.RemoteError)
    assert error.remote_type == "ValueError"
    assert "in fail" in error.remote_traceback
    assert error.worker and error.host and error.pid
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ValueError) and again.worker == error.worker


def test_another_exception_is_a_remote_error(pool):
    with pytest.raises(muster.RemoteError, match=r"^odd$") as caught:
        pool.call("fail_oddly", "odd")
    assert caught.value.remote_type.endswith("Custom")


def test_wrong_arguments_are_a_type_error(pool):
    with pytest.raises(TypeError):
        pool.call("multiply", 1, 2, 3)


def test_an_unknown_method_is_named(pool):
    with pytest.raises(muster.MethodNotFound, match="nope"):
        pool.call("nope")


def test_a_future_is_a_future(pool):
    future = pool.submit("nap", 0.05)
    assert isinstance(future, concurrent.futures.Future)
    seen = []
    future.add_done_callback(seen.append)
    assert future.result(20) == future.result()
    assert future.done() and not future.cancel()
    wait_for(lambda: seen == [future], "the callback")


def test_result_waits_no_longer_than_asked(pool):
    future = pool.submit("nap", 30)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.05)
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()


def test_cancel_ends_the_call_on_the_cluster(pool):
    before = pool.status()["calls"]["cancelled"]
    futures = [pool.submit("nap", 300) for _ in range(6)]
    # One that was not sent yet would not be cancelled there.
    wait_for(lambda: pool.status()["calls"]["running"] == 2, "two running calls")
    wait_for(lambda: pool.status()["calls"]["queued"] == 4, "four waiting calls")
    assert all(future.cancel() for future in futures)
    # At least: an earlier one may be counted late.
    wait_for(lambda: pool.status()["calls"]["cancelled"] >= before + 6, "six cancelled calls")
    # Both slots are free again, once the children that slept are replaced.
    wait_for(lambda: len({f.result(30) for f in [pool.submit("nap", 0.5) for _ in range(2)]}) == 2, "two free slots")


def test_a_timeout_frees_the_slot(pool):
    with pytest.raises(muster.DeadlineExceeded) as caught:
        pool.call("nap", 300, timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert pool.call("multiply", 2, 3, timeout=30) == 6


def test_as_completed_yields_the_quick_one_first(pool):
    # An earlier test may have ended a process.
    pool.wait_for_slots(2)
    slow, quick = pool.submit("nap", 1.0), pool.submit("nap", 0.0)
    assert list(pool.as_completed([slow, quick], 30)) == [quick, slow]


def test_the_proxy_knows_the_methods(pool):
    assert [pool.rpc.is_even(n) for n in range(4)] == [True, False, True, False]
    assert {"is_even", "multiply"} <= set(dir(pool.rpc))
    text = pydoc.plain(pydoc.render_doc(pool.rpc.is_even))
    assert "is_even(n)" in text and "Return True if n is even." in text
    assert "is_even" in pool.rpc.system.listMethods()
    assert pool.rpc.multiply(2, y=8) == 16


def test_methods_tell_their_parameters_and_flags(pool):
    methods = {method.name: method for method in pool.methods()}
    assert methods["multiply"].params == (("x", False), ("y", True))
    assert methods["multiply"].doc == "Return x times y."
    assert methods["append"].once and not methods["square"].once
    assert methods["square"].chunks and methods["square"].slots == 2


def test_broadcast_and_call_to(pool):
    ((name, pid),) = pool.broadcast("pid").items()
    assert name in [worker["name"] for worker in pool.workers()]
    assert isinstance(pool.call_to(name, "pid"), int) and pid
    with pytest.raises(muster.MethodNotFound):
        pool.call_to("nobody", "pid")
    with pytest.raises(muster.MethodNotFound):
        pool.broadcast("nope")


def test_a_notification_runs(pool, tmp_path):
    file = tmp_path / "lines"
    pool.notify("append", str(file), "x")
    wait_for(lambda: file.exists() and file.read_text() == "x\n", "the line")


def test_no_broker_is_told_at_once(tmp_path):
    started = time.monotonic()
    with pytest.raises(muster.NoBroker, match=r"cluster\.json"):
        muster.connect("t", runtime_dir=str(tmp_path))
    with pytest.raises(muster.NoBroker, match="no broker answers"):
        muster.connect(endpoint=f"ipc://{tmp_path}/nobody", timeout=0.2)
    assert time.monotonic() - started < 20
    with pytest.raises(ValueError, match="cluster name"):
        muster.connect("../x")


def test_coroutines_and_generators(cluster: Cluster):
    cluster.serve()
    pool = cluster.connect(slots=2)
    assert pool.call("later", 1) == 2
    assert pool.map("later", [1, 2]) == [2, 3]
    assert pool.call("count", 3) == [0, 1, 2]


def test_what_is_said_last_is_heard(pool):
    target = pool._target
    for _ in range(5):
        with muster.connect(target.cluster, runtime_dir=target.runtime_dir) as other:
            future = other.submit("nap", 300)
            wait_for(lambda: pool.status()["calls"]["running"], "the call to run")
            future.cancel()
        wait_for(lambda: not pool.status()["calls"]["running"], "the call to be cancelled", 8)


def test_a_closed_pool_takes_no_calls(cluster: Cluster):
    cluster.serve()
    pool = cluster.connect(slots=2)
    future = pool.submit("nap", 0.2)
    pool.close()
    with pytest.raises(ValueError, match="closed"):
        pool.submit("pid")
    pool.join()
    assert future.result(0)
    with pytest.raises(muster.Closed):
        pool.request("pid")
