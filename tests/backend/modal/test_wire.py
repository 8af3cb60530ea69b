"""Events and numbered lines survive the way through a container's output."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.events import StepEvent, decode, encode
from backend.launchers.modal.wire import (
    MAX_LINE,
    EventLine,
    ForeignLine,
    LogLine,
    clean_line,
    event_line,
    log_line,
    parse,
)

RAW = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=60)


@given(raw=RAW, boot=st.integers(1, 999_999), number=st.integers(1, 10**12 - 1))
def test_a_cleaned_line_comes_out_as_it_went_in(raw: str, boot: int, number: int) -> None:
    text = clean_line(raw)
    printed = log_line(boot, number, text)

    assert printed.endswith("\n")
    assert printed.count("\n") == 1
    assert parse(printed) == LogLine(boot, number, text)
    assert parse(printed.rstrip("\n")) == LogLine(boot, number, text)


@pytest.mark.parametrize("sampler", [False, True])
def test_an_event_comes_out_as_it_went_in(sampler: bool) -> None:
    event = StepEvent(seq=1_000_001, step=3, loss=float("nan"), smoothed=0.5, lr=1e-4)
    written = encode(event).decode()

    parsed = parse(event_line(written, sampler=sampler))

    assert parsed == EventLine(written.rstrip("\n"), sampler)
    assert isinstance(parsed, EventLine)
    read = decode(parsed.json)
    assert isinstance(read, StepEvent)
    assert (read.seq, read.step) == (1_000_001, 3)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ("plain\n", "plain"),
        ("plain\r\n", "plain"),
        (" 1%\r 50%\r100%", "100%"),
        ("100%\r\n", "100%"),
        ("", ""),
        ("  lead", "  lead"),
    ],
)
def test_of_a_progress_bar_the_last_state_is_kept(raw: str, kept: str) -> None:
    assert clean_line(raw) == kept


def test_an_endless_line_is_cut_once() -> None:
    cut = clean_line("x" * (MAX_LINE + 500))

    assert len(cut) == MAX_LINE + 1
    assert cut.endswith("…")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "@@",
        "@@x{}",
        "@{}",
        "[1.2",
        "[a.b] x",
        "[.2] x",
        " [1.2] x",
        "[1] x",
        "Traceback (most recent",
    ],
)
def test_everything_else_is_somebody_elses(line: str) -> None:
    assert parse(line) == ForeignLine(line)


def test_the_container_needs_nothing_but_the_standard_library_for_it() -> None:
    code = (
        "import sys; before = set(sys.modules); import backend.launchers.modal.wire;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['backend']"
