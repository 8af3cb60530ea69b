"""Commands to a running trainer: their files, the reasons of a stop, and the local launcher."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.events import CommandEvent, StatusEvent, decode, encode
from backend.launchers.base import LaunchError, LaunchRequest
from backend.launchers.local import LocalLauncher
from backend.launchers.process import is_alive
from backend.runs import commands
from backend.runs.commands import Command
from backend.runs.folder import RunFolder
from backend.runs.stop_request import BUDGET_USED_UP, StopRequest, read_stop, write_stop
from backend.runs.stream import EventTail
from backend.runs.view import RunView

from .test_local_launcher import launch, steps_done, until

Config = Callable[..., Path]


# -- the files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [Command(kind="save"), Command(kind="stop"), Command(kind="sample"), Command(kind="extend", steps=900)],
)
def test_a_command_survives_its_file(tmp_path: Path, command: Command) -> None:
    path = commands.send(tmp_path / "state" / "control", command)
    (letter,) = commands.waiting(path.parent)
    assert letter.command == command
    assert (letter.path, letter.id, letter.kind) == (path, command.id, command.kind)


def test_commands_are_read_in_the_order_in_which_they_were_sent(tmp_path: Path) -> None:
    sent = [Command(kind="save", at=at) for at in (1763906592.5, 1763906591.25, 999999999.0)]
    for command in sent:
        commands.send(tmp_path, command)
    assert [letter.id for letter in commands.waiting(tmp_path)] == [c.id for c in reversed(sent)]


def test_what_is_no_command_is_told_from_what_is_no_file_of_ours(tmp_path: Path) -> None:
    commands.send(tmp_path, Command(kind="save", id="good", at=5.0))
    foreign = {
        "0000000000001-newer.json": json.dumps({"v": 9, "id": "newer", "kind": "teleport", "at": 1}),
        "0000000000002-torn.json": '{"kind": "sa',
        "0000000000003-list.json": "[1]",
        "0000000000004-nothing.json": json.dumps({"id": "nothing", "kind": "extend", "at": 1}),
    }
    for name, text in foreign.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / ".0000000000009-half.json.abc.tmp").write_text("{")
    (tmp_path / "notes.txt").write_text("hello")
    letters = {letter.id: letter for letter in commands.waiting(tmp_path)}
    assert set(letters) == {"newer", "torn", "list", "nothing", "good"}
    assert [i for i, letter in letters.items() if letter.command is not None] == ["good"]
    assert letters["newer"].kind == "teleport"
    assert commands.waiting(tmp_path / "no" / "such") == []


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "dance"},
        {"kind": "extend"},
        {"kind": "extend", "steps": 0},
        {"kind": "extend", "steps": True},
        {"kind": "save", "steps": 3},
        {"kind": "save", "id": "../../x"},
        {"kind": "save", "id": ""},
    ],
)
def test_impossible_commands_cannot_be_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Command(**fields)


def test_an_answer_is_an_event_and_tells_the_new_total() -> None:
    answer = CommandEvent(seq=3, t=1.5, id="abc", kind="extend", ok=True, detail="900 steps", steps=900)
    assert decode(encode(answer)) == answer
    view = RunView(steps=100)
    view.apply([answer, CommandEvent(id="d", kind="save", ok=False, detail="no")])
    assert view.steps == 900
    assert not view.answers["d"].ok
    assert view.answers["abc"].detail == "900 steps"


# -- why a run stops -----------------------------------------------------------------------------


def test_a_stop_file_says_why(tmp_path: Path) -> None:
    file = tmp_path / "stop"
    assert read_stop(file) is None
    for request in (StopRequest(), StopRequest("preempted"), StopRequest("budget", "no money left")):
        write_stop(file, request)
        assert read_stop(file) == request
    assert StopRequest("budget").sentence == BUDGET_USED_UP
    assert StopRequest("preempted").goes_on
    assert not StopRequest().sentence


@pytest.mark.parametrize("text", ["", "stop!", "[]", '{"why": "boredom"}', '{"why": ["user"]}', "\x00\xff"])
def test_any_other_stop_file_is_a_persons_wish(tmp_path: Path, text: str) -> None:
    file = tmp_path / "stop"
    file.write_bytes(text.encode("latin-1"))
    assert read_stop(file) == StopRequest("user")


def test_a_reason_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "stop"
    file.write_text(json.dumps({"why": "cancelled", "reason": "a\nb\r\n" + "x" * 5000}))
    request = read_stop(file)
    assert request is not None
    assert request.sentence.startswith("a b x")
    assert len(request.sentence) == 500


# -- the local launcher --------------------------------------------------------------------------


def answers(path: Path) -> list[CommandEvent]:
    return [e for e in EventTail(RunFolder(path).events).read() if isinstance(e, CommandEvent)]


async def test_a_command_reaches_the_folder_of_a_running_run(launcher: LocalLauncher, config: Config) -> None:
    record = await launch(launcher, config(steps=100_000))
    await until(lambda: steps_done(record) >= 3)
    command = Command(kind="extend", steps=200_000)
    await launcher.command(record, command)
    (letter,) = commands.waiting(RunFolder(record.path).control)
    assert letter.command == command
    with pytest.raises(LaunchError, match="steps already; its new total must be larger"):
        await launcher.command(record, Command(kind="extend", steps=2))

    # The counting trainer takes no commands: the next start answers what the last process never did.
    await launcher.stop(record, now=True)
    assert not answers(record.path)
    again = await launcher.resume(record)
    (answer,) = answers(record.path)
    assert (answer.id, answer.kind, answer.ok) == (command.id, "extend", False)
    assert "had ended" in answer.detail
    assert not commands.waiting(RunFolder(record.path).control)
    await launcher.stop(again, now=True)


async def test_a_run_that_has_ended_takes_no_commands(launcher: LocalLauncher, config: Config) -> None:
    record = await launcher.launch(LaunchRequest(config_path=config(steps=2)))
    await until(lambda: not is_alive(record.handle))
    with pytest.raises(LaunchError, match=r"finished already$"):
        await launcher.command(record, Command(kind="save"))
    with pytest.raises(LaunchError, match=r"resume it with --set train\.steps=50"):
        await launcher.command(record, Command(kind="extend", steps=50))
    assert not commands.waiting(RunFolder(record.path).control)


async def test_the_answer_to_a_stale_command_comes_before_the_new_start(
    launcher: LocalLauncher, config: Config
) -> None:
    record = await launch(launcher, config(steps=100_000))
    await until(lambda: steps_done(record) >= 1)
    await launcher.command(record, Command(kind="stop", at=time.time()))
    await launcher.stop(record, now=True)
    again = await launcher.resume(record)
    events = EventTail(RunFolder(record.path).events).read()
    places = [i for i, e in enumerate(events) if isinstance(e, CommandEvent)]
    queued = [i for i, e in enumerate(events) if isinstance(e, StatusEvent) and e.status == "queued"]
    assert places[0] < queued[-1]
    assert is_alive(again.handle)
    await launcher.stop(again, now=True)
