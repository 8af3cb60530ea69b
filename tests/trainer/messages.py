"""Hears what libraries complain about."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

_LIBRARIES = ("diffusers", "transformers", "peft", "huggingface_hub", "accelerate")


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """A list that fills with warnings, Python's and those logged by any library, while it is open."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(f"{record.name}: {record.getMessage()}")

    ear = Ear(logging.WARNING)
    # Hugging Face's loggers do not propagate, and may have been silenced by what ran before.
    loggers = [logging.getLogger(name) for name in (None, *_LIBRARIES)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(ear)
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield heard
        heard += [f"{w.category.__name__}: {w.message}" for w in caught]
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(ear)
            logger.setLevel(level)
