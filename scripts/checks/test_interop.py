"""The programs of docs/interop.md, as they stand there, through a real broker; and a plain broker
replaced under running clients and workers.

    pytest scripts/checks/test_interop.py

Needs pyzmq, pytest, a C compiler, libzmq's headers, node and npm; muster and muster-broker on PATH.
MUSTER_TEST_NODE names a folder to keep the npm package in; without it, it is installed anew.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts/parts"))
from stock_cluster import PATIENCE_S, RRBROKER, Cluster, free_ports

NODE_PACKAGE = "zeromq@6"
REPLIES = "".join(f"Received reply {number} [World]\n" for number in range(1, 11))
LANGUAGES = ["python", "c", "node"]


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


class Programs:
    """The programs of the page, built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = (ROOT / "docs/interop.md").read_text()
        for name, program in re.findall(r"^```\w+ (\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            (folder / name).write_text(program)
        for name in ("client", "worker"):
            run("cc", "-Wall", "-Wextra", "-Werror", f"{name}.c", "-o", name, "-lzmq", cwd=folder)
        modules = Path(os.environ.get("MUSTER_TEST_NODE") or folder)
        if not (modules / "node_modules/zeromq").exists():
            modules.mkdir(parents=True, exist_ok=True)
            (modules / "package.json").write_text('{"private": true}')
            run("npm", "install", "--no-audit", "--no-fund", NODE_PACKAGE, cwd=modules)
        if modules != folder:
            (folder / "node_modules").symlink_to(modules / "node_modules")

    def command(self, language: str, name: str, endpoint: str) -> list[str]:
        file = str(self.folder / name)
        return {
            "python": [sys.executable, f"{file}.py", endpoint],
            "c": [file, endpoint],
            "node": ["node", f"{file}.mjs", endpoint],
        }[language]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    default = ["--listen", "tcp://127.0.0.1:0"]
    cluster = Cluster(tmp_path, getattr(request, "param", default))
    yield cluster
    cluster.end()


def await_all(clients: list[subprocess.Popen[str]]) -> None:
    for client in clients:
        out, _ = client.communicate(timeout=PATIENCE_S)
        assert (out, client.returncode) == (REPLIES, 0)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_serves_all(cluster: Cluster, programs: Programs, language: str) -> None:
    cluster.start(programs.command(language, "worker", cluster.bound("stock workers")))
    cluster.wait_for_workers(1)
    frontend = cluster.bound("clients")
    clients = [
        cluster.start(programs.command(other, "client", frontend), stdout=subprocess.PIPE, text=True)
        for other in LANGUAGES
    ]
    await_all(clients)
    assert cluster.workers()[0]["calls"] == 30


def test_all_at_once_share_the_work(cluster: Cluster, programs: Programs) -> None:
    backend, frontend = cluster.bound("stock workers"), cluster.bound("clients")
    for language in LANGUAGES:
        cluster.start(programs.command(language, "worker", backend))
    cluster.wait_for_workers(3)
    clients = [
        cluster.start(programs.command(other, "client", frontend), stdout=subprocess.PIPE, text=True)
        for other in LANGUAGES * 2
    ]
    await_all(clients)
    served = [worker["calls"] for worker in cluster.workers()]
    assert sum(served) == 60 and all(served), served


def test_a_json_rpc_worker_and_client_in_python(cluster: Cluster, programs: Programs) -> None:
    cluster.start(programs.command("python", "json_worker", cluster.bound("stock workers")))
    cluster.wait_for_workers(1)
    client = subprocess.run(
        programs.command("python", "json_client", cluster.bound("clients")),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert client.stdout == "{'jsonrpc': '2.0', 'result': 'ruobrah', 'id': 1}\n"
    assert cluster.ask("nope")["error"]["code"] == -32601


# Workers that say who they are: a stock REP, and a DEALER that sends back what is above the body.
REP_WORKER = """
import sys, zmq
socket = zmq.Context().socket(zmq.REP)
socket.connect(sys.argv[1])
while True:
    socket.recv()
    socket.send(sys.argv[2].encode())
"""
DEALER_WORKER = """
import sys, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.connect(sys.argv[1])
while True:
    frames = socket.recv_multipart()
    above = frames[: frames.index(b"") + 1]
    socket.send_multipart([*above, sys.argv[2].encode()])
"""
# The guide's other pattern: a REQ that announces itself.
READY_WORKER = """
import sys, zmq
socket = zmq.Context().socket(zmq.REQ)
socket.connect(sys.argv[1])
socket.send(b"READY")
socket.recv()
"""


class Asker(threading.Thread):
    """A REQ client that asks without end, and asks again when nothing comes for a second."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.answers: list[bytes] = []
        self.is_over = False

    def run(self) -> None:
        context = zmq.Context()
        socket = context.socket(zmq.REQ)
        for option in (zmq.REQ_RELAXED, zmq.REQ_CORRELATE):
            socket.setsockopt(option, 1)
        socket.connect(self.endpoint)
        while not self.is_over:
            socket.send(b'{"no": "JSON-RPC"}')
            if socket.poll(1000):
                self.answers.append(socket.recv())
        context.destroy(linger=0)


@pytest.fixture
def asker(request: pytest.FixtureRequest) -> Iterator[list[Asker]]:
    askers: list[Asker] = []
    yield askers
    for asker in askers:
        asker.is_over = True
    for asker in askers:
        asker.join()


def test_a_plain_broker_is_replaced_under_running_peers(tmp_path: Path, asker: list[Asker]) -> None:
    front, back = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    plain = subprocess.Popen([sys.executable, "-c", RRBROKER, front, back])
    cluster = None
    peers: list[subprocess.Popen[bytes]] = []
    context = zmq.Context()
    try:
        for name, program in [("rep", REP_WORKER), ("other", REP_WORKER), ("dealer", DEALER_WORKER)]:
            peers.append(subprocess.Popen([sys.executable, "-c", program, back, name]))
        names = {b"rep", b"other", b"dealer"}
        # One client without any timeout, which does not wait for anything at the moment of the change.
        strict = context.socket(zmq.REQ)
        strict.connect(front)
        strict.send(b"Hello")
        assert strict.poll(PATIENCE_S * 1000) and strict.recv() in names
        asker.extend(Asker(front) for _ in range(3))
        for one in asker:
            one.start()

        def served_since(marks: list[int]) -> bool:
            seen = [set(one.answers[mark:]) for one, mark in zip(asker, marks)]
            return all(one == names for one in seen)

        wait_for(lambda: served_since([0, 0, 0]))
        plain.terminate()
        plain.wait()
        marks = [len(one.answers) for one in asker]
        cluster = Cluster(tmp_path, ["--opaque", "--frontend", front, "--backend", back])
        cluster.wait_for(lambda: served_since(marks))
        strict.send(b"Hello")
        assert strict.poll(PATIENCE_S * 1000) and strict.recv() in names
        assert all(peer.poll() is None for peer in peers)
    finally:
        context.destroy(linger=0)
        for process in [plain, *peers]:
            process.kill()
            process.wait()
        if cluster is not None:
            cluster.end()


def wait_for(condition) -> None:
    event = threading.Event()
    for _ in range(int(PATIENCE_S * 50)):
        if condition():
            return
        event.wait(0.02)
    raise AssertionError("waited in vain")


def test_a_worker_that_announces_itself_is_refused_in_words(cluster: Cluster) -> None:
    backend = cluster.bound("stock workers")
    cluster.python(REP_WORKER, backend, "rep")
    cluster.wait_for_workers(1)
    cluster.python(READY_WORKER, backend)
    cluster.wait_for(lambda: "a stock worker is a REP socket" in cluster.log.read_text())
    with cluster.client() as client:
        client.send(b"Hello")
        assert client.recv() == b"rep"
    assert len(cluster.workers()) == 1


def test_the_service_is_well_formed(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not there")
    text = (ROOT / "docs/muster-broker.service").read_text()
    start = re.search(r"^ExecStart=(\S+) (.*)$", text, re.MULTILINE)
    assert start is not None
    # It looks for the program, which need not be where the service will have it.
    unit = tmp_path / "muster-broker.service"
    unit.write_text(text.replace(start[1], sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    # The flags are the page's own.
    assert f"muster-broker {start[2]}" in (ROOT / "docs/interop.md").read_text()
