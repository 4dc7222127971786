"""Stock pyzmq programs through a real broker: REQ clients, and REP workers that dial in or bind.

    pytest scripts/checks/test_lanes.py

Needs pyzmq and pytest, and muster, muster-broker and muster-worker on PATH.
"""

import json
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "parts"))
from stock_cluster import PATIENCE_S, RRBROKER, Cluster, free_ports
from zmtp import Req


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


def answer_in(cluster: Cluster, frontend: str, seconds: float) -> bytes | None:
    """The answer to one request, if it comes in time."""
    with cluster.client(frontend) as client:
        client.send(b"Hello")
        return client.recv() if client.poll(seconds * 1000) else None


def test_a_plain_broker_lets_requests_wait_behind_the_slow_one_and_this_one_does_not(
    cluster: Cluster,
) -> None:
    nap_s = 5.0
    worker = """
import sys, time, zmq
socket = zmq.Context().socket(zmq.REP)
socket.connect(sys.argv[1])
while True:
    socket.recv()
    time.sleep(float(sys.argv[2]))
    socket.send(sys.argv[2].encode())
"""
    front, back = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    cluster.python(RRBROKER, front, back)
    for backend in (back, f"ipc://{cluster.runtime}/default/backend"):
        for _ in range(3):
            cluster.python(worker, backend, "0")
    # Who is there first would have all of the first requests, so the slow ones come last.
    cluster.wait_for(lambda: answer_in(cluster, front, 1.0) == b"0")
    for backend in (back, f"ipc://{cluster.runtime}/default/backend"):
        cluster.python(worker, backend, str(nap_s))
    cluster.wait_for_workers(4)
    cluster.wait_for(lambda: answer_in(cluster, front, 2 * nap_s) not in (b"0", None))
    plain: list[tuple[float, bytes]] = []
    beside = threading.Thread(target=lambda: plain.extend(cluster.waits(front, 8, 8)))
    beside.start()
    ours = cluster.waits("", 8, 400)
    beside.join()
    assert (len(plain), len(ours)) == (8, 400)
    # The plain one deals to each in turn: of eight the slow one has two, and the second waits for the
    # first, whoever is idle meanwhile.
    assert max(wait for wait, _ in plain) > 1.5 * nap_s
    # Nobody waits behind it but those it answers itself.
    assert max(wait for wait, answer in ours if answer == b"0") < nap_s / 2
    assert max(wait for wait, _ in ours) < 1.5 * nap_s


def test_servers_come_and_go_by_the_shell_and_are_listed(cluster: Cluster) -> None:
    endpoint = f"ipc://{cluster.runtime}/server"
    cluster.muster("worker", "add", f"{endpoint},methods=pid")
    assert cluster.workers() == []
    process = cluster.worker("bind", endpoint)
    cluster.wait_for_workers(1)
    assert cluster.muster("call", "pid").strip() == str(process.pid)
    # Narrowed to its method: not even a raw body, nor another method.
    assert cluster.ask("members")["error"]["code"] == -32601
    cluster.worker()
    cluster.wait_for_workers(2)
    assert cluster.muster("call", "--raw", "Hello") == "World\n"
    listed = cluster.muster("workers")
    assert endpoint in listed and listed.count("lane") >= 2 and "ready" in listed
    # It goes and comes back by itself, without a word to the broker.
    process.kill()
    cluster.wait_for_workers(1)
    cluster.worker("bind", endpoint)
    cluster.wait_for_workers(2)
    cluster.muster("worker", "remove", endpoint)
    cluster.wait_for_workers(1)


def test_a_router_that_listens_is_a_server_too(cluster: Cluster) -> None:
    endpoint = f"ipc://{cluster.runtime}/router"
    cluster.python(
        """
import sys, zmq
socket = zmq.Context().socket(zmq.ROUTER)
socket.bind(sys.argv[1])
while True:
    frames = socket.recv_multipart()
    socket.send_multipart(frames[:-1] + [frames[-1] + b" World"])
""",
        endpoint,
    )
    cluster.muster("worker", "add", endpoint)
    cluster.wait_for_workers(1)
    with cluster.client() as client:
        client.send(b"Hello")
        assert client.recv() == b"Hello World"


def test_a_worker_and_a_client_of_another_zmtp_stack(cluster: Cluster) -> None:
    """ZMTP in Python's standard library alone, without heartbeats."""
    parts = str(Path(__file__).resolve().parent.parent / "parts")
    backend, frontend = (f"ipc://{cluster.runtime}/default/{door}" for door in ("backend", "frontend"))
    worker = f"""
import sys
sys.path.insert(0, {parts!r})
from zmtp import serve_rep_at
serve_rep_at(sys.argv[1], lambda body: body[::-1])
"""
    first = cluster.python(worker, backend)
    cluster.wait_for_workers(1)
    client = Req(frontend)
    for size in (0, 5, 300, 100_000):
        body = (b"harbour" * size)[:size]
        assert client.ask(body) == [body[::-1]]
    client.close()
    # Beside a stock one: what it holds moves on when it is killed.
    cluster.worker()
    cluster.wait_for_workers(2)
    with cluster.client() as stock:
        answers = set()
        while len(answers) < 2:
            stock.send(b"olleH")
            answers.add(stock.recv())
        assert answers == {b"Hello", b"World"}
        first.kill()
        cluster.wait_for_workers(1)
        stock.send(b"olleH")
        assert stock.recv() == b"World"


def test_a_server_behind_muster_worker_is_managed(cluster: Cluster) -> None:
    server, raw = (f"ipc://{cluster.runtime}/{name}" for name in ("json", "raw"))
    cluster.worker("bind", raw)
    process = cluster.worker("bind", server)
    for name, rep in [("named", f"{server},methods=pid,sleep"), ("plain", raw)]:
        place = ["--runtime-dir", str(cluster.runtime), "--name", name]
        cluster.start(["muster-worker", *place, "--rep", rep])
    cluster.wait_for_workers(2)
    cluster.wait_for(lambda: all(worker["state"] == "ready" for worker in cluster.workers()))
    assert [worker["kind"] for worker in cluster.workers()] == ["managed", "managed"]
    assert cluster.ask("pid")["result"] == process.pid
    assert cluster.muster("call", "--raw", "Hello") == "World\n"
    # It dies over a call, which waits for it to come back.
    with cluster.client() as client:
        client.send_json({"jsonrpc": "2.0", "method": "sleep", "params": [0.5], "id": 1})
        cluster.wait_for(lambda: any(worker["state"] == "busy" for worker in cluster.workers()))
        process.kill()
        process.wait()
        successor = cluster.worker("bind", server)
        assert client.recv_json()["result"] == successor.pid
