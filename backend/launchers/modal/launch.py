"""A launch from its config to the call that trains, one visible phase after the other.

Whatever breaks off leaves the journal at the last step that was certainly reached; the courier that comes
next knows from it what may exist on Modal.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from backend.cost import Machine, rate_of, rate_text, seconds_for_budget
from backend.events import Phase
from backend.launchers.modal.bundle import Bundle, Variable, make_bundle
from backend.launchers.modal.container import worker
from backend.launchers.modal.detached_app import AppPlan, Spawned, launch_app
from backend.launchers.modal.gateway import Gateway, ModalVolume
from backend.launchers.modal.journal import Journal, Stage
from backend.launchers.modal.library import BASE_MOUNT, Library
from backend.launchers.modal.remote import ExistsError, MissingError, RefusedError, RemoteError, Upload
from backend.launchers.modal.rewriting import load_for_resume
from backend.launchers.modal.upload import send
from backend.launchers.modal.voice import Voice
from backend.prices import Prices, load_prices, with_rates
from backend.runs.folder import RunFolder, RunRecord
from backend.trainer.prefetch import needs_of
from config.load import LoadedConfig

MOUNT = "/mnt/lora"
"""Where the volume for runs is mounted in the container."""

_GRACE_SECONDS = 300.0  # beyond the deadline, in which the container saves before Modal ends it
_MAX_NAMES = 1000


@dataclass
class Launch:
    """One launch of one run.

    Args:
        record: The run.
        gateway: The connection.
        voice: Where the user is told what happens.
        note: Writes the journal down; must not return before it is on the disk.
        wanted: Whether the run is still wanted; asked before everything that costs.
    """

    record: RunRecord
    gateway: Gateway
    voice: Voice
    note: Callable[[Journal], None]
    wanted: Callable[[], bool]

    async def run(self, journal: Journal) -> Journal:
        """Launch; returns the journal with stage ``spawned``.

        Raises:
            RemoteError: It could not be launched; nothing that costs is left running.
            ConfigError: The config has errors.
            Unwanted: The user asked to stop it in the meantime.
        """
        folder = RunFolder(self.record.path)
        self.voice.phase(Phase.CHECKING)
        loaded, _ = await asyncio.gather(
            asyncio.to_thread(load_for_resume, folder.config, ()), self.gateway.client()
        )
        settings = loaded.config.process.modal

        def hashed(done: int, total: int) -> None:
            self.voice.phase(Phase.CHECKING, done, total, "inputs")

        bundle, volume, rates = await asyncio.gather(
            asyncio.to_thread(make_bundle, loaded, hashed),
            self.gateway.volume(journal.volume),
            self.gateway.rates(),
        )
        secrets = _secrets(bundle.variables)
        self._still_wanted()
        journal = self._priced(journal, loaded, rates)
        await self._send(bundle, volume)
        for problem in bundle.problems:
            self.voice.line(problem.describe("config.yaml"), "WARNING")
        models = tuple(dict.fromkeys(str(need) for need in needs_of(loaded.config.process.model)))
        library = await Library.for_models(self.gateway, settings.base_volume, models)
        journal = journal.with_(base_volume=library.name if library is not None else None)
        self._still_wanted()
        journal = await self._put_run(journal, bundle, volume, library)
        self.note(journal)
        if library is not None:
            journal = await self._prefetch(journal, library, volume, secrets)
        self._still_wanted()
        return await self._spawn(journal, volume, library, secrets, bundle)

    def _priced(self, journal: Journal, loaded: LoadedConfig, rates: Mapping[str, float]) -> Journal:
        """The journal with what the workspace's own rates make of the costs, where Modal tells them."""
        prices = load_prices().prices
        if rates:
            prices = with_rates(prices, rates, datetime.now(UTC).date())
        journal = with_costs(journal, loaded, prices)
        if loaded.config.process.sample.where == "async":
            settings = loaded.config.process.modal
            second = rate_of(
                Machine(gpus=tuple(settings.sampler_gpu), cores=settings.cpu, memory=settings.memory), prices
            )
            price = f", {rate_text(second)} while it draws" if second is not None else ""
            self.voice.line(
                f"samples are drawn by a second container ({' or '.join(settings.sampler_gpu)}{price})"
            )
        return journal

    def _still_wanted(self) -> None:
        if not self.wanted():
            raise Unwanted

    # Files

    async def _send(self, bundle: Bundle, volume: ModalVolume) -> None:
        """Bring the inputs up; what the volume has already is not sent."""
        self.voice.phase(Phase.UPLOADING, 0, bundle.bytes)

        def progress(done: int, total: int) -> None:
            self.voice.phase(Phase.UPLOADING, done, total)

        sent = await send(bundle, volume, progress)
        size = f"{sent.bytes_total / 2**20:,.1f} MiB"
        if not sent.files:
            self.voice.line(f"inputs: all {size} are on Modal already; nothing to send")
        else:
            new = f"{sent.bytes_sent_at_most / 2**20:,.1f} MiB"
            self.voice.line(f"inputs: sent {sent.files} files of {new}; {size} in all")

    async def _put_run(
        self, journal: Journal, bundle: Bundle, volume: ModalVolume, library: Library | None
    ) -> Journal:
        """Put the run's own files on the volume, in a folder that nobody else has."""
        if journal.folder:
            await volume.remove(f"{journal.folder}/state/control", recursive=True)  # of an earlier launch
            await volume.upload(self._files(journal, bundle, library, again=True))
            return journal
        for number in range(1, _MAX_NAMES):
            name = self.record.name if number == 1 else f"{self.record.name}-{number}"
            claimed = journal.with_(folder=name)
            try:
                await volume.upload(self._files(claimed, bundle, library, again=False), overwrite=False)
            except ExistsError:
                if await self._is_ours(volume, name):  # a crash after the upload, before the journal
                    return claimed
                continue
            return claimed
        raise RefusedError(f"the volume {journal.volume} has {_MAX_NAMES} runs named {self.record.name}")

    async def _is_ours(self, volume: ModalVolume, name: str) -> bool:
        try:
            return bool(json.loads(await volume.read(f"{name}/state/run.json"))["id"] == self.record.id)
        except (MissingError, ValueError, KeyError, TypeError):
            return False

    def _files(
        self, journal: Journal, bundle: Bundle, library: Library | None, *, again: bool
    ) -> list[Upload]:
        """The run's files for the volume; its log and events only the first time: later ones are there."""
        here, there = RunFolder(self.record.path), journal.folder
        plan = {
            "version": 1,
            "run_id": self.record.id,
            "name": self.record.name,
            "folder": journal.folder,
            "launch": journal.launch,
            "resume": again,
            "volume": journal.volume,
            "base_volume": journal.base_volume,
            "gpu": list(journal.gpu),
            "rate": journal.rate,
            "budget": journal.budget,
            "seconds": journal.seconds,
            "model_folder": library.model_folder if library is not None else None,
            "sample_where": bundle.loaded.config.process.sample.where,
            "max_boots": 8,
            "created": time.time(),
        }
        files = [
            Upload(bundle.config_text(there).encode(), f"{there}/config.yaml"),
            Upload(json.dumps(plan, indent=1).encode(), f"{there}/state/launch.json"),
            Upload(_public_record(self.record), f"{there}/state/run.json"),
        ]
        if not again:
            files += [
                Upload(path.read_bytes(), f"{there}/{path.name}")
                for path in (here.events, here.log)
                if path.is_file()
            ]
        return files

    # Apps

    async def _prefetch(
        self, journal: Journal, library: Library, volume: ModalVolume, secrets: Mapping[str, str]
    ) -> Journal:
        """Have a CPU container download the base model, once, so that no GPU waits for it."""
        missing = await library.missing()
        if not missing:
            return journal
        self.voice.phase(Phase.DOWNLOADING, detail=", ".join(missing))
        journal = await library.fetch(
            missing, journal, self.record, secrets, self.voice, self.note, self.wanted
        )
        self._still_wanted()
        return journal

    async def _spawn(
        self,
        journal: Journal,
        volume: ModalVolume,
        library: Library | None,
        secrets: Mapping[str, str],
        bundle: Bundle,
    ) -> Journal:
        settings = bundle.loaded.config.process.modal
        journal = journal.with_(stage=Stage.LAUNCHING, app_id=None, call_id=None, function_id=None)
        self.note(journal)
        self.voice.phase(Phase.BUILDING)
        volumes = {MOUNT: volume} | ({BASE_MOUNT: library.volume} if library is not None else {})
        plan = AppPlan(
            run_id=self.record.id,
            launch=journal.launch,
            gpu=journal.gpu,
            volumes=volumes,
            secrets=secrets,
            cpu=settings.cpu,
            memory=settings.memory,
            packages=bundle.packages,
            sampler_gpu=tuple(settings.sampler_gpu),
            seconds=(journal.seconds or 86_400) + _GRACE_SECONDS,
            retries=settings.retries,
        )

        def on_app(app_id: str) -> None:
            nonlocal journal
            if journal.app_id != app_id:
                journal = journal.with_(app_id=app_id)
                self.note(journal)

        def on_spawn(spawned: Spawned) -> None:
            nonlocal journal
            journal = journal.with_(
                stage=Stage.SPAWNED,
                app_id=spawned.app_id,
                call_id=spawned.call_id,
                function_id=spawned.function_id,
                spawned=time.time(),
            )
            self.note(journal)

        await launch_app(
            self.gateway,
            plan,
            worker.train,
            {
                "folder": journal.folder,
                "run_id": self.record.id,
                "volume_id": volume.id,
                "volume_name": volume.name,
                "base_volume_id": library.volume.id if library is not None else None,
            },
            sampler=worker.sample if bundle.loaded.config.process.sample.where == "async" else None,
            on_app=on_app,
            on_spawn=on_spawn,
            on_build=lambda line: self.voice.line(f"image: {line}"),
        )
        return journal


class Unwanted(Exception):  # noqa: N818 - not an error
    """The user asked to stop the run before it was handed to Modal."""


def plan_journal(loaded: LoadedConfig) -> Journal:
    """The choices of a config, with what they can cost.

    The deadline follows from the dearest GPU that may serve: with a cheaper one the run has less than its
    budget spent when it is reached, never more.
    """
    settings = loaded.config.process.modal
    journal = Journal(
        volume=settings.volume,
        environment=settings.environment,
        gpu=tuple(settings.gpu),
        cpu=settings.cpu,
        memory=settings.memory,
        budget=settings.budget,
        bring_home=settings.bring_home,
    )
    return with_costs(journal, loaded, load_prices().prices)


def with_costs(journal: Journal, loaded: LoadedConfig, prices: Prices) -> Journal:
    """The journal with the dearest rate that may have to be paid, and the time that the budget pays for."""
    settings = loaded.config.process.modal
    machine = Machine(gpus=tuple(settings.gpu), cores=settings.cpu, memory=settings.memory)
    rate = rate_of(machine, prices)
    limit = settings.hours * 3600
    if settings.budget is not None and rate is not None:
        limit = min(limit, seconds_for_budget(settings.budget, rate.most))
    each = {gpu: rate_of(replace(machine, gpus=(gpu,)), prices) for gpu in settings.gpu}
    return journal.with_(
        rate=rate.most if rate is not None else 0.0,
        gpu_rates={gpu: one.most for gpu, one in each.items() if one is not None},
        seconds=limit,
    )


def _secrets(variables: Sequence[Variable]) -> dict[str, str]:
    """The values of the variables that the container needs.

    Raises:
        RefusedError: One that the config refers to is not set.
    """
    found: dict[str, str] = {}
    for variable in variables:
        value = os.environ.get(variable.name)
        if value:
            found[variable.name] = value
        elif variable.required:
            raise RefusedError(
                f"{variable.name} is not set here ({variable.reason}); put it into the .env beside the config"
            )
    return found


def _public_record(record: RunRecord) -> bytes:
    fields = {
        "id": record.id,
        "name": record.name,
        "backend": "modal",
        "steps": record.steps,
        "created": record.created,
        "handle": {},
    }
    return json.dumps(fields, indent=1).encode()


__all__ = ["MOUNT", "Launch", "RemoteError", "Unwanted", "plan_journal"]
