"""Find the number whose MD5 is known: the range is cut up, and the search ends with the first hit."""

import hashlib

import muster

STEP, END = 25_000, 1_000_000


def search(digest: str, start: int, end: int) -> int | None:
    """The number in the range whose MD5 it is, or None."""
    for number in range(start, end):
        if hashlib.md5(str(number).encode()).hexdigest() == digest:
            return number
    return None


if __name__ == "__main__":
    digest = hashlib.md5(b"829182").hexdigest()
    with muster.MusterExecutor(4) as executor:
        parts = [executor.submit(search, digest, start, start + STEP) for start in range(0, END, STEP)]
        for part in muster.as_completed(parts):
            if part.result() is not None:
                print(f"{part.result()} has the MD5 {digest}")
                break
        # What has not run yet need not.
        for part in parts:
            part.cancel()
