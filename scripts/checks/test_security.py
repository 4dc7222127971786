"""Stock pyzmq programs with keys, those of docs/security.md as they stand there; and programs with a
libzmq that has no CURVE."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import zmq

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60


def program(name: str) -> str:
    """A program of the page, by the word behind its language."""
    text = (ROOT / "docs/security.md").read_text()
    found = re.search(rf"```python {name}\n(.*?)```", text, re.DOTALL)
    assert found, f"docs/security.md has no {name}"
    return found[1]


class Cluster:
    """A broker with keys in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "MUSTER_RUNTIME_DIR": str(folder / "run"),
        }
        self.children = [self.start("muster-broker", "--listen", "tcp://127.0.0.1:0", "--curve")]

    def start(self, *command: str, **more: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, env=self.environment, cwd=self.folder, text=True, stderr=subprocess.DEVNULL, **more
        )

    def muster(self, *args: str) -> str:
        command = ["muster", *args]
        done = subprocess.run(
            command, env=self.environment, cwd=self.folder, text=True, capture_output=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def python(self, name: str, file: str) -> subprocess.Popen[str]:
        """Runs a program of the page with a connection file."""
        child = self.start(sys.executable, "-c", program(name), file, stdout=subprocess.PIPE)
        self.children.append(child)
        return child

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="mt", dir="/tmp") as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.muster("wait", "--slots", "0", "--timeout", str(PATIENCE_S))
            yield cluster
        finally:
            cluster.close()


def test_the_page_s_client_and_worker_talk(cluster: Cluster) -> None:
    cluster.muster("keys", "new", "--role", "client", "--output", "anna.json", "--name", "anna")
    cluster.muster("keys", "new", "--role", "worker", "--output", "rep.json", "--name", "rep")
    cluster.python("worker", "rep.json")
    cluster.muster("wait", "--slots", "1", "--timeout", str(PATIENCE_S))
    client = cluster.python("client", "anna.json")
    said, _ = client.communicate(timeout=PATIENCE_S)
    assert said == "42\n"
    # The worker's key alone makes a lane of it, and revoking it ends that.
    cluster.muster("keys", "revoke", "rep")
    deadline = time.monotonic() + PATIENCE_S
    while cluster.muster("workers", "--json"):
        assert time.monotonic() < deadline, "the lane is still there"
        time.sleep(0.05)


def test_a_client_s_key_makes_no_worker(cluster: Cluster) -> None:
    cluster.muster("keys", "new", "--role", "client", "--output", "anna.json", "--name", "anna")
    cluster.muster("keys", "new", "--role", "worker", "--output", "rep.json", "--name", "rep")
    cluster.python("worker", "anna.json")
    # The one that may join comes after it and is the only one.
    cluster.python("worker", "rep.json")
    cluster.muster("wait", "--slots", "1", "--timeout", str(PATIENCE_S))
    workers = [json.loads(line) for line in cluster.muster("workers", "--json").splitlines()]
    assert [worker["kind"] for worker in workers] == ["lane"]


def keyed(kind: int, file: Path, door: str) -> zmq.Socket[bytes]:
    """A socket with the keys of a connection file, connected to one of the endpoints in it."""
    connection = json.loads(file.read_text())
    curve = connection["curve"]
    socket = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.rcvtimeo = PATIENCE_S * 1000
    socket.curve_serverkey = curve["server_key"].encode()
    socket.curve_publickey = curve["public_key"].encode()
    socket.curve_secretkey = curve["secret_key"].encode()
    socket.connect(connection[door])
    return socket


def test_a_released_libzmq_reads_what_ours_has_sealed_at_every_length(cluster: Cluster) -> None:
    """pyzmq has a libzmq of its own: what it seals ours opens, and the other way around. The key stream of
    a message comes in pieces of 64, 256 and 512 bytes, and then as needed."""
    cluster.muster("keys", "new", "--role", "client", "--output", "anna.json", "--name", "anna")
    cluster.muster("keys", "new", "--role", "worker", "--output", "rep.json", "--name", "rep")
    client = keyed(zmq.REQ, cluster.folder / "anna.json", "frontend")
    worker = keyed(zmq.REP, cluster.folder / "rep.json", "backend")
    cluster.muster("wait", "--slots", "1", "--timeout", str(PATIENCE_S))
    random = Random(7)
    for size in [*range(600), 4_095, 65_536, 1_000_003]:
        # A first byte that no JSON begins with: the body is opaque.
        sent, answered = (b"." * min(size, 1) + random.randbytes(max(size - 1, 0)) for _ in range(2))
        client.send(sent)
        assert worker.recv() == sent, f"{size} bytes there"
        worker.send(answered)
        assert client.recv() == answered, f"{size} bytes back"


#: A function that answers no to everything, by machine.
NO = {"x86_64": bytes.fromhex("31c0c3"), "aarch64": bytes.fromhex("00008052c0035fd6")}


def without_curve(program: str, folder: Path) -> Path:
    """A copy of the program whose `zmq_has` knows no capability, as of a libzmq built without any."""
    code = bytearray(Path(shutil.which(program) or program).read_bytes())
    assert code[:6] == b"\x7fELF\x02\x01", "a 64-bit little-endian program"
    table, (size, count) = struct.unpack_from("<Q", code, 40)[0], struct.unpack_from("<HH", code, 58)
    # Name, type, flags, address, offset, size, link, info, alignment, size of an entry.
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, table + size * number) for number in range(count)]
    symbols = next(section for section in sections if section[1] == 2)
    names = sections[symbols[6]][4]
    for at in range(symbols[4], symbols[4] + symbols[5], 24):
        name, _, _, section, address, _ = struct.unpack_from("<IBBHQQ", code, at)
        if code[names + name : names + name + 8] == b"zmq_has\0":
            _, _, _, base, offset, *_ = sections[section]
            start = offset + address - base
            no = NO[platform.machine()]
            code[start : start + len(no)] = no
            break
    else:
        pytest.fail("the program has no zmq_has")
    copy = folder / program
    copy.write_bytes(code)
    copy.chmod(0o700)
    return copy


@pytest.mark.skipif(platform.machine() not in NO, reason="written for two kinds of machines")
@pytest.mark.parametrize("args", [["--listen", "tcp://127.0.0.1:0", "--curve"], []])
def test_a_libzmq_without_curve_serves_nobody(args: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="mt", dir="/tmp") as folder:
        program = without_curve("muster-broker", Path(folder))
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "MUSTER_RUNTIME_DIR": f"{folder}/run"}
        done = subprocess.run([program, *args], env=environment, text=True, capture_output=True, timeout=PATIENCE_S)
        assert done.returncode != 0
        assert "curve" in done.stderr and "not built in" in done.stderr, done.stderr
        assert not Path(folder, "run/default/cluster.json").exists()
