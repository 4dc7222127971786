#!/usr/bin/env python3
"""An honest client's latency while strangers hold thousands of connections open.

    scripts/checks/flood.py [--connections N] [--calls N] [--keyless]

Starts a broker with TCP doors and a worker, calls them quietly, then again while N strangers that
say nothing come, are hung up on when the time for a handshake is over, and come again. Prints both
99th percentiles and their ratio. Needs pyzmq, and `muster-broker` and `muster-worker` on PATH.
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

import zmq

PATIENCE_S = 60


def strangers(addresses: list[tuple[str, int]], count: int) -> None:
    """Keeps so many connections open, until it is ended."""
    chosen = selectors.DefaultSelector()
    opened = 0
    told = False
    while True:
        while len(chosen.get_map()) < count:
            stream = socket.socket()
            stream.setblocking(False)
            stream.connect_ex(addresses[opened % len(addresses)])
            chosen.register(stream, selectors.EVENT_READ)
            opened += 1
            if opened % 50 == 0:
                break
        if not told and len(chosen.get_map()) == count:
            print("open", flush=True)
            told = True
        for key, _ in chosen.select(timeout=0.005):
            try:
                gone = not key.fileobj.recv(4096)
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--keyless", action="store_true")
    parser.add_argument("--strangers", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if args.strangers:
        pairs = [address.rsplit(":", 1) for address in args.strangers]
        strangers([(host, int(port)) for host, port in pairs], args.connections)
        return 0
    with tempfile.TemporaryDirectory(prefix="mt", dir="/tmp") as folder:
        environment = dict(os.environ, HOME=folder, MUSTER_RUNTIME_DIR=f"{folder}/run")
        environment.pop("XDG_STATE_HOME", None)
        children = []

        def start(*command: str, **more: int) -> subprocess.Popen[str]:
            child = subprocess.Popen(command, env=environment, text=True, stderr=subprocess.DEVNULL, **more)
            children.append(child)
            return child

        try:
            keys = [] if args.keyless else ["--curve"]
            start("muster-broker", "--listen", "tcp://127.0.0.1:0", *keys)
            code = Path(folder, "methods.py")
            code.write_text("def echo(x):\n    return x\n")
            start("muster-worker", "-n", "1", "--python", str(code))
            file = Path(folder, "run/default/cluster.json")
            deadline = time.monotonic() + PATIENCE_S
            while not file.exists():
                assert time.monotonic() < deadline, "the broker does not start"
                time.sleep(0.01)
            context = zmq.Context()
            client = context.socket(zmq.REQ)
            client.linger = 0
            client.connect(json.loads(file.read_text())["frontend"])
            p99_ms(client, 200)
            quiet = p99_ms(client, args.calls)
            client.send(json.dumps({"jsonrpc": "2.0", "method": "broker.status", "id": 1}).encode())
            doors = json.loads(client.recv())["result"]["tcp_endpoints"].values()
            addresses = [door.removeprefix("tcp://") for door in doors]
            flood = start(
                sys.executable, __file__, "--connections", str(args.connections), "--strangers", *addresses,
                stdout=subprocess.PIPE,
            )
            assert flood.stdout and flood.stdout.readline() == "open\n"
            flooded = p99_ms(client, args.calls)
            context.destroy()
        finally:
            for child in children:
                child.kill()
                child.wait()
    print(
        f"p99 of {args.calls} calls: quiet {quiet:.2f} ms, with {args.connections} strangers"
        f" {flooded:.2f} ms, ratio {flooded / quiet:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
