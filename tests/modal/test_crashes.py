"""The computer is switched off at every moment of a launch; nothing is left on Modal that nobody knows of."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from backend.launchers.modal.journal import Journal, Stage, journal_file, write_journal
from backend.runs.folder import RunFolder
from tests.modal.client import Client


def some_time_ago(computer: Client, run: RunFolder) -> None:
    """As if all this had been minutes ago: at first a run without a courier may only be about to get one."""
    then = time.time() - 300
    record = run.read_record()
    assert record is not None
    run.write_record(replace(record, created=then))
    write_journal(run.path, replace(computer.journal(run), changed=then))
    text = run.events.read_text(encoding="utf-8")
    run.events.write_text(re.sub(r'"t":[\d.]+', f'"t":{then}', text), encoding="utf-8")


def with_journal(run: RunFolder, journal: Journal, **changes: object) -> None:
    write_journal(run.path, journal.with_(**changes))


def test_switched_off_before_anything_is_on_modal(pretend: Callable[..., Client]) -> None:
    computer = pretend()
    computer.cloud.latency(1.0)
    run = computer.launch()
    computer.status(run)  # it is in the list of runs
    computer.switch_off()
    assert computer.journal(run).stage is Stage.PREPARING
    computer.cloud.latency(0.0)
    some_time_ago(computer, run)
    status = computer.status(run)
    assert status["status"] == "interrupted"
    assert not computer.cloud.apps()
    resumed = computer.run("resume", status["id"])
    assert resumed.returncode == 0, resumed.stderr
    assert computer.wait_for_end(run)["status"] == "finished"


def test_switched_off_while_the_image_is_built(pretend: Callable[..., Client]) -> None:
    computer = pretend()
    computer.cloud.build_delay(20)
    run = computer.launch()
    computer.wait(computer.cloud.apps, 60, "an app")
    computer.wait(lambda: computer.journal(run).app_id, 60, "the app's id in the journal")
    computer.switch_off()
    assert computer.journal(run).stage is Stage.LAUNCHING
    assert computer.live_apps()
    computer.cloud.build_delay(0)
    status = computer.wait_for_end(run)
    assert status["status"] == "interrupted"
    assert "nothing is left there" in computer.said(run)
    assert not computer.live_apps()
    computer.settles()
    assert not computer.cloud.calls()


@pytest.mark.parametrize("known", ["nothing", pytest.param("the app's id", marks=pytest.mark.thorough)])
def test_switched_off_between_the_call_and_the_note_of_it(pretend: Callable[..., Client], known: str) -> None:
    computer = pretend(pause=0.1)
    computer.cloud.knobs.detached_apps_stop = False  # it is over only if somebody stops it
    run = computer.launch("train.steps=100")
    computer.wait(lambda: computer.journal(run).stage is Stage.SPAWNED, 60, "spawned")
    computer.switch_off()
    journal = computer.journal(run)
    with_journal(
        run,
        journal,
        stage=Stage.LAUNCHING,
        call_id=None,
        function_id=None,
        spawned=None,
        app_id=journal.app_id if known == "the app's id" else None,
    )
    status = computer.wait_for_end(run)
    assert (status["status"], status["step"]) == ("finished", 100), computer.report()
    assert computer.steps(run) == list(range(1, 101))
    assert len(computer.cloud.apps()) == 1  # adopted, not launched again
    assert not computer.live_apps()
    computer.settles()


def test_switched_off_while_the_last_words_are_written(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.01)
    computer.cloud.knobs.detached_apps_stop = False
    run = computer.launch("train.steps=30")
    computer.wait(
        lambda: '"finished"' in (run.events.read_text(encoding="utf-8") if run.events.exists() else ""),
        60,
        "the last word",
    )
    computer.switch_off()
    status = computer.wait_for_end(run)
    assert (status["status"], status["step"]) == ("finished", 30)
    assert computer.steps(run) == list(range(1, 31))
    assert not computer.live_apps()
    computer.settles()


def test_a_damaged_journal_is_said_and_nothing_is_guessed(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.01)
    run = computer.launch("train.steps=5")
    computer.wait_for_end(run)
    journal_file(run.path).write_text("{", encoding="utf-8")
    result = computer.run("resume", "last")
    assert result.returncode == 1
    assert "no readable journal" in result.stderr


def test_killed_again_and_again(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.05, lines=4)
    run = computer.launch("train.steps=160")
    computer.wait(lambda: computer.journal(run).stage is Stage.SPAWNED, 60, "spawned")
    for _ in range(3):
        seen = len(computer.steps(run))
        computer.status(run)  # somebody looks, so there is a courier
        computer.wait(lambda seen=seen: len(computer.steps(run)) > seen, 60, "news")
        computer.switch_off()
    status = computer.wait_for_end(run)
    assert (status["status"], status["step"]) == ("finished", 160)
    assert computer.steps(run) == list(range(1, 161))
