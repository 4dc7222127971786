"""The standard library's XML-RPC client, unmodified, against the gateway: xmlrpc_client.py URL.

Exits with a traceback at the first answer that is not the right one.
"""

import datetime
import os
import sys
import xmlrpc.client
from xmlrpc.client import Binary, DateTime, Fault, MultiCall, ServerProxy

url = sys.argv[1]
server = ServerProxy(url, allow_none=True)


def same(found, wanted):
    assert found == wanted and type(found) is type(wanted), (found, wanted)


def fault(call, *args):
    try:
        result = call(*args)
    except Fault as error:
        return error
    raise AssertionError("no fault but %r" % (result,))


# The tour's lines.
lines = ["%d %s" % (n, server.is_even(n)) for n in range(10)]
same(lines, ["%d %s" % (n, n % 2 == 0) for n in range(10)])

names = server.system.listMethods()
same(names, sorted(names))
for name in ("is_even", "echo", "system.listMethods", "broker.status"):
    assert name in names, names
same(server.system.methodHelp("is_even"), "Return True if n is even.")
same(server.system.methodSignature("is_even"), [["undef", "undef"]])
same(server.system.methodSignature("scale"), [["undef"] * 2, ["undef"] * 3])
same(server.system.methodSignature("anything"), "undef")
same(fault(server.system.methodHelp, "nope").faultCode, -32601)

# Every type makes the round trip.
for value in [
    None,
    True,
    False,
    0,
    -(2**31),
    2**31 - 1,
    1.5,
    1.0,
    -1e300,
    "",
    " a\n\tb ",
    "ü < & > ]]> \"'\u20ac\U0001f600",
    [],
    {},
    [1, [2, ["x", None]], {"a": {"b": [True]}}],
    {"": 1, "a b": {"$frame": 0}, "<&>": "x"},
    {"$frame": 0},
    {"$base64": "AAE="},
    {"$literal": {"$datetime": "x"}},
]:
    same(server.echo(value), value)
blob = os.urandom(300_000)
same(server.echo(Binary(blob)).data, blob)
same(server.echo({"inner": [Binary(b"\0\xff")]})["inner"][0].data, b"\0\xff")
moment = datetime.datetime(2026, 1, 31, 23, 59, 58)
assert server.echo(DateTime(moment)) == DateTime(moment)
builtin = ServerProxy(url, allow_none=True, use_builtin_types=True)
same(builtin.echo(moment), moment)
same(builtin.echo(b"\r\n"), b"\r\n")
# A function gets bytes, and may return them.
same(builtin.reverse(b"abc"), b"cba")

# Larger numbers than the client sends come back whole.
same(server.power(2, 40), 2**40)
same(server.power(2, 100), 2**100)
# XML 1.0, section 2.11: a parser reads a bare carriage return as a line feed.
same(server.echo("\r"), "\n")

# MultiCall, spread over the pool, with a fault in the middle.
calls = MultiCall(server)
for n in range(20):
    calls.is_even(n)
same(list(calls()), [n % 2 == 0 for n in range(20)])
calls = MultiCall(server)
calls.echo("before")
calls.nope()
calls.echo("after")
results = calls()
same((results[0], results[2]), ("before", "after"))
same(fault(lambda: results[1]).faultCode, -32601)

# Faults say what happened.
error = fault(server.is_even, "x")
same(error.faultCode, -32000)
assert error.faultString.startswith("TypeError: "), error
error = fault(server.nope, 1)
same(error.faultCode, -32601)
assert "nope" in error.faultString, error
same(fault(server.echo, float("nan")).faultCode, -32602)
same(fault(server.broker.drain, "w").faultCode, -32006)
error = fault(server.zero)
assert "U+0000" in error.faultString, error

# Nothing of all this hurt the connection or the pool.
same(server.is_even(2), True)
# The path that an address with a slash at its end gives.
same(ServerProxy(url.rstrip("/") + "/").is_even(3), False)
try:
    ServerProxy(url.rstrip("/") + "/nothing").is_even(3)
except xmlrpc.client.ProtocolError as error:
    same(error.errcode, 404)
print("all right")
