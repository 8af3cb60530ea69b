from __future__ import annotations

import io
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tui.logs.store as store_module
from tui.logs.index import BLOCK, LineIndex
from tui.logs.search import Query, SearchResults, matching_lines, search
from tui.logs.spool import Segment
from tui.logs.store import WINDOW, LogStore

_DATA = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b"\n", b"\r", b"\r\n", b"x" * 3000 + b"\n", b"step 1\n", b"\n\n\n"]),
    ),
    max_size=60,
).map(b"".join)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


def _lines(store: LogStore) -> list[bytes]:
    return [store.raw(number)[0] for number in range(store.first, store.stop)]


def _expected(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


@settings(deadline=None)
@given(_DATA, st.lists(st.integers(0, 20_000), max_size=12))
def test_lines_do_not_depend_on_how_the_stream_is_cut(data: bytes, cuts: list[int]) -> None:
    store = LogStore()
    for chunk in _cut(data, cuts):
        store.feed(chunk)
    assert _lines(store) == _expected(data)
    assert store.complete == data.count(b"\n")
    store.close()


@given(_DATA, st.lists(st.integers(0, 20_000), max_size=12))
def test_the_index_does_not_depend_on_chunks(data: bytes, cuts: list[int]) -> None:
    whole, parts = LineIndex(), LineIndex()
    whole.add(data)
    for chunk in _cut(data, cuts):
        parts.add(chunk)
    for name in ("lines", "size", "tail"):
        assert getattr(whole, name) == getattr(parts, name)
    assert [whole.block_of(line) for line in range(whole.lines)] == [
        parts.block_of(line) for line in range(parts.lines)
    ]


@settings(deadline=None)
@given(_DATA, st.lists(st.integers(0, 20_000), max_size=12))
def test_a_growing_file_reads_as_the_stream_does(tmp_path_factory: Any, data: bytes, cuts: list[int]) -> None:
    path = tmp_path_factory.mktemp("log") / "log.txt"
    store = LogStore.open(path)
    assert not store.poll()
    with path.open("ab") as file:
        for chunk in _cut(data, cuts):
            file.write(chunk)
            file.flush()
            store.poll()
    store.poll()
    assert _lines(store) == _expected(data)
    store.close()


def test_the_index_is_small_whatever_the_lines() -> None:
    index = LineIndex()
    for _ in range(200):
        index.add(b"\n" * 10_000)
    assert index.lines == 2_000_000
    assert len(index._offsets) <= 2_000_000 // BLOCK + 2


def test_progress_frames_are_one_line_that_updates() -> None:
    store = LogStore()
    for step in range(100):
        store.feed(f"\r {step}%|{'#' * step}".encode())
        assert len(store) == 1
        assert store.line(0).text == f" {step}%|{'#' * step}"
    store.feed(b"\nnext")
    assert [store.line(n).text for n in range(2)] == [f" 99%|{'#' * 99}", "next"]
    store.close()


def test_an_endless_progress_line_stays_bounded() -> None:
    store = LogStore(spool_limit=400_000)
    for step in range(100_000):
        store.feed(b"\r %d it, a progress bar" % step)
    assert store.line(store.stop - 1).text == " 99999 it, a progress bar"
    assert len(store) == 1
    assert store.size <= 400_000
    store.close()


def test_a_huge_line_shows_its_beginning_or_its_last_frame() -> None:
    store = LogStore()
    store.feed(b"before\n" + b"a" * 1_000_000 + b"\nafter\n" + b"b" * 600_000 + b"\rlast frame\r\nend\n")
    assert store.raw(0) == (b"before", 0)
    raw, omitted = store.raw(1)
    assert raw == b"a" * WINDOW
    assert omitted == 1_000_000 - WINDOW
    assert store.raw(2) == (b"after", 0)
    assert store.line(3).text == "last frame"
    assert store.raw(4) == (b"end", 0)
    store.feed(b"c" * 1_000_000)
    assert store.raw(5)[0] == b"c" * WINDOW
    store.close()


def test_old_lines_are_dropped_and_numbers_stay() -> None:
    store = LogStore(spool_limit=80_000)
    for number in range(20_000):
        store.feed(b"line %06d\n" % number)
    assert store.stop == 20_000
    assert 0 < store.first < 20_000
    assert store.size <= 80_000
    for number in (store.first, store.first + 1, 19_999):
        assert store.line(number).text == f"line {number:06d}"
    with pytest.raises(IndexError, match="no line 0"):
        store.line(0)
    store.close()


def test_one_chunk_larger_than_the_spool() -> None:
    store = LogStore(spool_limit=8192)
    store.feed(b"".join(b"line %06d\n" % n for n in range(10_000)))
    assert store.stop == 10_000
    assert [store.line(n).text for n in (store.first, 9_999)] == [f"line {store.first:06d}", "line 009999"]
    store.close()


def test_a_line_is_whole_across_a_rotation() -> None:
    store = LogStore(spool_limit=80_000)
    store.feed(b"x" * 9_990 + b"\npart one, ")
    store.feed(b"part two" + b"." * 200 + b"\n")
    assert store.line(1).text == "part one, part two" + "." * 200
    store.close()


def test_a_replaced_or_truncated_file_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"one\ntwo\nthree\n")
    store = LogStore.open(path)
    store.poll()
    generation = store.generation
    assert len(store) == 3
    path.write_bytes(b"new\n")
    assert store.poll()
    assert store.generation > generation
    assert _lines(store) == [b"new"]
    other = tmp_path / "other"
    other.write_bytes(b"replaced, and longer than before\n")
    os.replace(other, path)
    store.poll()
    assert _lines(store) == [b"replaced, and longer than before"]
    store.close()


def test_a_missing_file_is_an_empty_log_and_no_problem(tmp_path: Path) -> None:
    store = LogStore.open(tmp_path / "log.txt")
    assert not store.poll()
    assert (len(store), store.problem) == (0, None)
    (tmp_path / "log.txt").write_bytes(b"here\n")
    assert store.poll()
    assert _lines(store) == [b"here"]
    with pytest.raises(ValueError, match="reads a file"):
        store.feed(b"x")
    store.close()


def test_a_folder_in_place_of_the_log_is_a_problem_in_words(tmp_path: Path) -> None:
    store = LogStore.open(tmp_path)
    assert not store.poll()
    assert store.problem is not None
    assert store.problem.startswith("the log cannot be read: ")


def test_clear_starts_again() -> None:
    store = LogStore()
    store.feed(b"a\nb\n")
    version, generation = store.version, store.generation
    store.clear()
    assert len(store) == 0
    assert store.version > version
    assert store.generation > generation
    store.feed(b"c\n")
    assert _lines(store) == [b"c"]
    store.close()


class _FullDisk(io.BytesIO):
    """A disk that takes 100,000 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 100_000:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_disk_that_fills_up_is_said_and_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "temporary_file", _FullDisk)
    store = LogStore()
    for number in range(60_000):
        store.feed(b"line %06d" % number)
        store.feed(b"\n")
    assert store.problem == "older log lines are not kept: No space left on device"
    assert [store.line(n).text for n in (0, 59_999)] == ["line 000000", "line 059999"]
    assert store.stop == 60_000
    store.close()


def test_reading_a_closed_segment_gives_nothing() -> None:
    segment = Segment(io.BytesIO())
    segment.append(b"a\n")
    segment.close()
    assert segment.read(0, 2) == b""


# -- search -----------------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    [
        "Error",
        "error",
        "ERROR",
        "x",
        "\x1b[31mer\x1b[1mror\x1b[0m",
        "漢字",
        "Émile",
        "\rover",
        "\t",
        "[/b]",
        "er",
        "ror",
    ]
)


@settings(deadline=None)
@given(
    st.lists(st.lists(_WORDS, max_size=5).map("".join), max_size=40),
    st.sampled_from(["error", "ERROR", "Error", "漢", "émile", "er", "[/b]", "zzz", "x"]),
)
def test_search_finds_exactly_the_lines_that_show_it(lines: list[str], text: str) -> None:
    store = LogStore()
    store.feed("".join(line + "\n" for line in lines).encode())
    query = Query(text)
    found = [line for _, hits in search(store, query, 0) for line in hits]
    shown = [store.line(number).text for number in range(store.stop)]
    fold = text == text.lower()
    expected = [n for n, line in enumerate(shown) if text in (line.lower() if fold else line)]
    assert found == expected
    assert all(query.spans(shown[n]) for n in found)
    store.close()


def test_search_over_many_chunks_and_from_the_middle() -> None:
    store = LogStore()
    for number in range(50_000):
        store.feed(b"line %06d %s\n" % (number, b"needle" if number % 1000 == 7 else b"hay " * 5))
    results = [line for _, hits in search(store, Query("needle"), 0) for line in hits]
    assert results == list(range(7, 50_000, 1000))
    later = [line for _, hits in search(store, Query("needle"), 1008) for line in hits]
    assert later == list(range(2007, 50_000, 1000))
    ends = [end for end, _ in search(store, Query("needle"), 1008)]
    assert ends[-1] == 50_000
    assert len(ends) > 3
    store.close()


def test_search_in_several_segments_and_after_dropping() -> None:
    store = LogStore(spool_limit=80_000)
    for number in range(20_000):
        store.feed(b"line %06d\n" % number)
    found = [line for _, hits in search(store, Query("00"), 0) for line in hits]
    expected = [n for n in range(store.first, 20_000) if "00" in f"{n:06d}"]
    assert found == expected
    store.close()


def test_a_line_longer_than_a_chunk_is_searched_whole() -> None:
    store = LogStore()
    store.feed(b"a\n" + b"." * 700_000 + b"needle" + b"." * 700_000 + b"\nb\nneedle\n")
    assert [line for _, hits in search(store, Query("needle"), 0) for line in hits] == [1, 3]
    store.close()


def test_matching_lines_gives_a_line_once() -> None:
    assert list(matching_lines(Query("a"), 10, b"aaa\nb\na a\n")) == [10, 12]


def test_walking_through_results() -> None:
    results = SearchResults(Query("x"))
    assert results.step(1, 0) is None
    results.add(_numbers(3, 7, 11), 20)
    assert results.nearest(5, complete=True) == 7
    assert (results.position, results.count) == (2, 3)
    assert [results.step(1, 0) for _ in range(3)] == [11, 3, 7]
    assert [results.step(-1, 0) for _ in range(3)] == [3, 11, 7]
    results.set_tail(20)
    assert results.count == 4
    assert [results.step(1, 0) for _ in range(3)] == [11, 20, 3]
    assert results.wrapped
    assert results.step(-1, 0) == 20
    assert results.position == 4
    assert results.step(-1, 0) == 11
    results.drop_before(8)
    assert results.count == 2
    assert results.position == 1


def test_the_nearest_match_waits_for_the_search() -> None:
    results = SearchResults(Query("x"))
    results.add(_numbers(3), 4)
    assert results.nearest(10, complete=False) is None
    assert results.nearest(10, complete=True) == 3
    assert SearchResults(Query("x")).nearest(0, complete=True) is None


def test_the_first_step_starts_at_the_origin() -> None:
    results = SearchResults(Query("x"))
    results.add(_numbers(3, 7, 11), 20)
    assert results.step(1, 7) == 7
    results.current = None
    assert results.step(-1, 7) == 7


def _numbers(*values: int) -> Any:
    from array import array

    return array("Q", values)
