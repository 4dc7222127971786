"""The examples print what they should."""

import subprocess
import sys

import pytest
from conftest import EXAMPLES

PRIMES = {
    10000: 5736396,
    11000: 6848586,
    12000: 8034435,
    13000: 9397192,
    14000: 10814591,
    15000: 12295969,
    16000: 13969505,
    17000: 15586609,
}

RADII = """\
damping 0.25: radius 0.1251
damping 0.50: radius 0.2502
damping 0.75: radius 0.3753
damping 1.00: radius 0.5003
the parallel product is the local one: True
"""

SLOPES = """\
x**2      0.00000  1.00000  2.00000
sin x     1.00000  0.87758  0.54030
exp(-x)  -1.00000 -0.60653 -0.36788
"""

SCALING = """\
grown to 6
shrunk to 2
400 jobs done, in order: True
more than two processes took part: True
"""

EXPECTED = {
    "monte_carlo.py": "pi is about 3.14185 after 1,280,000 darts\n",
    "matrix_sweep.py": RADII,
    "search.py": "best of 18: power 5, penalty 1e-06, error 0.0095\n",
    "sum_primes.py": "".join(f"primes below {limit} sum to {total}\n" for limit, total in PRIMES.items()),
    "reverse_md5.py": "829182 has the MD5 8fdc50573136b0963b2148113d404b61\n",
    "quicksort.py": "sorted 50000 numbers: True\n",
    "callbacks.py": "ln 2 is about 0.693147\n",
    "differentiate.py": SLOPES,
    "scaling.py": SCALING,
}


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name):
    assert run(name) == EXPECTED[name]


def test_word_count(tmp_path):
    texts = ["the cat and the dog", "The end, and THE beginning", "a cat"]
    paths = []
    for number in range(30):
        path = tmp_path / f"{number}.txt"
        path.write_text(texts[number % 3])
        paths.append(str(path))
    expected = "    40 the\n    20 and\n    20 cat\n    10 a\n    10 beginning\n"
    assert run("word_count.py", *paths) == expected
