"""The small picture inside a LoRA file, which model managers show."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

EDGE = 256  # pixels
_QUALITY = 80
_NAME = re.compile(r"(\d+)__(\d+)_(\d+)\.(?:jpg|png|webp)")


def newest_round(folder: Path) -> list[tuple[int, Path]]:
    """The pictures of the newest step in a run's folder of samples, with their prompts' numbers.

    Names are ``<milliseconds>__<step>_<index>.<format>``; of pictures drawn twice the later one counts.
    """
    found: dict[tuple[int, int], tuple[int, Path]] = {}
    try:
        paths = list(folder.iterdir())
    except OSError:
        return []
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match:
            time, step, index = (int(part) for part in match.groups())
            found[step, index] = max((time, path), found.get((step, index), (0, path)))
    newest = max((step for step, _ in found), default=0)
    return [(index, path) for (step, index), (_, path) in sorted(found.items()) if step == newest]


def newest_sample(folder: Path) -> Path | None:
    """The first picture of the newest round; None if there is none."""
    return next((path for _, path in newest_round(folder)), None)


def preview_uri(picture: Path | None) -> str | None:
    """A picture as a JPEG of at most 256 pixels a side in a ``data:`` URI; None if it cannot be read."""
    from PIL import Image

    if picture is None:
        return None
    try:
        with Image.open(picture) as image:
            small = image.convert("RGB")
            small.thumbnail((EDGE, EDGE))
            file = io.BytesIO()
            small.save(file, format="JPEG", quality=_QUALITY)
    except (OSError, ValueError):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
