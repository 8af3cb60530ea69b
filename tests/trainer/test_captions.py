from __future__ import annotations

from pathlib import Path

import pytest

from backend.trainer.captions import (
    CaptionError,
    choose_trigger,
    dropped_text,
    fill_placeholders,
    put_trigger,
    read_caption,
    training_text,
)


def test_the_trigger_is_prepended_where_it_is_missing() -> None:
    assert training_text("a cat", "zork") == "zork a cat"
    assert training_text("a zork cat", "zork") == "a zork cat"
    assert training_text("zorkish cat", "zork") == "zorkish cat"  # a substring counts
    assert training_text("a cat", None) == "a cat"


def test_placeholders_become_the_trigger_or_nothing() -> None:
    assert training_text("[trigger] and [name]", "zork") == "zork and zork"
    assert put_trigger("a [trigger] cat", None) == "a  cat"
    assert fill_placeholders("a [trigger] cat", "zork") == "a zork cat"
    assert fill_placeholders("a cat", "zork") == "a cat"  # sample prompts get no trigger they do not ask for


def test_commas_are_rejoined_as_ai_toolkit_does() -> None:
    assert training_text("a,b", None) == "a, b"
    assert training_text("a, b", None) == "a,  b"


def test_a_dropped_caption_leaves_the_trigger_and_a_space() -> None:
    assert dropped_text("zork") == "zork "
    assert dropped_text(None) == ""


def test_the_datasets_trigger_wins() -> None:
    assert choose_trigger("mine", "theirs") == "mine"
    assert choose_trigger(None, "theirs") == choose_trigger("", "theirs") == "theirs"
    assert choose_trigger("", "") is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_are_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("ein Häuschen\nim Grünen".encode(encoding))
    assert read_caption(file) == "ein Häuschen\nim Grünen"


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("Häuschen".encode("latin-1"))
    with pytest.raises(CaptionError, match=r"not UTF-8 text \(byte 2\)"):
        read_caption(file)


def test_a_missing_file_is_no_error(tmp_path: Path) -> None:
    assert read_caption(tmp_path / "a.txt") is None
