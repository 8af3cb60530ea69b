"""A container's work on a run: the trainer as a child, its words printed, its files committed.

The order matters. The container enters itself in ``boots.json`` and commits that before it prints or trains
anything, so that no number of an event or a log line is ever used twice. What the trainer does is then
printed as it happens and committed soon after. At the end come the manifest, the status and a last commit.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from backend.credentials.redaction import remember_environment
from backend.events import Status
from backend.launchers.modal import wire
from backend.launchers.modal.container import sdk
from backend.launchers.modal.container.attempt import Attempt
from backend.launchers.modal.container.boots import Boots
from backend.launchers.modal.container.commits import Committer
from backend.launchers.modal.container.control import CommandFetcher
from backend.launchers.modal.container.entry import Entry, enter, is_over
from backend.launchers.modal.container.interruptions import CANCELLED, PREEMPTED
from backend.launchers.modal.container.launch_file import LaunchFile, Ref
from backend.launchers.modal.container.output import Output
from backend.launchers.modal.container.paths import BASE_MOUNT, inside, volume_root
from backend.launchers.modal.container.said import Said, read_said
from backend.launchers.modal.container.samplers import SamplerDispatch
from backend.launchers.modal.container.sdk import Volume, VolumeError
from backend.launchers.modal.container.stopping import Stopping
from backend.launchers.modal.container.verdict import not_worth_it
from backend.runs.folder import RunFolder
from backend.runs.stop_request import StopRequest

PATIENCE = {PREEMPTED: 27.0, CANCELLED: 90.0}
"""Seconds until an interruption is passed on even if not everything is committed: Modal kills a preempted
container after half a minute, but commits what is there."""


@dataclass(frozen=True)
class Settings:
    """What tests change.

    Attributes:
        trainer: Module of the trainer; the run's folder is its argument.
        grace: Seconds that the trainer has to save and stop, by what it was asked for.
        commit_interval: Seconds between commits while only unimportant things change.
        boot_patience: Seconds to commit the container's entry.
        end_patience: Seconds for the last commit.
        poll: Seconds between two looks for commands.
        descriptor: Where events and log lines are printed.
    """

    trainer: str = field(default_factory=lambda: os.environ.get("FLUXLORA_TRAINER") or "backend.trainer")
    grace: dict[str, float] = field(
        default_factory=lambda: {"preempted": 18.0, "cancelled": 45.0, "budget": 60.0, "user": 60.0}
    )
    commit_interval: float = 4.0
    boot_patience: float = 90.0
    end_patience: float = 120.0
    poll: float = 3.0
    descriptor: int = 1


class Supervisor:
    """One container's work on one run.

    Args:
        ref: What the function was called with.
        settings: What tests change.
        volume: The volume, where it is not the mounted one.
        spawn: Starts the sampler's function with an argument; returns the id of the call.

    Raises:
        BadLaunchError: The launch cannot be made sense of.
        ValueError: The run's folder is outside the volume.
    """

    def __init__(
        self,
        ref: Ref,
        *,
        settings: Settings | None = None,
        volume: Volume | None = None,
        spawn: Callable[[str, dict[str, Any]], str] = sdk.spawn,
    ) -> None:
        self._ref = ref
        self._settings = settings or Settings()
        remember_environment()  # what the trainer prints and says may hold a token, in somebody's exception
        self._spawn = spawn
        self._root = volume_root()
        self._volume = volume or sdk.volume_of(ref.volume_id, self._root, ref.volume_name)
        with contextlib.suppress(VolumeError):  # what the container before this one committed last
            self._volume.reload()
        self._folder = RunFolder(inside(self._root, ref.folder))
        self._launch = LaunchFile.read(self._folder.state / "launch.json")
        self._stopping = Stopping(self._settings.grace)
        self._full = threading.Event()
        self._attempt: Attempt | None = None
        self._samplers: SamplerDispatch | None = None

    def interrupt(self, why: str) -> None:
        """The container (``preempted``) or the input (``cancelled``) is taken away: save and stop."""
        self._stopping.ask(StopRequest("cancelled" if why == CANCELLED else "preempted"))

    def run(self) -> dict[str, Any]:
        """Work on the run until it ends or this container does.

        Returns:
            ``{"ok", "status", "reason", "step", "boot", "error", "samplers"}``.

        Raises:
            RuntimeError: A new container may do better.
        """
        said, events_end = read_said(self._folder.events)
        boots = Boots(self._folder.state / "boots.json")
        if is_over(said, boots, self._launch):
            return self._result(said, said.status_seq // wire.SEQ_STRIDE)
        committer = Committer(
            self._volume.commit,
            prepare=lambda: self._attempt.prepare_commit() if self._attempt is not None else None,
            on_trouble=lambda it: self._attempt.on_commit_trouble(it) if self._attempt is not None else None,
            on_full=self._full.set,
            interval=self._settings.commit_interval,
        )
        try:
            entry = enter(self._folder, self._launch, said, boots, committer, self._settings.boot_patience)
            self._take_up(entry, said, events_end, committer)
            return self._result(said, entry.boot.boot)
        finally:
            committer.close()

    def _take_up(self, entry: Entry, said: Said, events_end: int, committer: Committer) -> None:
        output = Output(self._settings.descriptor)
        try:
            attempt = Attempt(
                self._folder,
                self._launch,
                entry,
                said,
                events_end,
                committer,
                self._stopping,
                output,
                self._full,
            )
            self._attempt = attempt
            try:
                verdict = not_worth_it(self._launch, entry, said, time.time()) or attempt.train(
                    self._settings.trainer,
                    [str(self._folder.path)],
                    self._environment(entry),
                    lambda: self._beside(attempt, committer),
                )
                attempt.end(verdict, self._settings.end_patience)
            finally:
                attempt.close()
        finally:
            output.close()

    def _environment(self, entry: Entry) -> dict[str, str]:
        environment = {
            "FLUXLORA_VOLUME": str(self._root),
            "FLUXLORA_HOME": str(self._root / ".fluxlora"),
            "FLUXLORA_FIRST_SEQ": str(entry.boot.boot * wire.SEQ_STRIDE + 1),
        }
        if entry.deadline is not None:
            environment["FLUXLORA_DEADLINE"] = str(entry.deadline)
        if self._ref.sample_function_id:
            environment["FLUXLORA_ASYNC_SAMPLING"] = "1"
        return environment | base_model_environment(self._ref, self._launch)

    @contextlib.contextmanager
    def _beside(self, attempt: Attempt, committer: Committer) -> Iterator[None]:
        """What is done while the trainer runs: commands are fetched, rounds of samples handed on."""
        commands = CommandFetcher(
            self._volume,
            f"{self._ref.folder}/state/control",
            self._folder.control,
            self._settings.poll,
        )
        if not isinstance(self._volume, sdk.FolderVolume):  # there, the file is seen by itself
            commands.start()
        function = self._ref.sample_function_id
        if function is not None:
            self._samplers = SamplerDispatch(
                self._folder.sampling,
                f"{self._ref.folder}/state/sampling",
                self._volume,
                lambda: committer.flush(60),
                lambda step: self._spawn(function, self._sampler_argument(step)),
                attempt.log.say,
            )
            self._samplers.start()
        try:
            yield
        finally:
            commands.stop()
            if self._samplers is not None:
                self._samplers.stop(last_look=not self._stopping.in_a_hurry)

    def _sampler_argument(self, step: int) -> dict[str, Any]:
        return {
            "folder": self._ref.folder,
            "run_id": self._ref.run_id,
            "volume_id": self._ref.volume_id,
            "volume_name": self._ref.volume_name,
            "base_volume_id": self._ref.base_volume_id,
            "step": step,
        }

    def _result(self, said: Said, boot: int) -> dict[str, Any]:
        failed = said.status is Status.FAILED
        return {
            "ok": not failed,
            "status": said.status.value,
            "reason": said.reason,
            "step": said.step,
            "boot": boot,
            "error": (said.error or "unknown") if failed else None,
            "samplers": list(self._samplers.calls) if self._samplers is not None else [],
        }


def base_model_environment(ref: Ref, launch: LaunchFile) -> dict[str, str]:
    """Where the trainer finds base models, if the run needs any from the Hub.

    Raises:
        ValueError: The model's folder is outside the volume.
    """
    if not ref.base_volume_id and not launch.model_folder:
        return {}
    base = volume_root(BASE_MOUNT)
    environment = {"HF_HUB_CACHE": str(base / "hub")}
    if launch.model_folder:
        environment["FLUXLORA_MODEL_FOLDER"] = str(inside(base, launch.model_folder))
    return environment
