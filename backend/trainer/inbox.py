"""The commands that reach a run while it works, each taken up once."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from backend.events import CommandEvent
from backend.files import read_json, write_json
from backend.runs import commands
from backend.runs.commands import Command, Letter
from backend.runs.folder import RunFolder
from backend.trainer.report import Reporter

INTERVAL = 0.25  # seconds between two looks at the folder
DONE_FILE = "control-done.json"
_REMEMBERED = 1000


class Inbox:
    """Looks for commands, keeps those that wait, and answers.

    The ids of commands that are done are kept in ``state/control-done.json``: whoever carries commands to the
    run may deliver one twice, and a resumed run must not stop because it was stopped once.

    Args:
        folder: The run's folder.
        report: Where answers are said.

    Attributes:
        waiting: Commands that are not done yet, the oldest first.
        stop_wanted: Whether a command to stop has come.
    """

    def __init__(self, folder: RunFolder, report: Reporter) -> None:
        self._folder = folder
        self._report = report
        self._looked = float("-inf")
        self._files: dict[str, Path] = {}
        self._done = _ids_in(folder.state / DONE_FILE)
        self.waiting: list[Command] = []
        self.stop_wanted = False

    def look(self, *, now: bool = False) -> None:
        """Take up what has come, at most every quarter of a second unless it has to be ``now``."""
        moment = time.monotonic()
        if not now and moment - self._looked < INTERVAL:
            return
        self._looked = moment
        for letter in commands.waiting(self._folder.control):
            self._take_up(letter)

    def _take_up(self, letter: Letter) -> None:
        command = letter.command
        if letter.id in self._done:
            _remove(letter.path)
        elif command is None:
            self._remember(letter.id)
            what = f"no command {letter.kind!r}" if letter.kind else "no such command"
            self._report.answer(
                CommandEvent(
                    id=letter.id,
                    kind=letter.kind or "unknown",
                    ok=False,
                    detail=f"the trainer knows {what}; it knows {', '.join(commands.KINDS)}",
                )
            )
            _remove(letter.path)
        elif command.kind == "stop":
            self._remember(command.id)  # before anything else: a resumed run must not find it again
            self.stop_wanted = True
            self._report.answer(
                CommandEvent(id=command.id, kind="stop", ok=True, detail="saving, then stopping")
            )
            _remove(letter.path)
        elif command.id not in self._files:
            self._files[command.id] = letter.path
            self.waiting.append(command)

    def answer(self, command: Command, *, ok: bool, detail: str, steps: int | None = None) -> None:
        """Say what became of a waiting command; it is done with.

        A process killed between the answer and the note of it repeats the command, which does no harm: it
        finds the step saved, the samples drawn, the total as wanted.
        """
        self._report.answer(CommandEvent(id=command.id, kind=command.kind, ok=ok, detail=detail, steps=steps))
        self._remember(command.id)
        self.waiting.remove(command)
        _remove(self._files.pop(command.id))

    def refuse(self, why: str) -> None:
        """Answer everything that still waits with ``ok: false``: the run ends."""
        self.look(now=True)
        for command in list(self.waiting):
            self.answer(command, ok=False, detail=why)

    def _remember(self, identity: str) -> None:
        self._done[identity] = None
        while len(self._done) > _REMEMBERED:
            del self._done[next(iter(self._done))]
        with contextlib.suppress(OSError):  # a full disk: this process remembers all the same
            write_json(self._folder.state / DONE_FILE, list(self._done))


def _ids_in(file: Path) -> dict[str, None]:
    known = read_json(file)
    return dict.fromkeys(item for item in known if isinstance(item, str)) if isinstance(known, list) else {}


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
