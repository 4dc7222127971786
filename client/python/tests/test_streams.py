"""What functions say before their answer: yielded values, progress, output; and how they are cancelled."""

import asyncio
import concurrent.futures
import itertools

import pytest
from conftest import PATIENCE, Cluster, kill, wait_for

import muster


def test_a_generator_is_streamed(pool):
    assert list(pool.stream("count", 5)) == [0, 1, 2, 3, 4]
    assert list(pool.stream("count_later", 3)) == [0, 1, 2]
    assert [len(blob) for blob in pool.stream("blobs", 3)] == [100_000] * 3
    # Without a stream it is a list.
    assert pool.call("count", 3) == [0, 1, 2] and pool.map("count", [0, 2]) == [[], [0, 1]]


def test_what_it_returns_is_the_result(pool):
    stream = pool.stream("blobs", 2)
    assert len(list(stream)) == 2
    assert stream.future.result(PATIENCE) == 2
    # A function that yields nothing has its result alone.
    plain = pool.stream("square", 4)
    assert list(plain) == [] and plain.future.result(PATIENCE) == 16


def test_values_come_while_the_function_runs(pool):
    stream = pool.stream("endless")
    assert list(itertools.islice(stream, 20)) == list(range(20))
    assert stream.future.cancelled()
    wait_for(lambda: pool.status()["calls"]["running"] == 0, "the generator to end")


def test_what_it_raises_comes_after_its_values(pool):
    stream = pool.stream("count", "x")
    with pytest.raises(TypeError, match="integer"):
        list(stream)


def test_many_values_keep_their_order(pool):
    assert list(pool.stream("count", 50_000)) == list(range(50_000))


def test_progress_and_output_reach_a_caller_that_asks(pool):
    progress, output = [], []
    listening = pool.options(
        on_progress=lambda *said: progress.append(said), on_output=lambda *said: output.append(said)
    )
    id = listening.call("steps", 3)
    assert id.startswith("c")
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert [text for stream, text in output if stream == "stdout"] == ["step 1\n", "step 2\n", "step 3\n"]
    assert [text for stream, text in output if stream == "stderr"] == ["note 1\n", "note 2\n", "note 3\n"]
    # Nobody listens to this one, and the next is heard again.
    pool.call("steps", 2)
    assert len(progress) == 3
    listening.submit("steps", 1).result(PATIENCE)
    assert progress[3:] == [(1, 1)]


def test_asyncio_streams(pool):
    async def main():
        apool = muster.AsyncPool(pool)
        return [value async for value in apool.stream("count", 1000)]

    assert asyncio.run(main()) == list(range(1000))


@pytest.mark.parametrize("kind", ["serve", "host"])
def test_a_stream_goes_on_where_its_worker_died(cluster: Cluster, kind: str, tmp_path):
    getattr(cluster, kind)()
    pool = cluster.connect(slots=2)
    assert list(pool.stream("dies_once", str(tmp_path / "died"), 10)) == list(range(10))
    stream = iter(pool.stream("endless"))
    first = [next(stream) for _ in range(10)]
    running = [slot for worker in pool.workers() for slot in worker["slot_states"] if slot["state"] == "busy"]
    kill(running[0]["pid"])
    assert first + [next(stream) for _ in range(100)] == list(range(110))
    stream.close()


@pytest.mark.parametrize("kind", ["serve", "host"])
def test_shipped_functions_stream_too(cluster: Cluster, kind: str):
    getattr(cluster, kind)("--allow-apply")
    pool = cluster.connect(slots=2)
    squares = pool.stream(lambda n: (x * x for x in range(n)), 4)
    assert list(squares) == [0, 1, 4, 9]

    def work():
        import muster

        print("at work")
        muster.progress(1, 2)
        return muster.call_id()

    progress, output = [], []
    listening = pool.options(
        on_progress=lambda *said: progress.append(said), on_output=lambda *said: output.append(said)
    )
    assert listening.submit(work).result(PATIENCE).startswith("c")
    assert (progress, output) == ([(1, 2)], [("stdout", "at work\n")])


@pytest.mark.parametrize("kind", ["serve", "host"])
def test_a_function_that_asks_ends_by_itself_when_cancelled(cluster: Cluster, kind: str, tmp_path):
    getattr(cluster, kind)(slots=1)
    pool = cluster.connect(slots=1)
    pid = pool.call("pid")
    file = tmp_path / "said"
    future = pool.submit("patient", str(file))
    wait_for(file.exists, "it to ask: a cancel before that ends its process")
    assert future.cancel()
    # The next call runs in the same process.
    assert pool.call("pid") == pid and file.read_text() == "cancelled"
    # One that asks and goes on is ended.
    deaf = tmp_path / "deaf"
    stubborn = pool.submit("stubborn", str(deaf))
    wait_for(deaf.exists, "it to ask")
    assert stubborn.cancel()
    assert pool.call("pid") != pid


def test_a_req_socket_cannot_ask_for_a_stream(cluster: Cluster):
    zmq = pytest.importorskip("zmq")
    cluster.host()
    pool = cluster.connect(slots=2)
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.rcvtimeo, socket.linger = int(PATIENCE * 1000), 0
        socket.connect(pool.status()["endpoints"]["frontend"])
        call = {"jsonrpc": "2.0", "method": "count", "params": [3], "id": 1}
        socket.send_json({**call, "meta": {"stream": True}})
        refused = socket.recv_json()["error"]
        assert refused["code"] == -32600 and "stream" in refused["data"]["reason"]
        socket.send_json(call)
        assert socket.recv_json()["result"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("limit", "max", "call"),
    [("VALUES_MAX", 100, ("count", 50_000)), ("VALUE_BYTES_MAX", 1 << 20, ("blobs", 200))],
)
def test_values_that_nobody_takes_are_kept_up_to_a_limit(pool, monkeypatch, limit, max, call):
    monkeypatch.setattr(f"muster.streaming.{limit}", max)
    stream = pool.stream(*call)
    error = stream.future.exception(PATIENCE)
    assert isinstance(error, muster.Overloaded) and error.data["max"] == max
    taken = 0
    with pytest.raises(muster.Overloaded, match="not taken as fast"):
        for _ in stream:
            taken += 1
    assert taken == (100 if limit == "VALUES_MAX" else 10)
    wait_for(lambda: pool.status()["calls"]["running"] == 0, "the generator to end")


def test_values_may_come_before_the_call_is_known(monkeypatch):
    monkeypatch.setattr("muster.streaming.VALUES_MAX", 2)
    stream, ended = muster.Stream(), []
    for value in range(5):
        stream.put(value, 1)

    class Call(concurrent.futures.Future):
        def give_up(self, error):
            ended.append(error)
            self.set_exception(error)

    stream.begin(Call())
    assert [stream.take(), stream.take()] == [0, 1]
    assert [error.data["limit"] for error in ended] == ["stream_values"]
    with pytest.raises(muster.Overloaded):
        stream.take()
