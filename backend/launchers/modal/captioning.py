"""The courier of a captioning job on Modal: ``python -m backend.launchers.modal.captioning JOB_FOLDER``.

It brings the pictures up, has a container with a GPU caption them, and takes up what became of each as a
draft on this machine. It outlives the app. If it dies, captioning goes on over there; the same job started
again finds the call, and the volume has every caption until then.

Pictures travel under numbers instead of names, with their captions and crops: any name is fine then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.captioning.delivery import deliver, wanted
from backend.captioning.job import (
    CaptionJob,
    Progress,
    ProgressWriter,
    Result,
    caption_path,
    progress_of,
    read_progress,
)
from backend.captioning.models import resolve
from backend.captioning.place import CORES, MEMORY, ModalPlace
from backend.captioning.request import CaptioningError, CaptionRequest
from backend.credentials.redaction import redact, remember_environment
from backend.datasets.drafts import Drafts
from backend.datasets.errors import DatasetError
from backend.datasets.scan import scan_all
from backend.datasets.sidecar import SIDECAR
from backend.files import read_json, write_json
from backend.launchers.base import LaunchError
from backend.launchers.modal.bundle import Root, root_of
from backend.launchers.modal.collect import Draft
from backend.launchers.modal.container import worker
from backend.launchers.modal.container.paths import BASE_MOUNT, LORA_MOUNT
from backend.launchers.modal.detached_app import AppPlan, Spawned, launch_app
from backend.launchers.modal.faults import explain
from backend.launchers.modal.gateway import Gateway, ModalVolume
from backend.launchers.modal.hashes import FileError, FileHashes
from backend.launchers.modal.inputs import InputError, whole_folder
from backend.launchers.modal.outcome import Kind, observe, observe_value, verdict
from backend.launchers.modal.remote import MissingError, RefusedError, RemoteError
from backend.launchers.modal.tail import Tailer
from backend.launchers.modal.upload import send_roots
from config.paths import looks_like_path

if TYPE_CHECKING:
    from backend.datasets.scan import Item

FOLDER = "captioning"
"""Folder of the volume that holds what became of the jobs' pictures."""

_CALL = "call.json"
_CAPTION = ".txt"  # extension of captions over there
_TICK = 0.2  # seconds between two looks whether it is still wanted, while it is launched
_LOOK = 2.0  # seconds between two looks at the volume
_PATIENCE = 60.0  # seconds for a container to stop that was asked to
_GRACE = 120.0  # seconds beyond what the budget pays for, in which the last captions are committed


@dataclass(frozen=True)
class Call:
    """What is known of the job on Modal, in the job's folder.

    Attributes:
        folder: The job's folder on the volume.
        names: The pictures' real names by the names under which they travel.
        app_id: The app, once there is one.
        call_id: The call, once there is one.
    """

    folder: str
    names: Mapping[str, str] = field(default_factory=dict)
    app_id: str | None = None
    call_id: str | None = None


class CaptionCourier:
    """One courier's work.

    Args:
        job: The job.
        place: Where on Modal it works.
        gateway: The connection; a new one if None.
    """

    def __init__(self, job: CaptionJob, place: ModalPlace, gateway: Gateway | None = None) -> None:
        self._job, self._place = job, place
        self._gateway = gateway or Gateway(place.environment)
        self._request: CaptionRequest = job.request
        self._drafts = Drafts(job.drafts)
        self._results: dict[str, Result] = {}
        self._total = 0
        self._said: tuple[object, ...] = ()
        self.stopping = False
        self._over = False  # whether nothing goes on over there any more

    @property
    def _unwanted(self) -> bool:
        return self.stopping or self._job.stop_file.exists()

    async def run(self) -> int:
        """Do all that there is to do; returns an exit code. What goes wrong is a sentence in the progress."""
        self._results = dict(read_progress(self._job.progress_file).results)
        with ProgressWriter(self._job.progress_file, self._job.folder.events) as writer:
            self._writer = writer
            try:
                stopped = await self._work()
            except (LaunchError, CaptioningError, DatasetError, FileError, OSError) as error:
                sentence = redact(str(error))
                print(sentence, file=sys.stderr)
                writer.state("failed", len(self._results), self._total, sentence)
                return 1
            writer.state("stopped" if stopped else "finished", len(self._results), self._total)
        return 0

    async def _work(self) -> bool:
        """Returns whether it was stopped before all was done."""
        call = self._read_call()
        volume: ModalVolume | None = None
        if call.names:  # of an earlier courier
            volume = await self._gateway.volume(self._place.volume)
            await self._take_up(volume, call)
        if call.app_id is not None and call.call_id is None:  # a crash in between: nothing came of that app
            await self._gateway.stop_app(call.app_id)
            call = replace(call, app_id=None)
        if call.app_id is None or not await self._gateway.is_running(call.app_id):
            items = await asyncio.to_thread(self._left)
            self._total = len(self._results) + len(items)
            items = self._readable(items)
            if not items:
                return False
            volume = volume or await self._gateway.volume(self._place.volume)
            call = await self._launch(items, volume, call)
        assert volume is not None
        self._total = len(self._results.keys() | set(call.names.values()))
        try:
            return await self._follow(volume, call)
        finally:
            if call.app_id is not None and self._over:
                with contextlib.suppress(RemoteError):
                    await self._gateway.stop_app(call.app_id)
                self._note(replace(call, app_id=None, call_id=None))

    # Launching

    def _left(self) -> list[Item]:
        request = self._request
        items = wanted(request, scan_all(request.folder, caption_ext=request.caption_ext).items, self._drafts)
        return [item for item in items if item.name not in self._results]

    def _readable(self, items: Sequence[Item]) -> list[Item]:
        """Those that can be sent; what is wrong with the others is said, and they hold nothing up."""
        for item in items:
            if item.problem is not None:
                self._results[item.name] = result = Result(item.name, None, f"the picture {item.problem}")
                self._writer.result(result)
        return [item for item in items if item.problem is None]

    async def _launch(self, items: Sequence[Item], volume: ModalVolume, before: Call) -> Call:
        seconds = self._place.seconds  # refuses a budget that pays for nothing, before anything is sent
        model, prompt = resolve(self._request.model, self._request.prompt)
        self._state("uploading")
        numbered = {f"{number:06}{item.path.suffix.lower()}": item for number, item in enumerate(items)}
        pictures, models = await asyncio.to_thread(_roots, numbered, model)
        base = await self._gateway.volume(self._place.base_volume)

        def progress(done: int, total: int) -> None:
            self._state("uploading", done, total)

        await send_roots([pictures, *models], volume, progress)
        call = Call(before.folder, {name: item.name for name, item in numbered.items()})
        with contextlib.suppress(MissingError):  # of earlier pictures, whose numbers were others
            await volume.remove(f"{call.folder}/progress.jsonl")
        self._note(call)
        if self._unwanted:
            return call
        self._state("building")

        def on_app(app_id: str) -> None:
            nonlocal call
            if call.app_id != app_id:
                call = replace(call, app_id=app_id)
                self._note(call)

        def on_spawn(spawned: Spawned) -> None:
            nonlocal call
            call = replace(call, app_id=spawned.app_id, call_id=spawned.call_id)
            self._note(call)

        request = replace(
            self._request, model=model, prompt=prompt, everything=True, names=None, caption_ext=_CAPTION
        )
        launch = launch_app(
            self._gateway,
            AppPlan(
                run_id=f"caption-{self._job.path.name}"[:60],
                launch=1,
                gpu=(self._place.gpu,),
                volumes={LORA_MOUNT: volume, BASE_MOUNT: base},
                secrets={"HF_TOKEN": token} if (token := os.environ.get("HF_TOKEN")) else {},
                cpu=CORES,
                memory=MEMORY,
                seconds=seconds + _GRACE,
            ),
            worker.caption,
            {
                "folder": call.folder,
                "pictures": f"{pictures.folder}/pictures",
                "request": request.record,
                "model_folder": f"{models[0].folder}/{models[0].name}" if models else None,
                "volume_id": volume.id,
                "volume_name": volume.name,
                "base_volume_id": base.id,
                "base_volume_name": base.name,
            },
            on_app=on_app,
            on_spawn=on_spawn,
            on_build=lambda line: print(f"image: {redact(line)}", flush=True),
        )
        task = asyncio.create_task(launch)  # an image may be built for minutes
        while not (await asyncio.wait((task,), timeout=_TICK))[0]:
            if self._unwanted:
                task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self._state("waiting", detail=f"for a {self._place.gpu}")
        return call

    # Following

    async def _follow(self, volume: ModalVolume, call: Call) -> bool:
        if call.call_id is None or call.app_id is None:
            self._over = True
            if self._unwanted:
                return True
            raise RefusedError("captioning was cut short before it began; start it again")
        lines = asyncio.create_task(self._print_lines(call.app_id))
        try:
            return await self._until_over(volume, call, call.call_id)
        finally:
            lines.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await lines

    async def _until_over(self, volume: ModalVolume, call: Call, call_id: str) -> bool:
        cancelled: float | None = None
        clock = asyncio.get_running_loop().time
        while True:
            if cancelled is None and self._unwanted:
                cancelled = clock()
                with contextlib.suppress(RemoteError):
                    await self._gateway.cancel(call_id)
            try:
                answer = await self._answer(call_id)
                await self._take_up(volume, call)
            except RemoteError as error:
                self._state("captioning", len(self._results), self._total, f"goes on on Modal; {error}")
                await asyncio.sleep(_LOOK)
                continue
            if answer is not None:
                self._over = True
                if answer.get("ok") or cancelled is not None:
                    return cancelled is not None
                raise RefusedError(str(answer.get("reason") or "captioning on Modal ended without a reason"))
            if cancelled is not None and clock() - cancelled > _PATIENCE:
                self._over = True
                return True
            await asyncio.sleep(_LOOK)

    async def _answer(self, call_id: str) -> Mapping[str, Any] | None:
        """What the call returned, or why it ended as its ``reason``; None while it goes on.

        Raises:
            RemoteError: Modal cannot be asked.
        """
        try:
            seen = observe_value(await self._gateway.result(call_id))
        except Exception as error:
            seen = observe(error)
            if seen.kind in (Kind.NO_ANSWER, Kind.DENIED):
                raise explain(error, "asking for the captions") from error
        if seen.kind is Kind.RUNNING:
            return None
        if seen.kind is Kind.TIMEOUT:
            return {"reason": f"the budget of ${self._place.budget:.2f} is used up; a larger one goes on"}
        return seen.value if seen.value is not None else {"reason": verdict(seen).reason}

    async def _take_up(self, volume: ModalVolume, call: Call) -> None:
        """Take up what the volume has of the pictures."""
        try:
            raw = await volume.read(f"{call.folder}/progress.jsonl")
        except MissingError:
            return
        there = progress_of(raw.splitlines(keepends=True))
        await asyncio.to_thread(self._keep, there, call.names)
        if not there.ended:
            done, total = there.done, there.total
            if there.state == "captioning":
                done, total = len(self._results), self._total
            self._state(there.state, done, total, there.detail)

    def _keep(self, there: Progress, names: Mapping[str, str]) -> None:
        for result in there.results.values():
            name = names.get(result.name)
            if name is None or name in self._results:
                continue
            kept = Result(name, result.caption, result.problem)
            if result.caption is not None:
                path, model = caption_path(self._request, name), self._request.model
                problem = deliver(self._request, path, result.caption, self._drafts, model)
                kept = Result(name, None if problem else result.caption, problem)
            self._results[name] = kept
            self._writer.result(kept)

    async def _print_lines(self, app_id: str) -> None:
        """The container's output into the job's log."""
        async for batch in Tailer(self._gateway.logs(app_id), None, lambda state: None):
            for line in batch:
                print(redact(line.text).encode("ascii", "backslashreplace").decode(), flush=True)

    # What is written down

    def _state(self, state: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        if (state, done, total, detail) != self._said:
            self._said = (state, done, total, detail)
            self._writer.state(state, done, total, detail)

    def _read_call(self) -> Call:
        data = read_json(self._job.path / _CALL)
        folder = f"{FOLDER}/{self._job.path.name}"
        if not isinstance(data, dict) or not isinstance(data.get("names"), dict):
            return Call(folder)
        return Call(folder, data["names"], data.get("app_id"), data.get("call_id"))

    def _note(self, call: Call) -> None:
        write_json(self._job.path / _CALL, asdict(call), escape=True)  # names of pictures


def _roots(numbered: Mapping[str, Item], model: str) -> tuple[Root, list[Root]]:
    """The pictures under numbers, with captions and crops; and the model, if it is a folder here."""
    files: dict[str, Path | bytes] = {}
    marks: dict[str, Any] = {}
    for name, item in numbered.items():
        files[f"pictures/{name}"] = item.path
        if item.caption:
            files[f"pictures/{Path(name).with_suffix(_CAPTION)}"] = item.caption.encode("utf-8")
        if item.crop is not None:
            marks[name] = {"crop": dict(item.crop._asdict())}
    if marks:
        text = json.dumps({"version": 1, "pictures": marks})
        files[f"pictures/{SIDECAR}"] = text.encode("ascii")
    drafts = [Draft("pictures", (), files)]
    if looks_like_path(model) or Path(model).is_dir():
        folder = Path(model).expanduser()
        if not folder.is_dir():
            raise InputError(f"there is no captioning model in {folder}")
        tree = whole_folder(folder)
        weights = Draft("model", tree.base, {})
        weights.add(tree)
        drafts.append(weights)
    sources = [source for draft in drafts for source in draft.files.values() if isinstance(source, Path)]
    states = FileHashes().of(list(dict.fromkeys(sources)), None)
    pictures, *models = (root_of(draft, states) for draft in drafts)
    return pictures, models


def main(arguments: Sequence[str]) -> int:
    """Work on the job in a folder; returns an exit code."""
    remember_environment()
    job = CaptionJob(Path(arguments[0]))
    place = job.place
    if place is None:
        print(f"{job.path} is no captioning job on Modal", file=sys.stderr)
        return 2
    courier = CaptionCourier(job, place)

    def stop(*_: object) -> None:
        courier.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return asyncio.run(courier.run())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
