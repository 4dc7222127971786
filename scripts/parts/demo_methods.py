"""What the workers of scripts/demo do: plain Python functions that know nothing of Muster."""

import collections
import re


def count_words(page: str):
    """Count the words of a page, without regard to case."""
    return collections.Counter(re.findall(r"[a-z]+", page.lower()))


def letters(word: str, *, upper: bool = False):
    """Return the letters of a word, in upper case if asked for."""
    return list(word.upper() if upper else word)
