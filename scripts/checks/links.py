#!/usr/bin/env python3
"""Follows every path of the repository that a document names, as a link or between backticks."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "proto|broker|worker|client|zmq-sys|scripts|docs|\\.ci"


def named(text):
    """Paths relative to the document, then paths relative to the root."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", prose)
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)", prose)
    return links, paths


def anchors(text):
    """The anchors of a document's headings, as they are made on the usual hosts."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def main():
    followed, wrong = 0, []
    for document in DOCUMENTS:
        text = document.read_text()
        links, paths = named(text)
        targets = [(document.parent / link, link) for link in links]
        targets += [(ROOT / path, path) for path in paths]
        for target, name in targets:
            followed += 1
            if not target.exists():
                wrong.append(f"{document.relative_to(ROOT)}: {name} is not there")
        for anchor in re.findall(r"\]\(#([^)]+)\)", text):
            followed += 1
            if anchor not in anchors(text):
                wrong.append(f"{document.relative_to(ROOT)}: no heading for #{anchor}")
    print("\n".join(wrong + [f"{followed - len(wrong)} passed, {len(wrong)} failed"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
