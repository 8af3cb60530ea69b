"""What the checks look at, and what several of them need: found out once, by whoever asks first."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from backend.credentials.hf_token import find_hf_token
from backend.credentials.modal_profiles import ModalToken, find_modal_token
from backend.credentials.secret import Secret
from backend.hub_account import Access, HubAccount, check_access, reach_hub, whoami

if TYPE_CHECKING:
    from backend.launchers.modal.account import Account
    from config.load import LoadedConfig
    from config.problems import Problem

T = TypeVar("T")

DEFAULT_MODEL = "black-forest-labs/FLUX.1-dev"


@dataclass(frozen=True)
class CachedModel:
    """A base model on the volume in the cloud.

    Attributes:
        bytes: How much of it is there.
        complete: Whether that is all.
    """

    bytes: int
    complete: bool


@dataclass(frozen=True)
class Shelf:
    """Where base models are kept in the cloud.

    Attributes:
        volume: The volume's name.
        environment: The Modal environment; the workspace's default one if None.
    """

    volume: str
    environment: str | None = None


async def _not_known(token: ModalToken, shelf: Shelf, model: str) -> CachedModel | None:
    return None


@dataclass(frozen=True)
class Situation:
    """What is to be checked.

    Attributes:
        backend: Where the launch would run.
        config: The config to launch; None to check everything but a config.
        folder: The project's folder, whose ``.env`` counts; the config's, or the working folder if None.
        env: The environment; the process's own if None.
        base_model_cached: Says how much of a base model is on its volume in the cloud; None if it cannot
            tell. Raises NetworkError. See :func:`backend.doctor.volume.ask_library`.
    """

    backend: Literal["local", "modal"] = "local"
    config: Path | None = None
    folder: Path | None = None
    env: Mapping[str, str] | None = None
    base_model_cached: Callable[[ModalToken, Shelf, str], Awaitable[CachedModel | None]] = _not_known


@dataclass
class Facts:
    """A situation and what has been found out about it; for one round of checks."""

    situation: Situation
    _asked: dict[str, asyncio.Task[Any]] = field(default_factory=dict)

    @property
    def env(self) -> Mapping[str, str]:
        """The environment that counts."""
        return os.environ if self.situation.env is None else self.situation.env

    @property
    def folder(self) -> Path:
        """The project's folder."""
        if self.situation.folder is not None:
            return self.situation.folder
        return self.situation.config.absolute().parent if self.situation.config is not None else Path.cwd()

    async def _once(self, name: str, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer of ``question``, which is asked once; one asker that gives up does not end it."""
        if name not in self._asked:
            self._asked[name] = asyncio.ensure_future(question())
        return await asyncio.shield(self._asked[name])

    def cancel(self) -> None:
        """Stop what is still being found out."""
        for task in self._asked.values():
            task.cancel()
            # An answer that nobody waits for any more is no error.
            task.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    async def loaded(self) -> tuple[LoadedConfig | None, list[Problem]]:
        """The config and its problems; the situation must have one."""

        async def load() -> tuple[LoadedConfig | None, list[Problem]]:
            from config.load import check_config

            assert self.situation.config is not None
            return await asyncio.to_thread(check_config, self.situation.config)

        return await self._once("config", load)

    async def models(self) -> list[str]:
        """Base models that the config names, or the usual one if there is no config that can be read.

        Each is a Hub id or a path; the model itself comes first.
        """
        if self.situation.config is None:
            return [DEFAULT_MODEL]
        loaded, _ = await self.loaded()
        if loaded is None:
            return []
        model = loaded.config.process.model
        named = (model.name_or_path, model.extras_name_or_path, model.vae_path, model.assistant_lora_path)
        return list(dict.fromkeys(name for name in named if name))

    async def shelf(self) -> Shelf:
        """Where the config, or the usual one, keeps base models in the cloud."""
        loaded = (await self.loaded())[0] if self.situation.config is not None else None
        if loaded is not None:
            modal = loaded.config.process.modal
        else:
            from config.schema.modal import ModalConfig

            modal = ModalConfig()
        return Shelf(modal.base_volume, modal.environment)

    def modal_token(self) -> ModalToken | None:
        """The Modal token that a launch would use."""
        return find_modal_token(self.env, self.folder)

    async def modal_account(self) -> Account:
        """Whose workspace the Modal token opens. Raises NetworkError and AccountRefusal."""

        async def ask() -> Account:
            from backend.launchers.modal.account import verify

            token = self.modal_token()
            assert token is not None
            return await verify(token)

        return await self._once("modal", ask)

    async def hub_account(self) -> HubAccount:
        """Whose token the Hugging Face token is. Raises NetworkError and HubRefusal."""

        async def ask() -> HubAccount:
            found = find_hf_token(self.env, self.folder)
            assert found is not None
            await self._reach_hub()
            return await whoami(found.token, env=self.env)

        return await self._once("hub", ask)

    async def hub_access(self, repo: str, token: Secret | None) -> Access:
        """Whether a model of the Hub can be downloaded. Raises NetworkError and HubRefusal."""
        await self._reach_hub()
        return await check_access(repo, token, env=self.env)

    async def _reach_hub(self) -> None:
        """Find out in three seconds that there is no network; a request would take its whole patience."""
        await self._once("hub-reach", lambda: reach_hub(self.env))


def is_hub_id(name: str) -> bool:
    """Whether a model's name is a repository of the Hub, not a path."""
    from config.paths import looks_like_path

    return not looks_like_path(name)
