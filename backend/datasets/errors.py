"""What goes wrong with a dataset."""

from __future__ import annotations


class DatasetError(Exception):
    """Something about a dataset cannot be done; the message is one sentence for people."""


def reason(error: OSError) -> str:
    """Why the operating system refused, in its own words and lower case."""
    return (error.strerror or str(error)).lower()
