"""Checks of long texts in a process of their own."""

from __future__ import annotations

import asyncio
import io
import pickle
import signal
import sys
from pathlib import Path

import pytest

from tests.tui.config_pilot import TEXT, checked, editing, project
from tests.tui.fakes import screen_text, until
from tui.configs.text import LARGE, Findings, form_of, look, reckon
from tui.configs.worker import _DEATHS, _SIZE, CheckProcess, Overtaken, serve

LONG = TEXT + "# a line\n" * LARGE


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)


async def test_the_child_says_what_a_thread_would(tmp_path: Path) -> None:
    text = TEXT.replace("steps: 2000", "steps: many")
    path = tmp_path / "fox.yaml"
    checks = CheckProcess()
    try:
        assert await checks.call(look, path, text, form=True) == look(path, text, form=True)
        assert checks.pid is not None
        assert await checks.call(form_of, path, TEXT) == form_of(path, TEXT)
        assert await checks.call(reckon, path, TEXT) == reckon(path, TEXT)
    finally:
        await checks.close()
    assert checks.pid is None


async def test_what_was_overtaken_is_not_checked(tmp_path: Path) -> None:
    checks = CheckProcess()
    path = tmp_path / "fox.yaml"
    try:
        results = await asyncio.gather(
            *(checks.call(look, path, TEXT.replace("2000", str(n)), form=False) for n in (-1, -2, 300)),
            return_exceptions=True,
        )
    finally:
        await checks.close()
    assert [isinstance(result, Overtaken) for result in results] == [True, True, False]
    assert isinstance(results[2], Findings)
    assert not [p for p in results[2].problems if p.severity == "error"]


async def test_whoever_stops_waiting_does_not_disturb_the_next(tmp_path: Path) -> None:
    checks = CheckProcess()
    path = tmp_path / "fox.yaml"
    try:
        first = asyncio.create_task(checks.call(look, path, TEXT, form=True))
        await until(lambda: checks.pid is not None)
        first.cancel()
        assert await checks.call(form_of, path, TEXT) == form_of(path, TEXT)
    finally:
        await checks.close()


async def test_a_child_that_was_killed_is_replaced(tmp_path: Path) -> None:
    checks = CheckProcess()
    path = tmp_path / "fox.yaml"
    try:
        pids = set()
        for _ in range(_DEATHS + 1):  # deaths with answers between them are not counted together
            assert await checks.call(form_of, path, TEXT) == form_of(path, TEXT)
            child = checks._child
            assert child is not None
            pids.add(child.pid)
            child.kill()
            await child.wait()
        assert len(pids) == _DEATHS + 1
        # Also in the middle of a request: stopped, it cannot answer before it dies.
        assert await checks.call(form_of, path, TEXT) == form_of(path, TEXT)
        child = checks._child
        assert child is not None
        child.send_signal(signal.SIGSTOP)
        asked = asyncio.create_task(checks.call(look, path, TEXT, form=False))
        await until(lambda: checks._turn.locked())
        child.kill()
        assert await asked == look(path, TEXT, form=False)
        assert checks.pid not in (None, child.pid)
    finally:
        await checks.close()


async def test_a_child_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    program = f"open({str(starts)!r}, 'a').write('x'); input()"
    checks = CheckProcess((sys.executable, "-c", program))
    path = tmp_path / "fox.yaml"
    for _ in range(2):
        assert await checks.call(look, path, TEXT, form=False) == look(path, TEXT, form=False)
    assert checks.pid is None
    assert starts.read_text(encoding="utf-8") == "x" * _DEATHS
    await checks.close()


@pytest.mark.parametrize("command", [("/no/such/program",), (sys.executable, "-c", "print('no answer')")])
async def test_without_a_child_a_thread_does_it(tmp_path: Path, command: tuple[str, ...]) -> None:
    checks = CheckProcess(command)
    path = tmp_path / "fox.yaml"
    assert await checks.call(look, path, TEXT, form=False) == look(path, TEXT, form=False)
    assert checks.pid is None
    await checks.close()


def test_a_failure_is_an_answer_and_other_names_are_refused() -> None:
    def asked(*request: object) -> io.BytesIO:
        data = pickle.dumps(request)
        return io.BytesIO(_SIZE.pack(len(data)) + data)

    sink = io.BytesIO()
    serve(asked("look", (), {}), sink)
    failed, error = pickle.loads(sink.getvalue()[_SIZE.size :])
    assert failed
    assert "TypeError" in str(error)
    with pytest.raises(ValueError, match="Path is not among"):
        serve(asked("Path", (), {}), sink)


async def test_a_long_text_is_checked_by_a_child_that_ends_with_the_editor(tmp_path: Path) -> None:
    async with editing(tmp_path, LONG.replace("steps: 2000", "steps: many")) as (pilot, screen):
        await until(lambda: "1 error" in screen_text(pilot.app))
        child = screen.checks._child
        assert child is not None
        screen.area.go_to(next(i for i, row in enumerate(LONG.split("\n")) if "steps: 2000" in row))
        await pilot.press("end", *["backspace"] * 4, "9", "0")
        await checked(screen)
        assert "1 error" not in screen_text(pilot.app)
        await pilot.press("ctrl+s", "escape")
        await until(lambda: child.returncode is not None)


async def test_a_short_text_needs_no_child(tmp_path: Path) -> None:
    async with editing(tmp_path) as (_pilot, screen):
        assert screen.checks.pid is None
