"""Maps by name, against the Python worker and `muster-worker`."""

import itertools
import sys
import time

import pytest

import muster


def test_results_come_in_order(pool):
    assert pool.map("square", range(1000)) == [x * x for x in range(1000)]
    assert pool.map("square", []) == []
    assert pool.map("echo", ["a", None, {"b": [1]}, 2.5, '},{"result":']) == [
        "a",
        None,
        {"b": [1]},
        2.5,
        '},{"result":',
    ]
    assert pool.map("echo", [[1, 2], [3, [4]]]) == [[1, 2], [3, [4]]]


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_any_chunk_size_gives_the_same(pool, chunksize):
    assert pool.map("square", range(100), chunksize) == [x * x for x in range(100)]


def test_a_hundred_thousand_items(pool):
    assert pool.map("square", range(100_000)) == [x * x for x in range(100_000)]


def test_a_failed_item_is_named_and_the_others_kept(pool):
    with pytest.raises(ZeroDivisionError) as caught:
        pool.map("invert", [1, 2, 0, 4])
    assert caught.value.index == 2
    assert caught.value.results[:2] == [1, 0.5] and caught.value.results[3] == 0.25
    assert caught.value.worker
    outcomes = pool.map("invert", [1, 0], return_exceptions=True)
    assert outcomes[0] == 1 and isinstance(outcomes[1], ZeroDivisionError)


def test_imap_takes_no_more_than_it_needs(pool):
    taken = []

    def items():
        for n in itertools.count():
            taken.append(n)
            yield n

    results = pool.imap("square", items())
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    results.close()
    assert len(taken) < 3_000_000


def test_imap_raises_in_turn_and_goes_on(pool):
    results = pool.imap("invert", [1, 0, 2])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert next(results) == 0.5
    with pytest.raises(StopIteration):
        next(results)


def test_imap_next_has_a_timeout(pool):
    results = pool.imap("nap", [1.0])
    with pytest.raises(TimeoutError):
        results.next(0.05)
    assert results.next(30)


def test_unordered(pool):
    assert sorted(pool.imap_unordered("square", range(50))) == [x * x for x in range(50)]


def test_starmap(pool):
    assert pool.starmap("multiply", [(1, 2), (3, 4), (5,)]) == [2, 12, 10]


def test_bytes_as_items(pool):
    items = [bytes([n % 256]) * n for n in range(200)]
    assert pool.map("echo", items) == items


def test_a_timeout_is_that_of_each_item(pool):
    outcomes = pool.options(timeout=0.5).map("nap", [0, 0, 30, 0], 4, return_exceptions=True)
    assert isinstance(outcomes[2], muster.DeadlineExceeded)
    assert all(isinstance(outcomes[n], int) for n in (0, 1, 3))


def test_an_item_that_kills_its_worker_costs_itself_alone(pool):
    start = time.monotonic()
    outcomes = pool.map("die_of", range(32), 32, return_exceptions=True)
    # Nine processes end; none of them is taken for one that never works.
    assert time.monotonic() - start < 20
    assert isinstance(outcomes[13], muster.WorkerLost)
    assert [n for n in outcomes if n is not outcomes[13]] == [n for n in range(32) if n != 13]


def test_progress_is_a_bar_where_there_is_tqdm(pool, capsys):
    pytest.importorskip("tqdm")
    assert pool.map("square", range(10), progress=True) == [x * x for x in range(10)]
    assert "10/10" in capsys.readouterr().err


def test_progress_without_tqdm_is_no_error(pool, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert pool.map("square", range(10), progress=True) == [x * x for x in range(10)]
    assert capsys.readouterr().err == ""


def test_an_unknown_method(pool):
    with pytest.raises(muster.MethodNotFound):
        pool.map("nope", range(3))


def test_what_must_not_run_twice_does_not(pool, tmp_path):
    path = tmp_path / "ran"
    items = [[str(path), n] for n in range(20)]
    outcomes = pool.options(attempts=1).map("note_and_die_of", items, 10, return_exceptions=True)
    assert isinstance(outcomes[13], muster.WorkerLost)
    assert [n for n in outcomes if n is not outcomes[13]] == [n for n in range(20) if n != 13]
    assert sorted(map(int, path.read_text().split())) == list(range(20))


@pytest.mark.parametrize(
    "items",
    [
        list(range(-500, 500)),
        [n / 7 for n in range(1000)],
        [0.0, -0.0, 1e308, -1e308, 5e-324] * 20,
        [2**63 - 1, -(2**63)] * 50,
        [2**63, 1] * 50,
        [1, 1.0] * 50,
        [True, 1] * 50,
    ],
    ids=["integers", "floats", "extremes", "largest", "too large", "mixed", "booleans"],
)
def test_numbers_come_back_as_they_went(pool, items):
    results = pool.map("echo", items)
    assert list(map(repr, results)) == list(map(repr, items))


def test_numbers_among_other_results(pool):
    names = pool.map("number_or_name", range(1000))
    assert names == [n if n % 10 else str(n) for n in range(1000)]


def test_a_failed_number_is_named_among_many(pool):
    outcomes = pool.map("invert", [1.0] * 500 + [0.0] + [2.0] * 499, return_exceptions=True)
    assert isinstance(outcomes[500], ZeroDivisionError)
    assert outcomes[:500] == [1.0] * 500 and outcomes[501:] == [0.5] * 499


def test_a_number_that_json_cannot_hold_fails_alone(pool):
    outcomes = pool.map("tenfold", [1e307] * 100 + [1e308] + [1.0] * 100, return_exceptions=True)
    assert isinstance(outcomes[100], TypeError)
    assert outcomes[:100] == [1e308] * 100 and outcomes[101:] == [10.0] * 100
