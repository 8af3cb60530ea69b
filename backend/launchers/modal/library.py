"""The volume of base models: what is on it, and a container without a GPU that downloads what is missing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from backend.events import Phase, PhaseEvent, decode
from backend.launchers.modal.container import worker
from backend.launchers.modal.detached_app import AppPlan, Spawned, launch_app
from backend.launchers.modal.gateway import Gateway, ModalVolume
from backend.launchers.modal.journal import Journal
from backend.launchers.modal.remote import (
    MissingError,
    OfflineError,
    RefusedError,
    RemoteError,
    RemoteFile,
)
from backend.launchers.modal.tail import Tailer
from backend.launchers.modal.voice import Voice
from backend.launchers.modal.wire import EventLine, parse
from backend.runs.folder import RunRecord

BASE_MOUNT = "/mnt/base"
"""Where the volume of base models is mounted in the container."""

HUB = "hub"
"""Folder of the volume that is the Hugging Face cache."""

TUTORIAL_MODEL = "black-forest-labs/FLUX.1-dev"
"""What the root of the tutorial's volume holds, in diffusers format."""

_PARTS = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_CPU, _MEMORY, _SECONDS = 2.0, 8, 4 * 3600.0
_POLL = 4.0
_PATIENCE = 24 * 3600.0


@dataclass(frozen=True)
class Cached:
    """A base model on the volume.

    Attributes:
        repo: Its Hub id.
        bytes: What it takes.
        complete: Whether all of it is there.
        folder: Path on the volume where it lies as a diffusers folder; None within the Hub's cache.
    """

    repo: str
    bytes: int
    complete: bool
    folder: str | None = None


@dataclass(frozen=True)
class Library:
    """The base models that a run needs from the Hub, and the volume that keeps them.

    Attributes:
        name: The volume's name.
        volume: The volume.
        models: What the run needs from the Hub: ids, with a role after an ``@`` where only a part is needed
            (see :mod:`backend.trainer.prefetch`).
        model_folder: Folder of the volume that holds the model as it is; None where the Hub's cache does.
        files: What the volume held when it was opened.
    """

    name: str
    volume: ModalVolume
    models: tuple[str, ...]
    model_folder: str | None
    files: tuple[RemoteFile, ...]
    gateway: Gateway

    @classmethod
    async def for_models(cls, gateway: Gateway, name: str, models: Sequence[str]) -> Library | None:
        """Open the volume for the given Hub ids; None if there are none."""
        if not models:
            return None
        volume = await gateway.volume(name)
        files = await everything(volume)
        needs_it = any(repo_of(model) == TUTORIAL_MODEL for model in models)
        folder = "." if needs_it and has_diffusers_folder(files) else None
        return cls(name, volume, tuple(models), folder, files, gateway)

    async def missing(self) -> list[str]:
        """The models that are not on the volume, or not whole."""
        there = markers(self.files)
        if self.model_folder:
            there.add(TUTORIAL_MODEL)
        return [model for model in self.models if model not in there and repo_of(model) not in there]

    async def fetch(
        self,
        models: Sequence[str],
        journal: Journal,
        record: RunRecord,
        secrets: Mapping[str, str],
        voice: Voice,
        note: Callable[[Journal], None],
        wanted: Callable[[], bool],
    ) -> Journal:
        """Download models in the cloud and wait until they are there.

        The download goes on by itself if this process ends; the next courier waits for the same one.

        Raises:
            RemoteError: It failed.
        """
        if journal.prefetch_app_id is None or not await self.gateway.is_running(journal.prefetch_app_id):
            journal = await self._start(models, journal, record, secrets, voice, note)
        assert journal.prefetch_app_id is not None
        watcher = asyncio.create_task(self._show_progress(journal.prefetch_app_id, voice))
        try:
            await self._wait(journal, voice, wanted)
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await watcher
        with contextlib.suppress(RemoteError):
            await self.gateway.stop_app(journal.prefetch_app_id)
        journal = journal.with_(prefetch_app_id=None, prefetch_call_id=None)
        note(journal)
        return journal

    async def _start(
        self,
        models: Sequence[str],
        journal: Journal,
        record: RunRecord,
        secrets: Mapping[str, str],
        voice: Voice,
        note: Callable[[Journal], None],
    ) -> Journal:
        def on_app(app_id: str) -> None:
            nonlocal journal
            if journal.prefetch_app_id != app_id:
                journal = journal.with_(prefetch_app_id=app_id)
                note(journal)

        def on_spawn(spawned: Spawned) -> None:
            nonlocal journal
            journal = journal.with_(prefetch_app_id=spawned.app_id, prefetch_call_id=spawned.call_id)
            note(journal)

        await launch_app(
            self.gateway,
            AppPlan(
                run_id=record.id,
                launch=journal.launch,
                gpu=(),
                volumes={BASE_MOUNT: self.volume},
                secrets=secrets,
                cpu=_CPU,
                memory=_MEMORY,
                seconds=_SECONDS,
            ),
            worker.prefetch,
            {
                "run_id": record.id,
                "models": list(models),
                "base_volume_id": self.volume.id,
                "base_volume_name": self.name,
            },
            on_app=on_app,
            on_spawn=on_spawn,
            on_build=lambda line: voice.line(f"image: {line}"),
        )
        return journal

    async def _wait(self, journal: Journal, voice: Voice, wanted: Callable[[], bool]) -> None:
        """Wait for the download's own word, over any time without a network."""
        deadline = time.monotonic() + _PATIENCE
        while wanted() and time.monotonic() < deadline:
            try:
                if journal.prefetch_call_id is None:
                    raise RefusedError("the download of the base model was cut short before it began")
                answer = await self.gateway.result(journal.prefetch_call_id)
            except TimeoutError:
                await asyncio.sleep(_POLL)
                continue
            except RefusedError:
                raise
            except OfflineError:
                await asyncio.sleep(_POLL)
                continue
            except Exception as error:
                if type(error).__name__ in ("ConnectionError", "ServiceError", "StreamTerminatedError"):
                    await asyncio.sleep(_POLL)
                    continue
                raise RefusedError(
                    f"the base model could not be downloaded: {type(error).__name__}"
                ) from error
            if not (isinstance(answer, dict) and answer.get("ok")):
                reason = answer.get("reason") if isinstance(answer, dict) else None
                raise RefusedError(
                    f"the base model could not be downloaded: {reason or 'no reason was given'}"
                )
            return

    async def _show_progress(self, app_id: str, voice: Voice) -> None:
        tailer = Tailer(self.gateway.logs(app_id), None, lambda state: None)
        async for progress in _phases(tailer):
            voice.phase(Phase.DOWNLOADING, progress.done, progress.total, progress.detail)


async def _phases(tailer: Tailer) -> AsyncIterator[PhaseEvent]:
    async for batch in tailer:
        for line in batch:
            parsed = parse(line.text)
            event = decode(parsed.json) if isinstance(parsed, EventLine) else None
            if isinstance(event, PhaseEvent) and event.phase == Phase.DOWNLOADING:
                yield event


async def everything(volume: ModalVolume) -> tuple[RemoteFile, ...]:
    """All entries of the volume."""
    try:
        return tuple(await volume.list("/", recursive=True))
    except MissingError:
        return ()


def has_diffusers_folder(files: Iterable[RemoteFile], root: str = "") -> bool:
    """Whether a whole FLUX model in diffusers format lies at ``root``: every part, every shard."""
    prefix = f"{root}/" if root else ""
    names = {f.path[len(prefix) :] for f in files if not f.is_folder and f.path.startswith(prefix)}
    if "model_index.json" not in names:
        return False
    for part in _PARTS[:4]:
        weights = [
            name
            for name in names
            if PurePosixPath(name).parts[:1] == (part,) and name.endswith(".safetensors")
        ]
        shards = [found for name in weights if (found := _SHARD.fullmatch(name))]
        if not weights or any(len(shards) < int(shard[3]) for shard in shards):
            return False
    return True


def cached_models(files: Iterable[RemoteFile]) -> list[Cached]:
    """The base models on the volume of these files."""
    files = list(files)
    found: list[Cached] = []
    if any(file.path == "model_index.json" for file in files):
        size = sum(
            file.bytes for file in files if PurePosixPath(file.path).parts[0] in (*_PARTS, "model_index.json")
        )
        found.append(Cached(TUTORIAL_MODEL, size, has_diffusers_folder(files), "."))
    repos: dict[str, int] = {}
    for file in files:
        parts = PurePosixPath(file.path).parts
        if len(parts) > 1 and parts[0] == HUB and parts[1].startswith("models--"):
            repo = parts[1].removeprefix("models--").replace("--", "/", 1)
            repos[repo] = repos.get(repo, 0) + (file.bytes if "blobs" in parts else 0)
    whole = {repo_of(model) for model in markers(files)}
    found += [Cached(repo, size, repo in whole) for repo, size in sorted(repos.items())]
    return found


def markers(files: Iterable[RemoteFile]) -> set[str]:
    """The models, with their roles, that are said to be whole in the Hub's cache of these files."""
    names = (PurePosixPath(file.path).parts for file in files)
    return {
        parts[1].removeprefix("complete-").removesuffix(".json").replace("--", "/", 1)
        for parts in names
        if len(parts) == 2 and parts[0] == HUB and parts[1].startswith("complete-")
    }


def repo_of(model: str) -> str:
    """The Hub id in ``owner/name@role``."""
    return model.partition("@")[0]
