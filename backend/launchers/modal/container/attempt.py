"""The trainer from its start to its end, and what is said, written and committed on the way."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from backend.events import Status
from backend.launchers.modal import wire
from backend.launchers.modal.container.boots import CRASHED
from backend.launchers.modal.container.child import Child
from backend.launchers.modal.container.commits import Committer
from backend.launchers.modal.container.entry import Entry
from backend.launchers.modal.container.events import EventFollower
from backend.launchers.modal.container.last_words import LastWords
from backend.launchers.modal.container.launch_file import LaunchFile
from backend.launchers.modal.container.log import NumberedLog
from backend.launchers.modal.container.machine import memory_limit
from backend.launchers.modal.container.manifest import Manifest
from backend.launchers.modal.container.output import Output
from backend.launchers.modal.container.said import Said
from backend.launchers.modal.container.sdk import VolumeError, VolumeFullError, is_full
from backend.launchers.modal.container.status_file import NAME as STATUS_NAME
from backend.launchers.modal.container.status_file import StatusFile
from backend.launchers.modal.container.stopping import Stopping
from backend.launchers.modal.container.verdict import Verdict, budget_used_up, judge, volume_is_full
from backend.runs.folder import RunFolder
from backend.runs.stop_request import StopRequest

_TICK = 0.1
_COMMIT_AT_ONCE = frozenset({"checkpoint", "sample", "status", "validation", "error", "command"})
_ABOUT_FILES = frozenset({"checkpoint", "sample"})


class Attempt:
    """One container's attempt at the run, after it has entered itself.

    Args:
        folder: The run's folder.
        launch: What the launcher decided.
        entry: This container's place in the run.
        said: What the run has said so far; kept up to date.
        events_end: Size of the events' file when ``said`` was read.
        committer: Commits the volume; its hooks must lead to this attempt's.
        stopping: Requests to stop.
        output: Where everything is printed.
        full: Set when the volume takes no more.
    """

    def __init__(
        self,
        folder: RunFolder,
        launch: LaunchFile,
        entry: Entry,
        said: Said,
        events_end: int,
        committer: Committer,
        stopping: Stopping,
        output: Output,
        full: threading.Event,
    ) -> None:
        boot = entry.boot
        self._folder = folder
        self._launch = launch
        self._entry = entry
        self._committer = committer
        self._stopping = stopping
        self._full = full
        self.said = said
        self._manifest = Manifest(folder)
        self._status = StatusFile(folder.path / STATUS_NAME, boot.boot, boot.started, boot.gpu)
        self._new_files = True
        self._over = False
        self.log = NumberedLog(folder.log, boot.boot, output, on_full=full.set, on_lines=committer.changed)
        self._follower = EventFollower(folder.events, events_end, output, self._on_event)
        self._words = LastWords(folder.events, boot.boot, said, self._follower, output)
        self._follower.start()
        where = f" on {boot.gpu}" if boot.gpu else ""
        goes_on = f"; goes on from step {boot.saved}" if boot.saved else ""
        self.log.say(f"container {boot.boot}{where}{goes_on}")

    # -- meanwhile ------------------------------------------------------------------------------

    def _on_event(self, record: dict[str, Any]) -> None:
        self.said.apply(record)
        kind = record.get("type")
        if kind in _ABOUT_FILES:
            self._new_files = True
        if kind in _COMMIT_AT_ONCE:
            self._committer.soon()
        else:
            self._committer.changed()

    def prepare_commit(self) -> None:
        """Write manifest and status, to be committed with what they tell of.

        Raises:
            OSError: They cannot be written, and it is not that the disk is full.
        """
        new_files, self._new_files = self._new_files, False
        try:
            if new_files or self._over:
                self._manifest.write(logs=self._over)
            self._status.write(self.said)
        except OSError as error:
            self._new_files = True
            if not is_full(error):
                raise
            self._full.set()

    def on_commit_trouble(self, trouble: str | None) -> None:
        """Say in the log that commits fail, or work again."""
        if trouble is None:
            self.log.say("the volume can be committed again")
        else:
            self.log.say(f"the volume could not be committed ({trouble}); it is tried again", "WARNING")

    # -- the trainer ----------------------------------------------------------------------------

    def train(
        self,
        module: str,
        arguments: list[str],
        environment: Mapping[str, str],
        beside: Callable[[], contextlib.AbstractContextManager[object]],
    ) -> Verdict | None:
        """Run the trainer to its end; returns what it did not say itself.

        Args:
            module: What to run.
            arguments: Its arguments.
            environment: Its environment, beyond this process's.
            beside: Makes the context in which it runs: whatever is done besides.
        """
        if self._stopping.request is not None:
            return self._verdict(-15, killed=False)
        with beside():
            child = Child(module, arguments, environment, self.log)
            self._stopping.attach(child, self._folder.stop_file)
            try:
                code = self._watch(child)
            finally:
                child.kill()
                child.finish()
            self._follower.poll()
        own_word = self.said.status.ended and (
            self.said.status_seq // wire.SEQ_STRIDE == self._entry.boot.boot
        )
        if self._full.is_set() and not (own_word and self.said.status is Status.FINISHED):
            return volume_is_full(self._launch, self.said)
        return None if own_word else self._verdict(code, killed=child.killed)

    def _verdict(self, code: int, *, killed: bool) -> Verdict:
        return judge(
            code,
            killed=killed,
            asked=self._stopping.request,
            said=self.said,
            memory=memory_limit(),
            last_boot=len(self._entry.before) + 1 >= self._launch.max_boots,
        )

    def _watch(self, child: Child) -> int:
        """Wait for the trainer's end, and see to it that it comes in time."""
        ask_at = float("inf")
        if self._entry.deadline is not None:  # saving costs time too
            ask_at = self._entry.deadline - min(30.0, 0.02 * (self._launch.seconds or 0.0))
        while (code := child.wait(_TICK)) is None:
            if time.time() >= ask_at:
                ask_at = float("inf")
                self._stopping.ask(StopRequest("budget", budget_used_up(self._launch)))
            if self._full.is_set() and self._stopping.request is None:
                self._stopping.ask(StopRequest())
            if self._stopping.overdue:
                child.kill()
        return code

    # -- the end --------------------------------------------------------------------------------

    def end(self, verdict: Verdict | None, patience: float) -> None:
        """Say what the trainer could not, close everything, commit for the last time.

        Raises:
            RuntimeError: A new container may do better.
        """
        if verdict is not None and verdict.status is not None:
            self._speak(verdict)
        self._follower.stop()
        self.log.close()
        with contextlib.suppress(OSError):
            self._folder.stop_file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._entry.boots.end(self._entry.boot.boot, self._how_it_ended(verdict), round(time.time(), 3))
        self._over = True
        try:
            self._committer.flush(patience)
        except VolumeFullError:
            if not self._full.is_set() or self.said.status is not Status.FAILED:
                self._speak(volume_is_full(self._launch, self.said))
        except VolumeError as error:
            self.log.say(f"the last commit did not work ({error}); Modal commits once more", "WARNING")
        if verdict is not None and verdict.status is None:
            raise RuntimeError(f"{verdict.reason}; Modal starts another container")

    def close(self) -> None:
        """Let go of files and threads, whatever happened."""
        self._follower.stop()
        self.log.close()

    def _speak(self, verdict: Verdict) -> None:
        level = "ERROR" if verdict.error else "INFO"
        self.log.say(f"{verdict.status}: {verdict.reason}", level)
        self._words.speak(verdict)

    def _how_it_ended(self, verdict: Verdict | None) -> str:
        if verdict is not None and verdict.status is None:
            return CRASHED
        asked = self._stopping.request
        if asked is not None and self._stopping.in_a_hurry:
            return asked.why
        return self.said.status.value
