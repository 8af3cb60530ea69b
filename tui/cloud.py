"""What is in the Modal workspace, whoever started it, asked in a process of its own that ends in time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PATIENCE = 30.0
"""Seconds after which an answer is not waited for any more."""


class CloudError(Exception):
    """Modal was not asked, or did not answer; the message is one sentence for people."""


@dataclass(frozen=True)
class CloudRun:
    """A run whose folder is on the volume; the fields are those of its last save there.

    Attributes:
        id: Its id.
        name: ``config.name``.
        folder: Its folder on the volume.
        status: Its status.
        step: Updates done.
        steps: Updates of the whole run.
        app: The Modal app that works on it; empty if none does.
        here: Whether this machine has the run.
        created: Seconds since 1970.
        updated: Seconds since 1970; 0 if no container has begun.
    """

    id: str
    name: str
    folder: str
    status: str
    step: int = 0
    steps: int = 0
    app: str = ""
    here: bool = False
    created: float = 0.0
    updated: float = 0.0


@dataclass(frozen=True)
class Workspace:
    """A workspace's name, and its runs, the newest first."""

    name: str
    runs: tuple[CloudRun, ...]


@dataclass(frozen=True)
class Leftover:
    """An app of ours that has nothing to do any more, and why that is so."""

    app: str
    run_id: str
    why: str


class Cloud(Protocol):
    """The workspace. Every method raises :class:`CloudError`, and ends within :data:`PATIENCE` or so."""

    async def workspace(self) -> Workspace:
        """What is there."""
        ...

    async def adopt(self, run_id: str) -> str:
        """Take up a run that another machine started; its id here."""
        ...

    async def leftovers(self) -> Sequence[Leftover]:
        """Apps that have nothing to do."""
        ...

    async def clean(self) -> int:
        """Stop those apps; how many there were."""
        ...


class ModalCloud:
    """The workspace of the user's token, as jobs of :mod:`backend.launchers.modal.errand` see it.

    Args:
        folder: The project's folder, whose ``.env`` may hold the token.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path.cwd()

    async def workspace(self) -> Workspace:
        """What is there."""
        answer = await self._ask("runs")
        return Workspace(str(answer["workspace"]), tuple(_run(fields) for fields in answer["runs"]))

    async def adopt(self, run_id: str) -> str:
        """Take up a run that another machine started; its id here."""
        return str((await self._ask("adopt", run=run_id))["id"])

    async def leftovers(self) -> Sequence[Leftover]:
        """Apps that have nothing to do."""
        found = (await self._ask("cleanup", remove=False))["leftovers"]
        return [Leftover(str(one["app_id"]), str(one["run_id"]), str(one["why"])) for one in found]

    async def clean(self) -> int:
        """Stop those apps; how many there were."""
        return len((await self._ask("cleanup", remove=True))["leftovers"])

    async def _ask(self, job: str, **arguments: Any) -> Any:
        from backend.launchers.base import LaunchError
        from backend.launchers.modal.errand import ask

        try:
            environment, place = await asyncio.to_thread(self._prepare)
            async with asyncio.timeout(PATIENCE):
                return await ask(job, {**place, **arguments}, environment=environment)
        except TimeoutError:
            raise CloudError(f"Modal did not answer within {PATIENCE:.0f} s") from None
        except LaunchError as error:
            raise CloudError(str(error)) from error
        except OSError as error:
            raise CloudError(f"Modal cannot be asked: {error.strerror or error}") from error

    def _prepare(self) -> tuple[dict[str, str], dict[str, Any]]:
        from backend.credentials.modal_profiles import find_modal_token
        from backend.home import home
        from config.load import variables
        from config.schema.modal import ModalConfig

        environment = variables(self._folder / "config.yaml")
        if find_modal_token(environment, self._folder) is None:
            raise CloudError(NO_TOKEN)
        return environment, {"volume": ModalConfig().volume, "environment": None, "root": str(home())}


NO_TOKEN = "there is no Modal token yet; press 9 for the setup, or in a terminal: fluxlora-tui login modal"


def _run(fields: Mapping[str, Any]) -> CloudRun:
    return CloudRun(
        id=str(fields["id"]),
        name=str(fields["name"]),
        folder=str(fields["folder"]),
        status=str(fields["status"]),
        step=int(fields["step"]),
        steps=int(fields["steps"]),
        app=str(fields["app_id"] or ""),
        here=bool(fields["here"]),
        created=float(fields["created"] or 0),
        updated=float(fields["updated"] or 0),
    )
