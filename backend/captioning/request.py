"""What a captioning job is asked to do."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from backend.datasets.errors import DatasetError


class CaptioningError(DatasetError):
    """A captioning job cannot be made or started; the message is one sentence for people."""


@dataclass(frozen=True)
class CaptionRequest:
    """What a captioning job is asked to do.

    Attributes:
        folder: The dataset.
        model: A preset's name, a folder, or a Hub id.
        prompt: Asked about each picture; empty for the model's usual one. ``{trigger}`` and ``{caption}``
            (what the picture's caption says so far) are filled in.
        trigger: Put at the beginning of captions that lack it; may be empty.
        everything: Also pictures that have a caption; without it they are left alone.
        names: Only these pictures (names as in a scan); all if None.
        caption_ext: Extension of caption files.
        batch: Pictures at a time; a crash loses those in hand, so it is one unless asked for more.
        tokens: Longest answer.
        device: ``cuda``, ``mps``, ``cpu``; empty for the best there is.
    """

    folder: Path
    model: str
    prompt: str = ""
    trigger: str = ""
    everything: bool = False
    names: tuple[str, ...] | None = None
    caption_ext: str = ".txt"
    batch: int = 1
    tokens: int = 256
    device: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "folder": str(self.folder), "names": self.names and list(self.names)}

    @property
    def digest(self) -> str:
        """The same for the same request."""
        text = json.dumps(self.record, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def request_of(record: Any) -> CaptionRequest:
    """The request in a job's ``request.json``.

    Raises:
        CaptioningError: It is none.
    """
    try:
        names = record["names"]
        return CaptionRequest(
            Path(record["folder"]),
            str(record["model"]),
            str(record["prompt"]),
            str(record["trigger"]),
            bool(record["everything"]),
            None if names is None else tuple(str(name) for name in names),
            str(record["caption_ext"]),
            int(record["batch"]),
            int(record["tokens"]),
            str(record["device"]),
        )
    except (KeyError, TypeError, ValueError):
        raise CaptioningError("this folder holds no captioning job: its request.json is damaged") from None
