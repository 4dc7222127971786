"""Stock pyzmq programs with keys: those of docs/security.md, as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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
