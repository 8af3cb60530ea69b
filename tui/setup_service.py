"""The accounts and this machine, as the setup screen sees and changes them.

Whatever needs Modal's SDK runs as a job in a process of its own. Tokens go there through standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tui.setup import (
    Backend,
    HfPlace,
    HfPlaces,
    LoginPage,
    ModalProfile,
    ModalProfiles,
    Saved,
    SetupCheck,
    SetupError,
    from_record,
)

if TYPE_CHECKING:
    from backend.credentials.secret import Secret

T = TypeVar("T")

_CHECKING = 30.0  # seconds for all checks; each of them ends by itself in ten
_TRYING = 20.0  # seconds to try a token
_LOGIN = 600.0  # seconds that a person has in the browser


class BackendSetup:
    """Does it for real.

    Args:
        root: The data folder.
        folder: The project's folder, whose ``.env`` counts; the working folder if None.
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        self._root = root
        self._folder = folder or Path.cwd()

    # Checks

    @property
    def titles(self) -> Mapping[str, str]:
        """Titles of all checks by their ids."""
        from backend.doctor.run import check_titles

        return check_titles()

    async def check(
        self,
        backend: Backend,
        config: Path | None,
        told: Callable[[SetupCheck], None],
        only: Collection[str] | None = None,
    ) -> None:
        """Make the checks; ``told`` hears of each as soon as it is known."""
        arguments = {
            "backend": backend,
            "config": str(config) if config is not None else None,
            "folder": str(self._project(config)),
            "only": sorted(only) if only is not None else None,
        }
        await self._ask("doctor", arguments, _CHECKING, news=lambda record: told(from_record(record)))

    def _project(self, config: Path | None) -> Path:
        return config.absolute().parent if config is not None else self._folder

    async def repair(self) -> None:
        """Keep others and git away from the files with secrets."""
        from backend.credentials.errors import CredentialsError
        from backend.doctor.project import secret_files
        from backend.doctor.situation import Facts, Situation

        check = await secret_files(Facts(Situation(folder=self._folder)))
        if check.repair is None:
            return
        try:
            await asyncio.to_thread(check.repair)
        except CredentialsError as error:
            raise SetupError(str(error)) from None
        except OSError as error:
            raise SetupError(f"{error.filename or 'a file'}: {error.strerror or error}") from None

    async def download_model(self, config: Path | None, progress: Callable[[int, int], None]) -> str:
        """Have the base model downloaded in the cloud; a sentence about the end."""
        from backend.credentials.hf_token import find_hf_token
        from backend.doctor.situation import Facts, Situation, is_hub_id
        from config.load import variables

        facts = Facts(Situation(backend="modal", config=config, folder=self._folder))
        models, shelf = await facts.models(), await facts.shelf()
        if not models or not is_hub_id(models[0]):
            raise SetupError(
                "the config names no model of the Hugging Face Hub; there is nothing to download"
            )

        def environment() -> dict[str, str]:
            found = variables(config or self._folder / "config.yaml")
            token = find_hf_token(found, self._folder)
            return {**found, "HF_TOKEN": token.token.reveal()} if token is not None else found

        answer = await self._ask(
            "prefetch",
            {
                "models": models[:1],
                "base_volume": shelf.volume,
                "environment": shelf.environment,
                "root": str(self._root),
            },
            None,
            progress=progress,
            environment=await asyncio.to_thread(environment),
        )
        how = "is on Modal now" if answer["fetched"] else "was there already"
        return f"{models[0]} {how}."

    # Modal

    async def try_modal(self, token_id: str, secret: Secret) -> str:
        """The name of the workspace that a token opens."""
        arguments = {
            "token_id": token_id,
            "token_secret": secret.reveal(),
            "server_url": os.environ.get("MODAL_SERVER_URL") or None,
        }
        return str((await self._ask("account", arguments, _TRYING))["workspace"])

    async def save_modal(
        self, token_id: str, secret: Secret, workspace: str, *, profile: str | None, activate: bool
    ) -> Saved:
        """Save a token in a profile of Modal's config file."""
        from backend.credentials.modal_profiles import modal_config_path, save_profile

        path = modal_config_path()
        name = profile or os.environ.get("MODAL_PROFILE") or workspace or "default"
        server = os.environ.get("MODAL_SERVER_URL") or None
        await _saving(
            lambda: save_profile(path, name, token_id, secret, activate=activate, server_url=server)
        )
        opens = f"It opens the workspace {workspace}." if workspace else "It was not tried."
        wins = await asyncio.to_thread(self._modal_winner, secret)
        return Saved(f"Saved in profile {name} of {path}. {opens}{wins}")

    def _modal_winner(self, secret: Secret) -> str:
        from backend.credentials.modal_profiles import find_modal_token

        used = find_modal_token(folder=self._folder)
        if used is None or used.token_secret == secret:
            return ""
        source = f"profile {used.profile} of {used.source}" if used.profile else used.source
        return f" But the token from {source} is used: it goes before."

    async def log_in(self, told: Callable[[LoginPage], None]) -> Saved:
        """Have a person agree in a browser to a new token, and save it."""
        arguments = {"server_url": os.environ.get("MODAL_SERVER_URL") or None, "patience": _LOGIN}
        answer = await self._ask(
            "login",
            arguments,
            _LOGIN + _TRYING,
            news=lambda page: told(LoginPage(str(page["url"]), str(page["code"]))),
        )
        return Saved(
            f"Saved in profile {answer['profile']} of {answer['file']}. "
            f"It opens the workspace {answer['workspace']}."
        )

    async def profiles(self) -> ModalProfiles:
        """The profiles of Modal's config file."""
        return await asyncio.to_thread(self._profiles)

    def _profiles(self) -> ModalProfiles:
        from backend.credentials.errors import CredentialsError
        from backend.credentials.modal_profiles import (
            find_modal_token,
            modal_config_path,
            read_profiles,
        )
        from backend.credentials.secret import Secret

        path = modal_config_path()
        try:
            found = read_profiles(path)
        except CredentialsError as error:
            return ModalProfiles(path, problem=str(error))
        used = find_modal_token(folder=self._folder)
        problem = ""
        if used is not None and used.profile is None:
            problem = f"The token from {used.source} is used: it goes before all profiles."
        elif used is not None and (name := os.environ.get("MODAL_PROFILE")):
            problem = f"MODAL_PROFILE={name} goes before the active profile."
        rows = (
            ModalProfile(
                one.name,
                one.active,
                Secret(one.token_id).masked if one.token_id else "no token",
                one.server_url or "",
            )
            for one in found
        )
        return ModalProfiles(path, tuple(rows), problem)

    async def activate(self, profile: str) -> None:
        """Use another profile from now on."""
        from backend.credentials.modal_profiles import activate_profile, modal_config_path

        await _saving(lambda: activate_profile(modal_config_path(), profile))

    async def remove(self, profile: str) -> None:
        """Take a profile out of the file."""
        from backend.credentials.modal_profiles import modal_config_path, remove_profile

        await _saving(lambda: remove_profile(modal_config_path(), profile))

    # Hugging Face

    async def hf_places(self) -> HfPlaces:
        """Where a Hugging Face token can go."""
        return await asyncio.to_thread(self._hf_places)

    def _hf_places(self) -> HfPlaces:
        from backend.credentials.dotenv_file import read_dotenv
        from backend.credentials.hf_token import NAMES, hub_token_path

        dotenv = self._folder / ".env"
        there = read_dotenv(dotenv)
        # One in .env goes before the Hub's own file, so that is the one to replace.
        best: HfPlace = "dotenv" if any(there.get(name) for name in NAMES) else "hub"
        return HfPlaces(dotenv, hub_token_path(), best)

    async def try_hf(self, token: Secret) -> str:
        """Whose token it is, and what it lacks, as a clause."""
        from backend.doctor.situation import DEFAULT_MODEL
        from backend.hub_account import HubRefusal, check_access, model_page, reach_hub, whoami
        from backend.network import NetworkError

        try:
            await reach_hub()
            account = await whoami(token)
        except NetworkError as error:
            raise SetupError(str(error), unreachable=True) from None
        except HubRefusal as refusal:
            raise SetupError(str(refusal), unreachable=refusal.reason in ("busy", "garbage")) from None
        words = f"it belongs to {account.name}"
        if account.expires is not None:
            words += f", it ends on {account.expires.astimezone():%Y-%m-%d}"
        with contextlib.suppress(HubRefusal, NetworkError):  # the licence is another check
            if await check_access(DEFAULT_MODEL, token) != "granted":
                words += f"; it cannot download FLUX.1-dev yet: see {model_page(DEFAULT_MODEL)}"
        return words

    async def save_hf(self, token: Secret, place: HfPlace, whose: str) -> Saved:
        """Save a Hugging Face token."""
        from backend.credentials.gitignore import ignore_proposal
        from backend.credentials.hf_token import find_hf_token, save_hf_token

        path = await _saving(lambda: save_hf_token(token, place, folder=self._folder))
        text = f"Saved in {path}; {whose or 'it was not tried'}."
        used = await asyncio.to_thread(lambda: find_hf_token(folder=self._folder))
        if used is not None and used.token != token:
            text += f" But the token from {used.source} is used: it goes before."
        proposal = await asyncio.to_thread(ignore_proposal, path) if place == "dotenv" else None
        return Saved(text, proposal)

    # Jobs

    async def _ask(
        self,
        job: str,
        arguments: Mapping[str, Any],
        patience: float | None,
        *,
        news: Callable[[Any], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Any:
        from backend.launchers.base import LaunchError
        from backend.launchers.modal.errand import ask

        try:
            async with asyncio.timeout(patience):
                answer = await ask(job, arguments, progress, environment=environment, news=news)
        except TimeoutError:
            raise SetupError(f"there was no answer within {patience:.0f} s", unreachable=True) from None
        except LaunchError as error:
            raise SetupError(str(error)) from None
        except OSError as error:
            raise SetupError(f"a process could not be started: {error.strerror or error}") from None
        refused = answer.get("refused") if isinstance(answer, dict) else None
        if refused is not None:
            raise SetupError(
                f"{refused['message']}; {refused['fix']}", unreachable=refused["kind"] == "network"
            )
        return answer


async def _saving(work: Callable[[], T]) -> T:
    """Do in a thread what changes a file with secrets."""
    from backend.credentials.errors import CredentialsError

    try:
        return await asyncio.to_thread(work)
    except CredentialsError as error:
        raise SetupError(str(error)) from None
