from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.logs.cells import row_starts, text_width, window
from tui.logs.levels import Level, level_words
from tui.logs.lines import MAX_CHARACTERS, last_frame, parse_line, visible_text

_HOSTILE = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [
                b"\x1b[31m",
                b"\x1b[0m",
                b"\x1b]52;c;aGVsbG8=\x07",
                b"\x1b]0;title\x1b\\",
                b"\x1bPq#0\x1b\\",
                b"\x1b[2J",
                b"\x1b[",
                b"\x1b",
                b"\x1b]8;;http://x",
                b"\xc2\x9b31m",
                b"\xc2\x9d0;x\xc2\x9c",
                b"\r",
                b"\t",
                b"\x00",
                b"\x08",
                "漢字".encode(),
                "e\u0301".encode(),
                "\u202e".encode(),
                "👩\u200d🚀❤\ufe0f".encode(),
                b"[/b]",
                b"text ",
            ]
        ),
    ),
    max_size=30,
).map(lambda parts: b"".join(parts).replace(b"\n", b""))


@given(_HOSTILE)
@example(b"\xdc\x8f")  # U+070F, Syriac abbreviation mark: a format character among letters
def test_nothing_but_printable_characters_is_shown(raw: bytes) -> None:
    line = parse_line(raw)
    bad = [c for c in line.text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")]
    assert not bad
    assert len(line.text) <= MAX_CHARACTERS
    position = 0
    for start, end, _ in line.spans:
        assert position <= start < end <= len(line.text)
        position = end


def test_no_format_character_of_this_python_is_shown() -> None:
    everything = "".join(map(chr, (*range(0xD800), *range(0xE000, sys.maxunicode + 1)))).replace("\n", "")
    kept = visible_text(everything)
    assert not {f"U+{ord(c):04X}" for c in kept if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")}


@given(_HOSTILE)
def test_search_sees_the_text_that_is_shown(raw: bytes) -> None:
    assert visible_text(raw.decode("utf-8", "replace")) == parse_line(raw).text


@given(st.lists(_HOSTILE, max_size=6))
def test_cleaning_many_lines_at_once_keeps_them_apart(lines: list[bytes]) -> None:
    block = b"\n".join(lines).decode("utf-8", "replace")
    assert visible_text(block).split("\n") == [parse_line(line).text for line in block.encode().split(b"\n")]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b" 10%|#  |\r 20%|## |", " 20%|## |"),
        (b" 10%\r 20%\r", " 20%"),
        (b"windows\r", "windows"),
        (b"\r\r", ""),
        (b"a\x1b]52;c;c2VjcmV0\x07b", "ab"),
        (b"a\x1b]0;title\x1b\\b", "ab"),
        (b"a\x1b]0;never ended", "a"),
        (b"a\x1b[10;20Hb\x1b[2Jc\x1b[?25ld", "abcd"),
        (b"a\x1bcb", "ab"),
        (b"cut \x1b[3", "cut "),
        (b"nul\x00 bell\x07 back\x08", "nul bell back"),
        (b"[/b] [red]x[/] [@click=app.quit]y[/]", "[/b] [red]x[/] [@click=app.quit]y[/]"),
        ("abc \u202eevil\u202c \u2066x\u2069".encode(), "abc evil x"),
        (b"bad \xff\xfe utf-8", "bad \ufffd\ufffd utf-8"),
        (b"a\tb", "a       b"),
        (b"\x1b[31ma\x1b[0m\tb", "a       b"),
    ],
)
def test_what_is_shown_of_a_line(raw: bytes, text: str) -> None:
    assert parse_line(raw).text == text


def test_colours_are_kept_and_nothing_is_hidden_by_them() -> None:
    line = parse_line(
        b"\x1b[1;31mred\x1b[0m plain \x1b[38;5;208morange\x1b[39m \x1b[48;2;1;2;3mbg\x1b[8;5mhere"
    )
    shown = [(line.text[a:b], str(style)) for a, b, style in line.spans]
    assert shown[0] == ("red", "bold color(1)")
    assert shown[1] == ("orange", "color(208)")
    assert shown[-2] == ("bg", "default on #010203")
    assert shown[-1] == ("here", "default on #010203")  # neither concealed nor blinking


@pytest.mark.parametrize(
    "sgr", [b"38", b"38;5", b"38;2;1;2", b"38;9;1", b"999", b";;;", b"48;5;9999", b"4:3", b"1" * 5000]
)
def test_malformed_colours_do_no_harm(sgr: bytes) -> None:
    assert parse_line(b"a\x1b[" + sgr + b"mb").text == "ab"


def test_a_long_line_is_cut_with_a_count() -> None:
    line = parse_line(b"x" * 1_000_000, omitted=7)
    assert len(line.text) == MAX_CHARACTERS
    assert line.hidden == 1_000_000 - MAX_CHARACTERS + 7


def test_frames() -> None:
    assert last_frame("a\rb\rc") == "c"
    assert last_frame("a\rb\r\r") == "b"
    assert last_frame("") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2025 WARNING: disk", [("WARNING", Level.WARNING)]),
        ("ERROR and WARN", [("ERROR", Level.ERROR), ("WARN", Level.WARNING)]),
        ("ValueError: no", [("ValueError", Level.ERROR)]),
        ("UserWarning: hm", [("UserWarning", Level.WARNING)]),
        ("Traceback (most recent call last):", [("Traceback", Level.ERROR)]),
        ("error: cannot", [("error", Level.ERROR)]),
        ("no errors, 0 warnings, terror", []),
        ("mean error 0.1", []),
    ],
)
def test_level_words(text: str, words: list[tuple[str, Level]]) -> None:
    assert [(text[a:b], level) for a, b, level in level_words(text)] == words


_TEXT = st.text(alphabet=st.sampled_from("ab 漢e\u0301ש界-"), max_size=60)


@given(_TEXT, st.integers(2, 20))
def test_wrapped_rows_fit_and_lose_nothing(text: str, width: int) -> None:
    starts = row_starts(text, width)
    assert starts[0] == 0
    assert list(starts) == sorted(set(starts))
    ends = [*starts[1:], len(text)]
    for start, end in zip(starts, ends, strict=True):
        assert cell_len(text[start:end]) <= width
        assert start == 0 or text[start] != "\u0301"


def test_rows_break_at_words() -> None:
    text = "the quick brown fox"
    starts = row_starts(text, 10)
    assert [text[a:b] for a, b in zip(starts, [*starts[1:], len(text)], strict=True)] == [
        "the quick ",
        "brown fox",
    ]


@given(_TEXT, st.integers(0, 30), st.integers(1, 20))
def test_a_window_of_cells_shows_whole_characters(text: str, column: int, width: int) -> None:
    start, end, lead = window(text, column, width)
    shown = " " * lead + text[start:end]
    assert cell_len(shown) <= width
    # Everything before the window ends where it begins, but for a wide character cut in half.
    assert text_width(text[:start]) in (column, column + lead) or start == len(text)
