"""A broker in a folder of its own, with stock programs around it: for the checks that use pyzmq.

Needs pyzmq, and muster-broker on PATH.
"""

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import zmq

PATIENCE_S = 60.0

# A stock worker of a dozen lines: JSON-RPC for some methods, `World` for whatever is not JSON, after
# a while if that is asked for.
WORKER = """
import json, os, sys, time, zmq
socket = zmq.Context().socket(zmq.REP)
getattr(socket, sys.argv[1])(sys.argv[2])
while True:
    frames = socket.recv_multipart()
    if not frames[0].startswith(b"{"):
        if frames[0].startswith(b"sleep "):
            time.sleep(float(frames[0][6:]))
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


# The broker of the ZeroMQ guide, between two endpoints.
RRBROKER = """
import sys, zmq
context = zmq.Context()
frontend, backend = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
frontend.bind(sys.argv[1])
backend.bind(sys.argv[2])
zmq.proxy(frontend, backend)
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, below those that the system picks: a peer that dials a free port of the
    system's own range again and again may meet itself there."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


class Cluster:
    """A broker in a folder of its own, and stock workers beside it."""

    def __init__(self, folder: Path, args: list, /) -> None:
        args = list(args)
        self.context = zmq.Context()
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        # A path that a socket address can hold, wherever pytest keeps its folders.
        self.runtime = Path(f"/tmp/ml{os.getpid()}-{time.monotonic_ns() % 10**9}")
        state = dict(os.environ, XDG_STATE_HOME=str(folder))
        # Words of a command that starts the broker may come first.
        wrapper = args.pop(0) if args and isinstance(args[0], list) else []
        command = [*wrapper, "muster-broker", "--runtime-dir", str(self.runtime), "--settle", "0", *args]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.broker = self.start(command, env=state, stderr=log)
        try:
            self.wait_for(lambda: (self.runtime / "default/cluster.json").exists())
        except BaseException:
            self.end()
            raise

    def start(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
        self.processes.append(process)
        return process

    def worker(self, verb: str = "connect", endpoint: str = "") -> subprocess.Popen[bytes]:
        endpoint = endpoint or f"ipc://{self.runtime}/default/backend"
        return self.start([sys.executable, "-c", WORKER, verb, endpoint])

    def python(self, program: str, *args: str) -> subprocess.Popen[bytes]:
        return self.start([sys.executable, "-c", program, *args])

    def muster(self, *args: str) -> str:
        """What the command prints; it must end with 0."""
        env = dict(os.environ, MUSTER_RUNTIME_DIR=str(self.runtime), XDG_CONFIG_HOME=str(self.folder))
        done = subprocess.run(
            ["muster", *args], env=env, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def client(self, endpoint: str = "") -> zmq.Socket[bytes]:
        client = self.context.socket(zmq.REQ)
        client.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        client.setsockopt(zmq.LINGER, 0)
        client.connect(endpoint or f"ipc://{self.runtime}/default/frontend")
        return client

    def ask(self, method: str, params: list[object] | None = None, **members: object) -> dict:
        with self.client() as client:
            call = {"jsonrpc": "2.0", "method": method, "params": params or [], "id": 1}
            client.send_json(call | members)
            return client.recv_json()

    def waits(self, frontend: str, clients: int, count: int) -> list[tuple[float, bytes]]:
        """How long each of so many requests waited, and who answered. The clients share them, so that
        one that is kept waiting has fewer."""
        found: list[tuple[float, bytes]] = []
        left = iter(range(count))

        def ask() -> None:
            with self.client(frontend) as client:
                for _ in left:
                    start = time.monotonic()
                    client.send(b"Hello")
                    answer = client.recv()
                    found.append((time.monotonic() - start, answer))

        threads = [threading.Thread(target=ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def bound(self, who: str) -> str:
        """The TCP address of a door, as the broker's log has it: `clients` or `stock workers`."""
        found = None

        def is_said() -> bool:
            nonlocal found
            found = re.search(rf"{who} at (tcp://\S+)", self.log.read_text())
            return found is not None

        self.wait_for(is_said)
        return found[1]

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
