"""What the importers' tests share."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from config.importers import Imported
from config.load import check_config
from config.schema import RunConfig


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", (64, 64)).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text("a fox, red", encoding="utf-8")
    return folder


def trainable(imported: Imported, tmp_path: Path, *, missing: tuple[str, ...] = ()) -> RunConfig:
    """The imported config as the trainer sees it; nothing may be wrong but ``missing`` paths.

    A path that is missing is replaced by one that exists, to see the rest.
    """
    file = tmp_path / "imported.yaml"
    file.write_text(imported.text, encoding="utf-8")
    _, problems = check_config(file)
    unexpected = [p for p in problems if p.severity != "info" and not _is_missing(p.key, p.message, missing)]
    assert not unexpected, unexpected
    text = imported.text
    if missing:
        stand_in = pictures(tmp_path / "stand_in", 1)
        text = re.sub(r"(folder_path: ).*", lambda m: f"{m[1]}{stand_in}", text)
        text = re.sub(r"(name_or_path: )[./].*\.safetensors.*", r"\1a/b", text)
        file.write_text(text, encoding="utf-8")
    loaded, problems = check_config(file)
    assert loaded is not None, problems
    return loaded.config


def _is_missing(key: str, message: str, allowed: tuple[str, ...]) -> bool:
    return "there is no" in message and any(name in key for name in allowed)
