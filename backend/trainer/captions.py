"""From a caption file to the texts that the encoders see.

The rules and strings are ai-toolkit's (``toolkit/dataloader_mixins.py``, ``prompt_utils.py``), with
one difference: a dataset's own trigger word replaces the global one instead of joining it.
"""

from __future__ import annotations

import codecs
from pathlib import Path


class CaptionError(Exception):
    """A caption file cannot be read; the message says why, without the path."""


def read_caption(path: Path) -> str | None:
    """The text of a caption file as it is, newlines kept; None if there is no file.

    UTF-8 with or without a byte order mark, and UTF-16 with one (what Windows' Notepad called
    "Unicode"), are read. Anything else is refused rather than guessed: a wrong guess would train
    on gibberish.

    Raises:
        CaptionError: It cannot be read, or is in another encoding.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CaptionError(f"cannot be read ({error.strerror or error})") from None
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise CaptionError(f"is not UTF-8 text (byte {error.start + 1}); save it as UTF-8") from None


def choose_trigger(of_dataset: str | None, of_run: str | None) -> str | None:
    """The trigger word that holds for a dataset: its own, else the run's."""
    return of_dataset or of_run or None


def put_trigger(text: str, trigger: str | None) -> str:
    """Replace ``[trigger]`` and ``[name]``; prepend the trigger word where it does not occur.

    Without a trigger word the placeholders vanish. An empty text becomes ``"<trigger> "``, as in
    ai-toolkit.
    """
    text = fill_placeholders(text, trigger)
    return f"{trigger} {text}" if trigger and trigger not in text else text


def fill_placeholders(text: str, trigger: str | None) -> str:
    """Replace ``[trigger]`` and ``[name]`` by the trigger word, or by nothing."""
    word = trigger or ""
    return text.replace("[name]", word).replace("[trigger]", word)


def training_text(caption: str, trigger: str | None) -> str:
    """The text that a caption is trained with.

    The commas are rejoined as ai-toolkit does after its token shuffling (``"a,b"`` becomes
    ``"a, b"``); both tokenizers fold the double space that ``"a, b"`` gets.
    """
    return put_trigger(", ".join(caption.split(",")), trigger)


def dropped_text(trigger: str | None) -> str:
    """The text of a picture whose caption was dropped: the trigger word alone, or nothing."""
    return put_trigger("", trigger)
