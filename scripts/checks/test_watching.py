"""What the broker and the gateway tell of a real cluster, beside the pages that describe it.

Events beside docs/protocol.md, metrics beside docs/gateway.md and `muster status --json`. The metrics
are read by Prometheus' own parser for Python, and by promtool where it is installed.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import zmq
from prometheus_client.parser import text_string_to_metric_families

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parts"))
from private_cluster import ROOT, PrivateCluster

DEADLINE = 30


@pytest.fixture
def cluster():
    # Room for one waiting call of a client: the second is more than the cap.
    with PrivateCluster("--attempts", "2", "--queued-calls-max", "1") as cluster:
        yield cluster


def wait_for(what, check):
    deadline = time.monotonic() + DEADLINE
    while not (found := check()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return found


# --- Events --------------------------------------------------------------------------------------


def documented_events():
    """Members by event, from the table of docs/protocol.md."""
    section = (ROOT / "docs" / "protocol.md").read_text().split("\n## Events\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \|", section, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", members)) for name, members in rows}


# What each member is; None where it may be missing.
KINDS = {
    "worker": {str},
    "reason": {str},
    "call": {str, type(None)},
    "method": {str, type(None)},
    "attempt": {int},
    "slot": {str},
    "ok": {bool},
    "took_ms": {float},
    "error": {dict},
    "event": {str},
    "seq": {int},
    "nth": {int},
    "time": {float},
}


class Watcher:
    """A plain SUB socket on the broker's events."""

    def __init__(self, cluster):
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.subscribe("")
        self.socket.connect(cluster.connection["events"])
        self.heard = []
        # Subscribed when the first event comes.
        wait_for("a first event", lambda: cluster.run("muster", "call", "sleep", "0") and self.take())

    def take(self):
        while self.socket.poll(100):
            name, body = self.socket.recv_multipart()
            event = json.loads(body)
            assert event["event"] == name.decode()
            self.heard.append(event)
        return self.heard

    def await_event(self, name, **members):
        def found():
            of_name = [event for event in self.take() if event["event"] == name]
            return next((e for e in of_name if all(e[m] == v for m, v in members.items())), None)

        return wait_for(f"{name} {members}", found)

    def close(self):
        self.socket.close(linger=0)


def test_every_event_is_as_the_protocol_says(cluster):
    worker = cluster.start_workers(1, "--name", "first")
    watcher = Watcher(cluster)
    try:
        other = cluster.start_workers(1, "--name", "other")
        watcher.await_event("worker.up", worker="other")
        # One call on each slot, one that waits, and one more than may wait.
        for _ in range(3):
            cluster.run("muster", "call", "--no-wait", "sleep", "60")
        wait_for("a full queue", lambda: len(cluster.run("muster", "calls", "--queued", "-q").splitlines()) == 2)
        cluster.run("muster", "call", "sleep", "60", check=False)
        watcher.await_event("cap.reached")
        for call in re.findall(r"^c\d+", cluster.run("muster", "calls"), re.MULTILINE):
            cluster.run("muster", "cancel", call)
        watcher.await_event("call.cancelled")
        cluster.run("muster", "call", "--timeout", "50ms", "sleep", "60", check=False)
        watcher.await_event("call.expired")
        cluster.run("muster", "call", "sleep", "soon", check=False)
        watcher.await_event("call.answered", ok=False)
        cluster.run("muster", "call", "nobody_has_it", check=False)
        watcher.await_event("call.failed", method="nobody_has_it", call=None)
        cluster.run("muster", "drain", "other")
        watcher.await_event("worker.draining", worker="other")
        watcher.await_event("worker.down", worker="other", reason="left")
        other.wait(timeout=DEADLINE)
        # The slot that runs it is killed, twice: once it is tried again, then it is lost.
        cluster.run("muster", "call", "--no-wait", "sleep", "60")
        call = wait_for("the call", lambda: re.search(r"^c\d+", cluster.run("muster", "calls"), re.MULTILINE))[0]
        for attempt, name in [(1, "call.dispatched"), (2, "call.retried")]:
            watcher.await_event(name, slot="first.1", attempt=attempt, call=call)
            slot = wait_for("the call's slot", lambda: running_slot(cluster, call))
            os.kill(slot["pid"], signal.SIGKILL)
        lost = watcher.await_event("call.failed", call=call)
        assert lost["error"]["code"] == -32002
        worker.send_signal(signal.SIGKILL)
        watcher.await_event("worker.down", worker="first")
    finally:
        watcher.close()
    documented = documented_events()
    assert {event["event"] for event in watcher.heard} == set(documented)
    for event in watcher.heard:
        name = event["event"]
        assert set(event) == documented[name] | {"event", "seq", "nth", "time"}, event
        for member, value in event.items():
            assert type(value) in KINDS[member], f"{name}: {member} is {value!r}"
    numbers = [event["seq"] for event in watcher.heard]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    for name in documented:
        nths = [event["nth"] for event in watcher.heard if event["event"] == name]
        assert nths == list(range(nths[0], nths[0] + len(nths))), name


def running_slot(cluster, call):
    workers = [json.loads(line) for line in cluster.run("muster", "workers", "--json").splitlines()]
    slots = [slot for worker in workers for slot in worker["slot_states"]]
    return next((slot for slot in slots if slot["call"] == call and slot["pid"]), None)


# --- Metrics -------------------------------------------------------------------------------------


class Gateway:
    def __init__(self, cluster):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        cluster.start("muster", "gateway", "--http", f"127.0.0.1:{self.port}")
        wait_for("the gateway", lambda: self.reaches("/healthz"))

    def reaches(self, path):
        try:
            return self.get(path) == "ok\n"
        except OSError:
            return False

    def get(self, path):
        return self.open(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"))

    def rpc(self, method, *params):
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode()
        headers = {"Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}/rpc"
        return json.loads(self.open(urllib.request.Request(url, body, headers)))

    @staticmethod
    def open(request):
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return answer.read().decode()


def documented_metrics():
    """Names with their labels, from the table of docs/gateway.md."""
    section = (ROOT / "docs" / "gateway.md").read_text().split("\n## Metrics\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`muster_.*?) \| (.*?) \|", section, re.MULTILINE)
    return {
        name: set(re.findall(r"`(\w+)`", labels))
        for names, labels in rows
        for name in re.findall(r"`(\w+)`", names)
    }


@pytest.fixture
def scraped(cluster):
    """A cluster to which this and that has happened, its metrics and its status."""
    cluster.start_workers(2, "--name", "w")
    gateway = Gateway(cluster)
    for n in range(5):
        assert gateway.rpc("multiply", n, 3)["result"] == 3 * n
    gateway.rpc("sleep", "soon")
    gateway.rpc("nobody_has_it")
    cluster.run("muster", "call", "--timeout", "50ms", "sleep", "60", check=False)
    batch = [{"jsonrpc": "2.0", "method": "nobody_has_it", "id": n} for n in range(3)]
    dealer = zmq.Context.instance().socket(zmq.REQ)
    dealer.connect(cluster.connection["frontend"])
    dealer.send_json(batch)
    assert [answer["error"]["code"] for answer in dealer.recv_json()] == [-32601] * 3
    dealer.close(linger=0)
    text = gateway.get("/metrics")
    return text, cluster.json("muster", "status", "--json"), cluster


def test_prometheus_reads_the_metrics_and_finds_nothing_to_mend(scraped):
    text, _, _ = scraped
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family comes twice"
    units = re.compile(r"_(ms|us|millis\w*|micro\w*|minutes|kb|mb|kib|mib|percent)(_|$)")
    for family in families:
        assert family.name.startswith("muster_") and family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert not units.search(family.name), f"{family.name} is in no base unit"
        for sample in family.samples:
            assert family.type == "gauge" or sample.value >= 0, sample
            if family.type == "counter":
                assert sample.name == f"{family.name}_total", sample
            else:
                assert not sample.name.endswith("_total"), sample
        labels = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(labels) == len(set(labels)), f"{family.name}: a line comes twice"
        if family.type == "histogram":
            rises_to_its_count(family)
    if promtool := shutil.which("promtool"):
        judged = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True)
        assert judged.returncode == 0, judged.stdout + judged.stderr


def rises_to_its_count(family):
    series = {}
    for sample in family.samples:
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        kind = sample.name.removeprefix(family.name)
        series.setdefault(labels, {}).setdefault(kind, []).append((sample.labels.get("le"), sample.value))
    for labels, parts in series.items():
        bounds = [float(le) for le, _ in parts["_bucket"]]
        counts = [value for _, value in parts["_bucket"]]
        assert bounds == sorted(bounds) and bounds[-1] == float("inf"), (family.name, labels)
        assert counts == sorted(counts) and counts[-1] == parts["_count"][0][1], (family.name, labels)
        assert "_sum" in parts, (family.name, labels)


def test_the_page_names_every_metric_with_its_labels_and_no_other(scraped):
    text, _, _ = scraped
    told = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        told[name] = labels
    documented = documented_metrics()
    assert sorted(documented) == sorted(told)
    for name, labels in told.items():
        assert not labels or labels == documented[name], name


def test_the_metrics_say_what_the_status_says(scraped):
    text, status, _ = scraped
    values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name, *sorted(sample.labels.values())] = sample.value
    assert values["muster_up",] == 1
    assert values["muster_build_info", *sorted([status["name"], status["version"]])] == 1
    for state, number in status["slots"].items():
        assert state == "total" or values["muster_slots", state] == number, state
    for kind, number in status["workers"].items():
        assert values["muster_workers", kind] == number
    calls = status["calls"]
    for outcome in ("succeeded", "failed", "expired", "cancelled", "lost", "shed", "not_found", "drained"):
        assert values["muster_calls_total", outcome] == calls[outcome], outcome
    for name, member in [
        ("muster_queued_calls", "queued"),
        ("muster_running_calls", "running"),
        ("muster_admitted_calls_total", "admitted"),
        ("muster_retries_total", "retried"),
        ("muster_dropped_replies_total", "replies_dropped"),
    ]:
        assert values[name,] == calls[member], name
    errors = {labels[0]: value for (name, *labels), value in values.items() if name == "muster_errors_total"}
    assert errors == status["errors"] == {"-32601": 4, "-32602": 1, "-32001": 1}
    # The question for the metrics came in and was answered, and the one for the status, too.
    assert 0 < values["muster_received_bytes_total",] < status["bytes"]["in"]
    assert 0 < values["muster_sent_bytes_total",] < status["bytes"]["out"]
    assert values["muster_call_duration_seconds_count", "multiply"] == 5


def test_bytes_are_those_of_the_frames(cluster):
    cluster.start_workers(1)
    before = cluster.json("muster", "status", "--json")["bytes"]
    blob = b"x" * 1_000_000
    body = {"jsonrpc": "2.0", "method": "nobody_has_it", "params": [{"$frame": 0}], "id": 1}
    client = zmq.Context.instance().socket(zmq.REQ)
    client.connect(cluster.connection["frontend"])
    client.send_multipart([json.dumps(body).encode(), blob])
    client.recv_multipart()
    client.close(linger=0)
    after = cluster.json("muster", "status", "--json")["bytes"]
    assert 1_000_000 <= after["in"] - before["in"] < 1_005_000
    assert 0 < after["out"] - before["out"] < 10_000
