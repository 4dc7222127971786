"""Count the words of many files: each worker counts some of them, the results are added up.

python word_count.py FILE…
"""

import re
import sys
from collections import Counter
from pathlib import Path

import muster

TOP = 5


def count_words(path: str) -> Counter[str]:
    """How often each word stands in a file."""
    return Counter(re.findall(r"[a-z]+", Path(path).read_text().lower()))


def main(paths: list[str]) -> None:
    total: Counter[str] = Counter()
    with muster.Pool(4) as pool:
        # In the order in which they come: no file waits for another.
        for counts in pool.imap_unordered(count_words, paths):
            total += counts
    for word, times in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:TOP]:
        print(f"{times:6} {word}")


if __name__ == "__main__":
    main(sys.argv[1:])
