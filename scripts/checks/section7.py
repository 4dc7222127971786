#!/usr/bin/env python3
"""Runs the examples of the JSON-RPC 2.0 specification, section 7, against a real cluster.

Each example is sent as it is printed there, through a REQ socket, and the answer is compared as
JSON: no member more, none less. What the specification answers with nothing is acknowledged to a REQ
by one empty frame, and to a DEALER without a delimiter by nothing at all.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parts"))
from private_cluster import PrivateCluster, build
from zmtp import Dealer, Req

NOTHING = object()

EXAMPLES = [
    (
        "positional parameters",
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}',
        {"jsonrpc": "2.0", "result": 19, "id": 1},
    ),
    (
        "positional parameters, the other way round",
        '{"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2}',
        {"jsonrpc": "2.0", "result": -19, "id": 2},
    ),
    (
        "named parameters",
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}',
        {"jsonrpc": "2.0", "result": 19, "id": 3},
    ),
    (
        "named parameters in another order",
        '{"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4}',
        {"jsonrpc": "2.0", "result": 19, "id": 4},
    ),
    ("a notification", '{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', NOTHING),
    ("a notification without parameters", '{"jsonrpc": "2.0", "method": "foobar"}', NOTHING),
    (
        "a method that does not exist",
        '{"jsonrpc": "2.0", "method": "foobar", "id": "1"}',
        {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"},
    ),
    (
        "broken JSON",
        '{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": None},
    ),
    (
        "an invalid request",
        '{"jsonrpc": "2.0", "method": 1, "params": "bar"}',
        {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": None},
    ),
    (
        "a batch of broken JSON",
        '[\n  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},\n'
        '  {"jsonrpc": "2.0", "method"\n]',
        {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": None},
    ),
    (
        "an empty array",
        "[]",
        {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": None},
    ),
    (
        "an invalid batch that is not empty",
        "[1]",
        [{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": None}],
    ),
    (
        "an invalid batch",
        "[1,2,3]",
        [{"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": None}] * 3,
    ),
    (
        "a batch",
        """[
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ]""",
        [
            {"jsonrpc": "2.0", "result": 7, "id": "1"},
            {"jsonrpc": "2.0", "result": 19, "id": "2"},
            {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": None},
            {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},
            {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"},
        ],
    ),
    (
        "a batch of notifications",
        """[
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
    ]""",
        NOTHING,
    ),
]


def main():
    build()
    methods = pathlib.Path(__file__).with_name("section7_methods.py")
    failed = 0
    with PrivateCluster() as cluster:
        cluster.start_workers(2, "--python", str(methods))
        req = Req(cluster.connection["frontend"])
        for name, request, expected in EXAMPLES:
            frames = req.ask(request.encode())
            wanted = [b""] if expected is NOTHING else expected
            got = frames if expected is NOTHING else json.loads(frames[0])
            ok = got == wanted and len(frames) == 1
            failed += not ok
            print(f"{'ok' if ok else 'FAILED'}  {name}" + ("" if ok else f": {got}"))
        failed += not silence_for_a_bare_dealer(cluster.connection["frontend"])
    count = len(EXAMPLES) + 1
    print(f"{count - failed} passed, {failed} failed")
    return 1 if failed else 0


def silence_for_a_bare_dealer(frontend):
    """Notifications without a delimiter have no answer: the next message is the next call's."""
    dealer = Dealer(frontend)
    for _, request, expected in EXAMPLES:
        if expected is NOTHING:
            dealer.send([request.encode()])
    dealer.send([b'{"jsonrpc": "2.0", "method": "get_data", "id": 7}'])
    frames = dealer.receive()
    ok = frames == [b'{"jsonrpc":"2.0","result":["hello",5],"id":7}']
    print(f"{'ok' if ok else 'FAILED'}  notifications without a delimiter" + ("" if ok else f": {frames}"))
    return ok


if __name__ == "__main__":
    sys.exit(main())
