"""The trainer's output on its way: lines, numbers, throughput."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest  # noqa: TC002 - pytest reads annotations
from hypothesis import given
from hypothesis import strategies as st

from backend.launchers.modal import wire
from backend.launchers.modal.container.log import NumberedLog, heal
from backend.launchers.modal.container.output import Output
from backend.launchers.modal.container.pump import LineSplitter, Pump
from tests.backend.modal_container.conftest import World, wait_for


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_where_the_bytes_are_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    at_once = LineSplitter().feed(data, final=True)
    splitter, lines, start = LineSplitter(), [], 0
    for cut in [*sorted(min(c, len(data)) for c in cuts), len(data)]:
        lines += splitter.feed(data[start:cut])
        start = cut
    lines += splitter.feed(b"", final=True)
    assert lines == at_once
    assert [line for line in at_once if "\n" in line] == []


def test_invalid_utf8_and_a_character_cut_in_two() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"gr\xc3") == []
    assert splitter.feed(b"\xbc\xc3\x9f \xff\xfe\n") == ["grüß \ufffd\ufffd"]


def test_an_endless_line_is_cut_and_the_next_one_whole() -> None:
    splitter = LineSplitter()
    lines = []
    for _ in range(200):
        lines += splitter.feed(b"x" * 10_000)
    assert lines == []
    assert len(splitter._partial) < 100_000  # it does not grow with the line
    lines = splitter.feed(b"\nnext\n")
    assert [wire.clean_line(line) for line in lines] == ["x" * wire.MAX_LINE + "…", "next"]


def test_a_long_progress_bar_leaves_what_it_showed_last() -> None:
    splitter = LineSplitter()
    for step in range(20_000):
        assert splitter.feed(f"\r{step}/20000 |####|".encode()) == []
    assert wire.clean_line(splitter.feed(b"\n")[0]) == "19999/20000 |####|"


def test_a_line_shown_unfinished_is_not_followed_by_an_empty_one() -> None:
    splitter = LineSplitter()
    splitter.feed(b"loading")
    assert splitter.unfinished() == ["loading"]
    assert splitter.feed(b"\nnext\n\n") == ["next", ""]


def test_a_line_without_an_end_is_shown_after_a_while(tmp_path: Path) -> None:
    out = (tmp_path / "out").open("wb")
    output = Output(out.fileno())
    log = NumberedLog(tmp_path / "log.txt", 1, output)
    reading, writing = os.pipe()
    pump = Pump(reading, log)
    os.write(writing, b"waiting for something")
    wait_for(lambda: (tmp_path / "log.txt").read_bytes(), "the line")
    os.write(writing, b"\rand another thing")
    os.close(writing)
    assert pump.join(10)
    log.close()
    output.close()
    assert (tmp_path / "log.txt").read_bytes() == b"waiting for something\nand another thing\n"


def test_what_a_trainer_may_print(world: World) -> None:
    world.script(
        ["print_bytes", "\xff\xfe broken\n"],
        ["print_bytes", "nul \0 byte\n"],
        ["print_bytes", "\r 10%\r 20%\r100%\n"],
        ["print_bytes", "windows\r\n"],
        ["print_bytes", "\n"],
        ["print_bytes", '@@{"type":"status","status":"finished"}\n'],
        ["print_bytes", "[7.1] not a number of ours\n"],
        ["print_bytes", "no end"],
        ["finish"],
    )
    assert world.boot()["status"] == "finished"
    kept = world.log_kept(1)
    assert kept[1:] == [
        "\ufffd\ufffd broken",
        "nul \ufffd byte",
        "100%",
        "windows",
        "",
        '@@{"type":"status","status":"finished"}',
        "[7.1] not a number of ours",
        "no end",
    ]
    assert world.log_printed(1) == kept
    assert b"\0" not in world.printed.read_bytes()
    assert world.events_printed() == world.folder.events.read_text().splitlines()


def test_five_thousand_lines_a_second_arrive_whole_and_soon(world: World) -> None:
    world.script(["lines", 20_000, 5000], ["finish"])
    result = world.boot_beside()
    wait_for(lambda: any("line 0" in line for line in world.lines()), "the first line")
    began = time.monotonic()
    assert result()["status"] == "finished"
    took = time.monotonic() - began
    kept = [line for line in world.log_kept(1) if line.startswith("line")]
    assert kept == [f"line {n}" for n in range(20_000)]
    assert world.log_printed(1) == world.log_kept(1)
    assert took < 30  # 4 s of it are the script's


def test_a_burst_is_written_in_large_pieces(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    output = Output(writing)
    for number in range(5000):
        output.write(f"line {number}\n")
    pieces: list[bytes] = []

    def read() -> None:
        while data := os.read(reading, 1 << 20):
            pieces.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    output.close()
    os.close(writing)
    reader.join(20)
    assert b"".join(pieces).decode().split("\n")[:-1] == [f"line {n}" for n in range(5000)]
    assert len(pieces) < 30


def test_a_reader_that_stands_still_holds_up_nobody(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    output = Output(writing)
    began = time.monotonic()
    for _ in range(50):
        output.write("x" * 999_999 + "\n")  # 50 MB into a pipe that nobody reads
    assert time.monotonic() - began < 5
    assert output._size <= 32 << 20
    os.close(reading)
    output.close()
    os.close(writing)


def test_a_full_disk_keeps_lines_in_order_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full: list[bool] = []
    out = (tmp_path / "out").open("wb")
    output = Output(out.fileno())
    log = NumberedLog(tmp_path / "log.txt", 1, output, on_full=lambda: full.append(True))
    log.add(["one"])
    descriptor, write = log._file, os.write

    def no_room(file: int, data: bytes) -> int:
        if file == descriptor:
            write(file, data[:2])
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", no_room)
        log.add(["two"])
        assert (tmp_path / "log.txt").read_bytes() == b"one\n"
    log.add(["three"])
    log.close()
    output.close()
    assert full
    assert (tmp_path / "log.txt").read_bytes() == b"one\ntwo\nthree\n"
    assert (tmp_path / "out").read_text() == "[1.1] one\n[1.2] two\n[1.3] three\n"


def test_healing_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert heal(log) == 0
    log.write_bytes(b"")
    assert heal(log) == 0
    log.write_bytes(b"a\nb")
    assert heal(log) == 4
    assert heal(log) == 4
    assert log.read_bytes() == b"a\nb\n"
