#!/usr/bin/env python3
"""An honest client's latency while strangers hold thousands of connections open.

    scripts/checks/flood.py [--connections N] [--rounds N] [--hello] [--keyless] [--over-tcp] [--door NAME]

Starts a broker with TCP doors and a worker. Calls them quietly, then while N strangers come, are
hung up on when the time for a handshake is over, and come again; a few rounds of both, in one run,
so that what else the machine does falls on both. Prints the 99th percentiles, their ratio, and how
long a newcomer with a key took meanwhile. On a busy machine the best of the rounds says more than
the median; `chrt --fifo 1 scripts/checks/flood.py` has all but the strangers go before other programs.

By default strangers say nothing. With --hello each begins a CURVE handshake with a key pair of its
own, which makes the broker compute; with --keyless the doors ask for no keys. The honest client
comes over the local door, with --over-tcp over TCP (with its key, where there are keys).
Needs pyzmq, and `muster-broker` and `muster-worker` on PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import zmq

PATIENCE_S = 60
DOORS = ("frontend", "workers", "backend", "events")
#: Calls in a measurement; its 99th percentile is the 20th worst.
CALLS = 2000
#: A run ends, whatever happens.
FLOOD_S_MAX = 300


def hellos(server_key: str, count: int) -> list[bytes]:
    """Greetings and HELLOs of CurveZMQ, as stock clients say them to a listener of ours."""
    said = []
    with socket.create_server(("127.0.0.1", 0)) as listener, zmq.Context() as context:
        for _ in range(count):
            client = context.socket(zmq.DEALER)
            client.linger = 0
            client.curve_publickey, client.curve_secretkey = zmq.curve_keypair()
            client.curve_serverkey = server_key.encode()
            client.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
            stream, _ = listener.accept()
            with stream, stream.makefile("rb") as reader:
                stream.sendall(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0" + b"CURVE".ljust(20, b"\0") + b"\x01" + bytes(31))
                said.append(reader.read(64 + 2 + 200))
            client.close()
    return said


def strangers(addresses: list[tuple[str, int]], count: int, server_key: str | None) -> None:
    """Keeps so many connections open, until it is ended."""
    # They stand for other machines, and get what processor time this one has left.
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.nice(10)
    # The same ones again and again are as much work for the broker as fresh ones.
    says = hellos(server_key, 20) if server_key else [b""]
    chosen = selectors.DefaultSelector()
    opened = 0
    told = False
    end = time.monotonic() + FLOOD_S_MAX
    while time.monotonic() < end:
        while len(chosen.get_map()) < count:
            stream = socket.socket()
            stream.setblocking(False)
            stream.connect_ex(addresses[opened % len(addresses)])
            chosen.register(stream, selectors.EVENT_READ | (selectors.EVENT_WRITE if says[0] else 0))
            opened += 1
            if opened % 50 == 0:
                break
        if not told and len(chosen.get_map()) == count:
            print("open", flush=True)
            told = True
        for key, events in chosen.select(timeout=0.005):
            try:
                if events & selectors.EVENT_WRITE:
                    key.fileobj.send(says[opened % len(says)])
                    chosen.modify(key.fileobj, selectors.EVENT_READ)
                gone = bool(events & selectors.EVENT_READ) and not key.fileobj.recv(4096)
            except OSError:
                gone = True
            if gone:
                chosen.unregister(key.fileobj)
                key.fileobj.close()


def p99_ms(client: zmq.Socket[bytes], calls: int) -> float:
    """Calls one after the other."""
    body = json.dumps({"jsonrpc": "2.0", "method": "echo", "params": [1], "id": 1}).encode()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        client.send(body)
        assert client.poll(PATIENCE_S * 1000), "no answer"
        assert b'"result"' in client.recv()
        times.append(time.perf_counter() - start)
    return statistics.quantiles(times, n=100)[98] * 1000


class Cluster:
    """A broker with TCP doors and a worker, in a folder of their own."""

    def __init__(self, folder: Path, keyless: bool) -> None:
        self.environment = dict(os.environ, HOME=str(folder), MUSTER_RUNTIME_DIR=str(folder / "run"))
        self.environment.pop("XDG_STATE_HOME", None)
        self.children: list[subprocess.Popen[str]] = []
        self.context = zmq.Context()
        keys = [] if keyless else ["--curve"]
        # With room for the strangers and others: here they are to cost time, not places.
        self.start("muster-broker", "--listen", "tcp://127.0.0.1:0", "--connections-max", "15000", *keys)
        code = folder / "methods.py"
        code.write_text("def echo(x):\n    return x\n")
        self.start("muster-worker", "-n", "1", "--python", str(code))
        self.local = self.file(folder / "run/default/cluster.json")
        client = self.connect(self.local)
        p99_ms(client, 200)
        client.send(json.dumps({"jsonrpc": "2.0", "method": "broker.status", "id": 1}).encode())
        doors = json.loads(client.recv())["result"]["tcp_endpoints"]
        self.remote = dict(doors, curve=None)
        if not keyless:
            self.remote = self.file(folder / ".local/state/muster/default/client.json")
        self.addresses = {name: self.remote[name].removeprefix("tcp://") for name in DOORS}

    def start(self, *command: str, **more: Any) -> subprocess.Popen[str]:
        child = subprocess.Popen(command, env=self.environment, text=True, stderr=subprocess.DEVNULL, **more)
        self.children.append(child)
        return child

    def file(self, path: Path) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while not path.exists():
            assert time.monotonic() < deadline, f"{path} is not written"
            time.sleep(0.01)
        return json.loads(path.read_text())

    def connect(self, file: dict[str, Any]) -> zmq.Socket[bytes]:
        client = self.context.socket(zmq.REQ)
        client.linger = 0
        if file["curve"]:
            client.curve_serverkey = file["curve"]["server_key"].encode()
            client.curve_publickey = file["curve"]["public_key"].encode()
            client.curve_secretkey = file["curve"]["secret_key"].encode()
        endpoint = file["frontend"]
        if endpoint.startswith("tcp://"):
            # From another machine than the strangers', as far as its address says.
            endpoint = endpoint.replace("tcp://", "tcp://127.0.0.2:0;")
        client.connect(endpoint)
        return client

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()
        self.context.destroy()


def measure(args: argparse.Namespace, cluster: Cluster) -> None:
    client = cluster.connect(cluster.remote if args.over_tcp else cluster.local)
    doors = [args.door] if args.door else DOORS
    command = [sys.executable, __file__, "--connections", str(args.connections), "--strangers"]
    command += [cluster.addresses[door] for door in doors]
    if args.hello:
        command += ["--server-key", cluster.remote["curve"]["server_key"]]
    quiet, flooded, newcomers_s = [], [], []
    for _ in range(args.rounds):
        quiet.append(p99_ms(client, CALLS))
        flood = cluster.start(*command, stdout=subprocess.PIPE)
        assert flood.stdout and flood.stdout.readline() == "open\n"
        # Their first wave is over: those who come now come as the others are hung up on.
        time.sleep(3)
        flooded.append(p99_ms(client, CALLS))
        start = time.perf_counter()
        p99_ms(cluster.connect(cluster.remote), 2)
        newcomers_s.append(time.perf_counter() - start)
        flood.kill()
        flood.wait()
        time.sleep(3)
    for what, of in (("median", statistics.median), ("best", min)):
        ratio = of(flooded) / of(quiet)
        print(
            f"p99 of {CALLS} calls, {what} of {args.rounds}: quiet {of(quiet):.2f} ms, with"
            f" {args.connections} strangers {of(flooded):.2f} ms, ratio {ratio:.2f}"
        )
    print(f"a newcomer's first calls took {statistics.median(newcomers_s):.2f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hello", action="store_true", help="strangers begin CURVE handshakes")
    parser.add_argument("--keyless", action="store_true", help="doors without keys")
    parser.add_argument("--over-tcp", action="store_true", help="the honest client comes over TCP")
    parser.add_argument("--door", choices=DOORS, help="the only one that strangers come to")
    parser.add_argument("--strangers", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--server-key", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hello and args.keyless:
        parser.error("doors without keys know no HELLO")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if args.strangers:
        pairs = [address.rsplit(":", 1) for address in args.strangers]
        strangers([(host, int(port)) for host, port in pairs], args.connections, args.server_key)
        return 0
    with tempfile.TemporaryDirectory(prefix="mt", dir="/tmp") as folder:
        cluster = Cluster(Path(folder), args.keyless)
        try:
            measure(args, cluster)
        finally:
            cluster.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
