"""From a caption file to the texts that the encoders see.

The rules and strings are ai-toolkit's (``toolkit/dataloader_mixins.py``, ``prompt_utils.py``), with
these differences: a dataset's own trigger word replaces the global one instead of joining it, and
``keep_tokens`` keeps its parts from being shuffled as well as from being left out.
"""

from __future__ import annotations

import codecs
import random
from dataclasses import dataclass
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
    return decode_caption(raw)


def decode_caption(raw: bytes) -> str:
    """The text of a caption file's bytes.

    Raises:
        CaptionError: They are in another encoding than :func:`read_caption` allows.
    """
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


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """How the captions of a dataset become texts, if they are more than read.

    Attributes:
        trigger: The trigger word that holds for the dataset.
        add_trigger: Whether it is prepended where it is missing; regularisation sets go without.
        shuffle: Whether the comma-separated parts are shuffled.
        dropout: Probability of leaving out each part.
        keep: How many parts at the start are neither shuffled nor left out.
        extra: Words of which some are appended.
        extra_max: How many of them at the most.
    """

    trigger: str | None = None
    add_trigger: bool = True
    shuffle: bool = False
    dropout: float = 0.0
    keep: int = 0
    extra: tuple[str, ...] = ()
    extra_max: int = 1

    @property
    def vary(self) -> bool:
        """Whether a caption can become more than one text."""
        return self.shuffle or self.dropout > 0 or bool(self.extra)

    def plain(self, caption: str) -> str:
        """The caption's text without any chance in it."""
        if self.add_trigger:
            return training_text(caption, self.trigger)
        return fill_placeholders(", ".join(caption.split(",")), self.trigger)

    def dropped(self) -> str:
        """The text of a picture whose caption is dropped."""
        return dropped_text(self.trigger) if self.add_trigger else ""

    def varied(self, caption: str, seed: int) -> str:
        """One text that chance makes of the caption; the same one for the same seed.

        The order of things is ai-toolkit's: parts are left out, the rest is shuffled, the trigger word
        comes in front, extra words go to the end, and everything is shuffled once more.
        """
        chance = random.Random(seed)
        parts = [part.strip() for part in caption.split(",")]
        kept, rest = parts[: self.keep], parts[self.keep :]
        rest = [part for part in rest if chance.random() >= self.dropout]
        if self.shuffle:
            chance.shuffle(rest)
        text = ", ".join(kept + rest)
        text = put_trigger(text, self.trigger) if self.add_trigger else fill_placeholders(text, self.trigger)
        if self.extra:
            # One is always appended; of several any number, none included (as ai-toolkit).
            count = 1 if self.extra_max == 1 else chance.randint(0, self.extra_max)
            words = chance.sample(self.extra, min(count, len(self.extra)))
            text = ", ".join([text, *words] if text.strip() else words)
        if self.shuffle:
            parts = [part.strip() for part in text.split(",")]
            kept, rest = parts[: self.keep], parts[self.keep :]
            chance.shuffle(rest)
            text = ", ".join(kept + rest)
        return text


def dropped_text(trigger: str | None) -> str:
    """The text of a picture whose caption was dropped: the trigger word alone, or nothing."""
    return put_trigger("", trigger)
