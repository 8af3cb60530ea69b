"""Datasets drawn for the tests, and a data folder of their own."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("FLUXLORA_HOME", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


def draw(
    path: Path, size: tuple[int, int] = (64, 48), seed: int = 0, mode: str = "RGB", **save: object
) -> Path:
    """A picture with structure: a coarse random pattern, scaled up smoothly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = Image.frombytes("RGB", (9, 8), random.Random(seed).randbytes(9 * 8 * 3))
    small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, **save)  # type: ignore[arg-type]
    return path


def captioned(path: Path, text: str, size: tuple[int, int] = (64, 48), seed: int = 0) -> Path:
    draw(path, size, seed)
    path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return path


def full(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, after: int) -> None:
    """Make a function fail as a full disk does from the call after the first ``after`` on."""
    real: Callable[..., Any] = getattr(module, name)
    calls: list[object] = []

    def fails(path: Path, *rest: Any, **options: Any) -> Any:
        calls.append(path)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(module, name, fails)
