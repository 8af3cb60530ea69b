"""Reading a dataset, and whoever types meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from tests.tui.dataset_folders import make_dataset
from tests.tui.fakes import until
from tui.datasets import feed as feeds
from tui.datasets.feed import DatasetFeed
from tui.datasets.session import DatasetSession


async def test_reading_steps_aside_for_whoever_types_and_problems_wait_for_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[str] = []
    monkeypatch.setattr(feeds.time, "sleep", lambda seconds: naps.append(threading.current_thread().name))
    folder = make_dataset(tmp_path / "animals")
    session, told, keys = DatasetSession(folder, tmp_path / "home"), [], True
    feed = DatasetFeed(session, told.append, pytest.fail, typing=lambda: keys)
    following = asyncio.create_task(feed.follow())
    try:
        await until(lambda: "scanned" in told)
        assert len(naps) == len(session.items) == 5  # one a picture
        assert "MainThread" not in naps
        await asyncio.sleep(2 * feeds._CALM)
        assert "problems" not in told
        keys = False
        await until(lambda: "problems" in told)
        await until(lambda: feed.calm)
        assert len(naps) == 5  # nor for comparing pictures, now that nobody types
    finally:
        feed.close()
        await following


async def test_problems_do_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_PATIENCE", 0.1)
    session, told = DatasetSession(make_dataset(tmp_path / "animals"), tmp_path / "home"), []
    feed = DatasetFeed(session, told.append, pytest.fail, typing=lambda: True)
    following = asyncio.create_task(feed.follow())
    try:
        await until(lambda: "problems" in told)
    finally:
        feed.close()
        await following
