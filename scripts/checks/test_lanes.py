"""Stock pyzmq programs through a real broker: REQ clients, and REP workers that dial in or bind.

    pytest scripts/checks/test_lanes.py

Needs pyzmq and pytest, and muster-broker on PATH.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

PATIENCE_S = 20.0

# A stock worker of a dozen lines: JSON-RPC for some methods, `World` for whatever is not JSON.
WORKER = """
import json, os, sys, time, zmq
socket = zmq.Context().socket(zmq.REP)
getattr(socket, sys.argv[1])(sys.argv[2])
while True:
    frames = socket.recv_multipart()
    if not frames[0].startswith(b"{"):
        socket.send_multipart([b"World", *frames[1:]])
        continue
    call = json.loads(frames[0])
    answer = {"jsonrpc": "2.0", "id": call["id"]}
    if call["method"] == "pid":
        answer["result"] = os.getpid()
    elif call["method"] == "sleep":
        time.sleep(call["params"][0])
        answer["result"] = os.getpid()
    elif call["method"] == "members":
        answer["result"] = sorted(call)
    else:
        answer["error"] = {"code": -32601, "message": "Method not found"}
    socket.send_json(answer)
"""


class Cluster:
    """A broker in a folder of its own, and stock workers beside it."""

    def __init__(self, folder: Path, args: list[str]) -> None:
        self.context = zmq.Context()
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        # A path that a socket address can hold, wherever pytest keeps its folders.
        self.runtime = Path(f"/tmp/ml{os.getpid()}-{time.monotonic_ns() % 10**9}")
        state = dict(os.environ, XDG_STATE_HOME=str(folder))
        command = ["muster-broker", "--runtime-dir", str(self.runtime), "--settle", "0", *args]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.broker = self.start(command, env=state, stderr=log)
        self.wait_for(lambda: (self.runtime / "default/cluster.json").exists())

    def start(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
        self.processes.append(process)
        return process

    def worker(self, verb: str = "connect", endpoint: str = "") -> subprocess.Popen[bytes]:
        endpoint = endpoint or f"ipc://{self.runtime}/default/backend"
        return self.start([sys.executable, "-c", WORKER, verb, endpoint])

    def client(self) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.REQ)
        socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"ipc://{self.runtime}/default/frontend")
        return socket

    def ask(self, method: str, params: list[object] | None = None, **members: object) -> dict:
        with self.client() as socket:
            call = {"jsonrpc": "2.0", "method": method, "params": params or [], "id": 1}
            socket.send_json(call | members)
            return socket.recv_json()

    def workers(self) -> list[dict]:
        return self.ask("broker.workers")["result"]

    def wait_for(self, condition) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def wait_for_workers(self, count: int) -> None:
        self.wait_for(lambda: len(self.workers()) == count)

    def end(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.context.destroy(linger=0)
        subprocess.run(["rm", "-rf", str(self.runtime)], check=True)


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, getattr(request, "param", []))
    yield cluster
    cluster.end()


def test_raw_bodies_pass_byte_for_byte(cluster: Cluster) -> None:
    cluster.worker()
    cluster.wait_for_workers(1)
    with cluster.client() as socket:
        socket.send(b"Hello")
        assert socket.recv_multipart() == [b"World"]
        socket.send_multipart([b"Hello", b"", b"\x00more"])
        assert socket.recv_multipart() == [b"World", b"", b"\x00more"]


def test_json_rpc_goes_to_lanes_that_nobody_described(cluster: Cluster) -> None:
    processes = [cluster.worker() for _ in range(3)]
    cluster.wait_for_workers(3)
    seen = {cluster.ask("pid")["result"] for _ in range(9)}
    assert seen == {process.pid for process in processes}
    members = cluster.ask("members", meta={"timeout_ms": 5000})["result"]
    assert members == ["id", "jsonrpc", "method", "params"]
    with cluster.client() as socket:
        socket.send_json({"jsonrpc": "2.0", "method": "pid"})
        assert socket.recv() == b""
    for _ in range(2):
        assert cluster.ask("nope")["error"]["code"] == -32601
    batch = [{"jsonrpc": "2.0", "method": "pid", "id": n} for n in range(20)]
    with cluster.client() as socket:
        socket.send_json(batch)
        assert [reply["id"] for reply in socket.recv_json()] == list(range(20))


def test_a_server_that_binds_joins_and_leaves_at_run_time(cluster: Cluster) -> None:
    endpoint = f"ipc://{cluster.runtime}/server"
    assert cluster.ask("broker.add_worker", [endpoint])["result"] is True
    assert cluster.workers() == []
    process = cluster.worker("bind", endpoint)
    cluster.wait_for_workers(1)
    worker = cluster.workers()[0]
    assert (worker["kind"], worker["name"]) == ("lane", endpoint)
    assert cluster.ask("pid")["result"] == process.pid
    assert cluster.ask("broker.remove_worker", [endpoint])["result"] is True
    cluster.wait_for_workers(0)


def test_nobody_waits_behind_a_slow_worker_while_another_is_idle(cluster: Cluster) -> None:
    for _ in range(4):
        cluster.worker()
    cluster.wait_for_workers(4)
    slow = threading.Thread(target=cluster.ask, args=("sleep", [5.0]))
    slow.start()
    cluster.wait_for(lambda: any(worker["state"] == "busy" for worker in cluster.workers()))
    longest = 0.0

    def ask_many() -> None:
        nonlocal longest
        for _ in range(50):
            start = time.monotonic()
            cluster.ask("sleep", [0.001])
            longest = max(longest, time.monotonic() - start)

    threads = [threading.Thread(target=ask_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever was queued behind the slow one would have waited for seconds.
    assert longest < 2.5
    slow.join()


def test_a_killed_workers_call_moves_on_and_is_answered_once(cluster: Cluster) -> None:
    first = cluster.worker()
    cluster.wait_for_workers(1)
    with cluster.client() as socket:
        socket.send_json({"jsonrpc": "2.0", "method": "sleep", "params": [0.5], "id": 1})
        cluster.wait_for(lambda: cluster.workers()[0]["state"] == "busy")
        second = cluster.worker()
        cluster.wait_for_workers(2)
        first.kill()
        assert socket.recv_json()["result"] == second.pid
    assert cluster.ask("broker.status")["result"]["calls"]["retried"] == 1


def test_a_frozen_workers_call_moves_on_and_its_late_reply_is_dropped(cluster: Cluster) -> None:
    first = cluster.worker()
    cluster.wait_for_workers(1)
    with cluster.client() as socket:
        socket.send_json({"jsonrpc": "2.0", "method": "sleep", "params": [0.5], "id": 1})
        cluster.wait_for(lambda: cluster.workers()[0]["state"] == "busy")
        second = cluster.worker()
        cluster.wait_for_workers(2)
        first.send_signal(signal.SIGSTOP)
        assert socket.recv_json()["result"] == second.pid
    cluster.wait_for_workers(1)
    first.send_signal(signal.SIGCONT)
    cluster.wait_for_workers(2)
    seen = {cluster.ask("pid")["result"] for _ in range(8)}
    assert seen == {first.pid, second.pid}


@pytest.mark.parametrize("cluster", [["--opaque"]], indirect=True)
def test_an_opaque_broker_reads_no_body(cluster: Cluster) -> None:
    cluster.worker()
    with cluster.client() as socket:
        socket.send(json.dumps({"method": "pid", "id": 7, "jsonrpc": "2.0"}).encode())
        assert socket.recv_json()["id"] == 7
        socket.send(b"Hello")
        assert socket.recv() == b"World"


@pytest.mark.parametrize("cluster", [["--listen", "tcp://127.0.0.1:0", "--curve"]], indirect=True)
def test_with_keys_a_stock_worker_and_client_show_theirs(cluster: Cluster) -> None:
    files = cluster.folder / "muster/default"
    roles = {name: json.loads((files / f"{name}.json").read_text()) for name in ("client", "worker")}

    def connect(kind: int, endpoint: str, role: str | None) -> zmq.Socket[bytes]:
        socket = cluster.context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        if role:
            curve = roles[role]["curve"]
            socket.curve_serverkey = curve["server_key"].encode()
            socket.curve_publickey = curve["public_key"].encode()
            socket.curve_secretkey = curve["secret_key"].encode()
        socket.connect(endpoint)
        return socket

    backend, frontend = roles["worker"]["backend"], roles["client"]["frontend"]
    refused = [connect(zmq.REP, backend, None), connect(zmq.REP, backend, "client")]
    worker = connect(zmq.REP, backend, "worker")
    cluster.wait_for_workers(1)
    client = connect(zmq.REQ, frontend, "client")
    client.send(b"Hello")
    assert worker.poll(PATIENCE_S * 1000)
    worker.send(worker.recv() + b" World")
    assert client.poll(PATIENCE_S * 1000)
    assert client.recv() == b"Hello World"
    stranger = connect(zmq.REQ, frontend, None)
    stranger.send(b"Hello")
    assert not stranger.poll(500)
    assert len(cluster.workers()) == 1
    for socket in [*refused, worker, client, stranger]:
        socket.close()


def test_events_tell_of_each_step(cluster: Cluster) -> None:
    events = cluster.context.socket(zmq.SUB)
    events.setsockopt(zmq.LINGER, 0)
    events.subscribe(b"")
    events.connect(f"ipc://{cluster.runtime}/default/events")
    cluster.worker()
    cluster.wait_for_workers(1)
    names: list[str] = []

    def heard() -> bool:
        cluster.ask("pid")
        while events.poll(0):
            name, body = events.recv_multipart()
            assert json.loads(body)["event"] == name.decode()
            names.append(name.decode())
        return "call.answered" in names

    cluster.wait_for(heard)
    assert names.index("call.dispatched") < names.index("call.answered")
    events.close()
