"""Stock workers that die, freeze, talk nonsense, come back busy, or are too many.

    pytest scripts/checks/test_lane_faults.py

Needs pyzmq and pytest, and muster and muster-broker on PATH.
"""

import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zmq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parts"))
from stock_cluster import PATIENCE_S, Cluster
from zmtp import dial


def holder_and_other(cluster: Cluster) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    """Of two workers the one that has a call, and the other."""
    busy: list[int] = []

    def has_begun() -> bool:
        busy[:] = [worker["pid"] for worker in cluster.workers() if worker["state"] == "busy"]
        return len(busy) == 1

    cluster.wait_for(has_begun)
    first, second = (process for process in cluster.processes if process is not cluster.broker)
    return (first, second) if first.pid == busy[0] else (second, first)


def test_a_killed_workers_call_moves_on_and_is_answered_once(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.worker()
    cluster.wait_for_workers(2)
    with cluster.client() as socket:
        socket.send_json({"jsonrpc": "2.0", "method": "sleep", "params": [2.0], "id": 1})
        first, second = holder_and_other(cluster)
        first.kill()
        assert socket.recv_json()["result"] == second.pid
    assert cluster.ask("broker.status")["result"]["calls"]["retried"] == 1


def test_a_frozen_workers_call_moves_on_and_its_late_reply_is_dropped(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.worker()
    cluster.wait_for_workers(2)
    with cluster.client() as socket:
        socket.send_json({"jsonrpc": "2.0", "method": "sleep", "params": [2.0], "id": 1})
        first, second = holder_and_other(cluster)
        first.send_signal(signal.SIGSTOP)
        assert socket.recv_json()["result"] == second.pid
    cluster.wait_for_workers(1)
    first.send_signal(signal.SIGCONT)
    cluster.wait_for_workers(2)
    # Its link may be up before it runs again itself, and then its first call is another's, too.
    seen: set[int] = set()

    def has_served() -> bool:
        seen.add(cluster.ask("pid")["result"])
        return len(seen) == 2

    cluster.wait_for(has_served)
    assert seen == {first.pid, second.pid}


def lose_a_call(cluster: Cluster, client: zmq.Socket[bytes], body: bytes) -> None:
    """Sends a call that a worker is killed over, with another one idle."""
    first = cluster.worker()
    cluster.wait_for_workers(1)
    client.send(body)
    cluster.wait_for(lambda: cluster.workers()[0]["state"] == "busy")
    cluster.worker()
    cluster.wait_for_workers(2)
    first.kill()
    cluster.wait_for_workers(1)


@pytest.mark.parametrize("cluster", [["--attempts", "1"]], indirect=True)
def test_with_one_attempt_a_lost_request_is_an_error(cluster: Cluster) -> None:
    with cluster.client() as client:
        lose_a_call(cluster, client, b"sleep 600")
        error = client.recv_json()["error"]
    assert error["code"] == -32002 and len(error["data"]["attempts"]) == 1


SILENT = ["--attempts", "1", "--raw-errors", "silent"]


@pytest.mark.parametrize("cluster", [SILENT], indirect=True)
def test_silent_raw_errors_say_nothing_and_json_ones_do(cluster: Cluster) -> None:
    with cluster.client() as client:
        lose_a_call(cluster, client, b"sleep 600")
        cluster.wait_for(lambda: cluster.ask("broker.status")["result"]["calls"]["lost"] == 1)
        # Whatever was sent for it has come before this, which was asked later.
        assert cluster.ask("pid")["result"]
        assert not client.poll(200)
    assert cluster.ask("nope")["error"]["code"] == -32601


def test_a_worker_that_talks_nonsense_is_not_trusted(cluster: Cluster) -> None:
    rogue = cluster.context.socket(zmq.DEALER)
    rogue.setsockopt(zmq.LINGER, 0)
    rogue.connect(f"ipc://{cluster.runtime}/default/backend")
    cluster.wait_for_workers(1)

    def spoil(make) -> bytes:
        with cluster.client() as client:
            client.send(b"Hello")
            assert rogue.poll(PATIENCE_S * 1000)
            dispatch, *_ = rogue.recv_multipart()
            rogue.send_multipart(make(dispatch))
            return client.recv()

    # For a call it does not hold, and twice: neither reaches anybody.
    def forged(dispatch: bytes) -> list[bytes]:
        rogue.send_multipart([b"x" * len(dispatch), b"", b"forged"])
        rogue.send_multipart([b"no dispatch"])
        rogue.send_multipart([dispatch, b"", b"first"])
        return [dispatch, b"", b"second"]

    assert spoil(forged) == b"first"
    # What has no dispatch id was a strike. With two more, answers without a delimiter, whose calls
    # fail, the lane is closed. It dials again.
    for _ in range(2):
        reply = json.loads(spoil(lambda dispatch: [dispatch, b"no delimiter"]))
        assert reply["error"]["code"] == -32008
    name = "lane-1"
    cluster.wait_for(lambda: all(worker["name"] != name for worker in cluster.workers()))
    totals = cluster.ask("broker.status")["result"]["calls"]
    assert totals["bad_replies"] == 2
    rogue.close()


def test_an_answer_over_the_limit_of_a_link_is_tried_twice_and_named(cluster: Cluster) -> None:
    """A frame that announces more than 512 MiB, from workers made of bytes."""
    parts = str(Path(__file__).resolve().parent.parent / "parts")
    worker = f"""
import sys
sys.path.insert(0, {parts!r})
from zmtp import dial
connection = dial(sys.argv[1], b"REP")
frames = connection.receive()
connection.stream.sendall(bytes([3]) + (2**30).to_bytes(8, "big"))
connection.receive()
"""
    for _ in range(3):
        cluster.python(worker, f"ipc://{cluster.runtime}/default/backend")
    cluster.wait_for_workers(3)
    with cluster.client() as client:
        client.send(b"Hello")
        error = client.recv_json()["error"]
    assert error["code"] == -32002
    attempts = error["data"]["attempts"]
    assert len(attempts) == 2 and all("over the limit" in attempt["ended"] for attempt in attempts)
    assert len(cluster.workers()) == 1


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_ten_thousand_that_come_and_go_leave_nothing_behind(cluster: Cluster) -> None:
    """Dials, serves one request or none, and leaves: by the thousand, through the whole broker."""
    backend = f"ipc://{cluster.runtime}/default/backend"
    descriptors = Path(f"/proc/{cluster.broker.pid}/fd")

    def come_and_go(count: int) -> None:
        waiting = []
        for _ in range(count):
            waiting.append(dial(backend, b"REP"))
            if len(waiting) == 50:
                for connection in waiting:
                    connection.close()
                waiting.clear()
                # libzmq closes sockets on a thread of its own, which may be starved; how many wait
                # for it, and their memory, is not what is measured here.
                cluster.wait_for(lambda: len(list(descriptors.iterdir())) < 100)
        cluster.wait_for(lambda: not cluster.workers())

    def settled() -> int:
        """Descriptors once libzmq has closed what was given up."""
        last = [0, 1]

        def is_settled() -> bool:
            last.append(len(list(descriptors.iterdir())))
            return last[-1] == last[-2]

        cluster.wait_for(is_settled)
        return last[-1]

    come_and_go(1000)
    files, kib = settled(), resident_kib(cluster.broker.pid)
    come_and_go(10_000)
    assert settled() <= files
    assert resident_kib(cluster.broker.pid) < kib + 4096
    cluster.worker()
    cluster.wait_for_workers(1)
    assert cluster.muster("call", "--raw", "Hello") == "World\n"


class Relay(threading.Thread):
    """A TCP relay in front of a local socket, whose connections can be cut."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.streams: list[socket.socket] = []

    def run(self) -> None:
        while True:
            near, _ = self.listener.accept()
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.path)
            self.streams += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=pair, daemon=True).start()

    @staticmethod
    def carry(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                sink.sendall(chunk)
        for stream in (source, sink):
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        for stream in self.streams:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        self.streams.clear()


def test_a_worker_that_came_back_busy_keeps_nobody_waiting(cluster: Cluster) -> None:
    program = """
import os, sys, time, zmq
socket = zmq.Context().socket(zmq.REP)
socket.connect(sys.argv[1])
while True:
    socket.recv()
    while len(sys.argv) > 3 and not os.path.exists(sys.argv[3]):
        time.sleep(0.01)
    socket.send(sys.argv[2].encode())
"""
    backend = f"{cluster.runtime}/default/backend"
    flag = cluster.folder / "finish"
    cluster.python(program, f"ipc://{backend}", "quick")
    cluster.wait_for_workers(1)
    # How long such requests take is known before the other one comes.
    assert {answer for _, answer in cluster.waits("", 1, 20)} == {b"quick"}
    relay = Relay(backend)
    relay.start()
    cluster.python(program, relay.endpoint, "slow", str(flag))
    cluster.wait_for_workers(2)
    # The slow one holds the first that it gets until the end. Nobody waits for it, not even after
    # it has lost its connection and come back as if it were idle.
    for _ in range(2):
        assert {answer for _, answer in cluster.waits("", 2, 10)} == {b"quick"}
        before = {worker["name"] for worker in cluster.workers()}
        relay.cut()
        cluster.wait_for(
            lambda: len({worker["name"] for worker in cluster.workers()} - before) == 1
            and len(cluster.workers()) == 2
        )
    assert {answer for _, answer in cluster.waits("", 2, 10)} == {b"quick"}
    flag.touch()
    # Its answers from before reach nobody, and it serves again.
    seen: set[bytes] = set()

    def both_serve() -> bool:
        seen.update(answer for _, answer in cluster.waits("", 4, 20))
        return seen == {b"quick", b"slow"}

    cluster.wait_for(both_serve)


FEW_FILES = ["bash", "-c", 'ulimit -S -n 256 && exec "$0" "$@"']


@pytest.mark.parametrize("cluster", [[FEW_FILES]], indirect=True)
def test_more_workers_than_the_usual_limits_allow(cluster: Cluster) -> None:
    """Files are limited to 256 at first, libzmq's sockets to 1,023 by default."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 8192:
        pytest.skip(f"at most {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    backend = f"ipc://{cluster.runtime}/default/backend"
    idle = [dial(backend, b"REP") for _ in range(1100)]
    cluster.wait_for(lambda: len(cluster.workers()) == 1100)
    # Whoever is idle longest comes first: each of them would have to answer before this one.
    for connection in idle:
        connection.close()
    cluster.worker()
    cluster.wait_for_workers(1)
    assert cluster.muster("call", "--raw", "Hello") == "World\n"
    assert "sockets" in cluster.log.read_text()
