#!/usr/bin/env python3
"""Compares what docs/protocol.md says of the broker's own methods with a running broker.

The table of names and parameters, and the members of the results with their types: what one of the
two has and the other lacks is named.
"""

import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parts"))
from private_cluster import ROOT, PrivateCluster, build


def documented():
    """Names with parameters, and example results by name."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    section = text.split("\n## The broker's own methods\n")[1].split("\n## ")[0]
    methods = {}
    for line in section.splitlines():
        if line.startswith(("| `broker.", "| `rpc.", "| `system.")):
            _, name, params, _ = line.split("|", 3)
            methods[name.strip(" `")] = re.findall(r"`(\w+)`", params)
    fields = json.loads(section.split("```json fields\n")[1].split("```")[0])
    return methods, fields


def differences(where, example, actual):
    """What is different between an example's shape and a real value's, in words."""
    if isinstance(example, dict) and isinstance(actual, dict):
        for name in sorted(example.keys() - actual.keys()):
            yield f"{where}.{name} is documented and not there"
        for name in sorted(actual.keys() - example.keys()):
            yield f"{where}.{name} is there and not documented"
        # A method's parameters are described under "Registering"; errors are named by their codes.
        for name in (example.keys() & actual.keys()) - {"params", "errors"}:
            yield from differences(f"{where}.{name}", example[name], actual[name])
    elif isinstance(example, list) and isinstance(actual, list):
        if example and not actual:
            yield f"{where} is empty, nothing to compare"
        for item in actual:
            yield from differences(f"{where}[]", example[0], item)
    elif example is not None and actual is not None:
        kinds = {type(example), type(actual)}
        if len(kinds) > 1 and kinds != {int, float}:
            yield f"{where} is {type(actual).__name__}, documented as {type(example).__name__}"


def main():
    build()
    methods, fields = documented()
    wrong = []
    with PrivateCluster() as cluster:
        cluster.start_workers(2)
        names = cluster.json("muster", "call", "system.listMethods")
        own = {name for name in names if name.split(".")[0] in ("broker", "rpc", "system")}
        wrong += [f"{name} is documented and not there" for name in sorted(methods.keys() - own)]
        wrong += [f"{name} is there and not documented" for name in sorted(own - methods.keys())]
        for name in sorted(methods.keys() & own):
            params = cluster.json("muster", "call", "system.methodSignature", name)
            if params != methods[name]:
                wrong.append(f"{name} takes {params}, documented are {methods[name]}")
        # A call that failed, and one to look at until the cluster is taken down.
        cluster.run("muster", "call", "sleep", "soon", check=False)
        cluster.start("muster", "call", "sleep", "60")
        while not cluster.json("muster", "call", "broker.calls"):
            pass
        for name, example in fields.items():
            actual = cluster.json("muster", "call", *name.split())
            wrong += sorted(set(differences(name, example, actual)))
    for line in wrong:
        print(line)
    print(f"{len(methods) + len(fields) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
