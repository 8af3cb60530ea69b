"""Accounts and a machine in memory, for the setup screen: answers come when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from backend.credentials.secret import Secret
from backend.doctor.run import check_titles
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
)

PAGE = "https://huggingface.co/black-forest-labs/FLUX.1-dev"


def check(check_id: str, state: str, detail: str = "", fix: str = "", **fields: object) -> SetupCheck:
    """One answer."""
    return SetupCheck(check_id, check_titles()[check_id], state, detail, fix, **fields)  # type: ignore[arg-type]


ALL_GOOD = (
    check("python", "ok", "Python 3.11.9, fluxlora-tui 0.1.0, modal 1.6.4"),
    check("modal-token", "ok", "valid (laptop), from /home/me/.modal.toml, profile fox", needed=True),
    check("modal-workspace", "ok", "fox, token of alice", needed=True),
    check("modal-budget", "ok", "$3.20 used since 01 November, $3.20 of it paid by credits, $0.00 to pay"),
    check("hf-token", "ok", "alice, role read, from HF_TOKEN"),
    check("licence", "ok", "black-forest-labs/FLUX.1-dev can be downloaded", needed=True),
    check("base-model", "ok", "black-forest-labs/FLUX.1-dev, 33.9 GB"),
    check("config", "unknown", "no config was given", "fluxlora-tui doctor CONFIG"),
    check("datasets", "unknown", "no config was given"),
    check("local-training", "warning", "torch 2.13.0, no GPU", "the demo trains here; train FLUX.1 on Modal"),
    check("secret-files", "ok", "only you can read them"),
)
NOTHING = (
    ALL_GOOD[0],
    check("modal-token", "missing", "there is no Modal token", "fluxlora-tui login modal", needed=True),
    check("modal-workspace", "missing", "no token, no workspace", "fluxlora-tui login modal", needed=True),
    check("modal-budget", "unknown", "no token"),
    check("hf-token", "missing", "there is no Hugging Face token", "fluxlora-tui login hf"),
    check(
        "licence", "missing", "black-forest-labs/FLUX.1-dev needs a Hugging Face token",
        f"accept the licence at {PAGE}, then fluxlora-tui login hf", needed=True, page=PAGE,
    ),
    check("base-model", "unknown", "not looked for: no token"),
    *ALL_GOOD[7:],
)  # fmt: skip
FAILURES = (
    ALL_GOOD[0],
    check(
        "modal-token", "failed", "Modal does not know this token: it was revoked, or id and secret do "
        "not belong together (token from the environment, which wins over /home/me/.modal.toml)",
        "get a new one at https://modal.com/settings/tokens, then fluxlora-tui login modal", needed=True,
    ),
    check("modal-workspace", "unknown", "Modal does not know this token", needed=True),
    check("modal-budget", "unknown", "Modal does not know this token"),
    check(
        "hf-token", "failed", "not verified: huggingface.co cannot be reached through the proxy "
        "proxy.example:3128 (token from /work/.env)",
        "correct HTTPS_PROXY, or put huggingface.co into NO_PROXY",
    ),
    check("licence", "unknown", "huggingface.co cannot be reached", "correct HTTPS_PROXY", needed=True),
    check("base-model", "missing", "black-forest-labs/FLUX.1-dev is not there",
          "the first launch downloads it"),
    *ALL_GOOD[7:10],
    check(
        "secret-files", "warning", "others on this machine can read /work/.env; git would take /work/.env "
        "along", "chmod 600 /work/.env; add .env to /work/.gitignore; doctor --fix does it", repairable=True,
    ),
)  # fmt: skip


class FakeSetup:
    """Answers at once, unless ``hold`` is set; ``asked`` notes what it was asked to do."""

    def __init__(self, answers: Collection[SetupCheck] = NOTHING) -> None:
        self.answers = {answer.id: answer for answer in answers}
        self.asked: list[tuple[str, ...]] = []
        self.failure: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.workspace = "fox"
        self.page = LoginPage("https://modal.com/token-flow/tf-abc123", "123456")
        self.found = ModalProfiles(
            Path("/home/me/.modal.toml"),
            (ModalProfile("fox", True, "ak-…3456"), ModalProfile("work", False, "ak-…9876")),
        )
        self.places = HfPlaces(Path("/work/.env"), Path("/home/me/.cache/huggingface/token"))
        self.proposal = None
        self.progress: Callable[[int, int], None] | None = None
        self.cancelled: list[str] = []

    @property
    def titles(self) -> Mapping[str, str]:
        return check_titles()

    async def _answer(self, *what: str) -> None:
        self.asked.append(what)
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled.append(what[0])
                raise
        if self.failure is not None:
            raise self.failure

    async def check(
        self,
        backend: Backend,
        config: Path | None,
        told: Callable[[SetupCheck], None],
        only: Collection[str] | None = None,
    ) -> None:
        self.asked.append(("check", backend, *sorted(only or ())))
        for answer in list(self.answers.values()):
            if only is None or answer.id in only:
                if self.hold is not None:
                    await self.hold.wait()
                told(answer)
        if self.failure is not None:
            raise self.failure

    async def repair(self) -> None:
        await self._answer("repair")

    async def download_model(self, config: Path | None, progress: Callable[[int, int], None]) -> str:
        self.progress = progress
        await self._answer("download")
        return "black-forest-labs/FLUX.1-dev is on Modal now."

    async def try_modal(self, token_id: str, secret: Secret) -> str:
        await self._answer("try modal", token_id)
        return self.workspace

    async def save_modal(
        self, token_id: str, secret: Secret, workspace: str, *, profile: str | None, activate: bool
    ) -> Saved:
        self.asked.append(("save modal", token_id, workspace, str(profile), str(activate)))
        return Saved(f"Saved in profile {profile or workspace}.")

    async def log_in(self, told: Callable[[LoginPage], None]) -> Saved:
        told(self.page)
        await self._answer("log in")
        return Saved("Saved in profile fox.")

    async def profiles(self) -> ModalProfiles:
        return self.found

    async def activate(self, profile: str) -> None:
        await self._answer("activate", profile)

    async def remove(self, profile: str) -> None:
        await self._answer("remove", profile)

    async def hf_places(self) -> HfPlaces:
        return self.places

    async def try_hf(self, token: Secret) -> str:
        await self._answer("try hf")
        return "it belongs to alice"

    async def save_hf(self, token: Secret, place: HfPlace, whose: str) -> Saved:
        self.asked.append(("save hf", place, whose))
        return Saved(f"Saved; {whose or 'it was not tried'}.", self.proposal)


UNREACHABLE = SetupError("api.modal.com cannot be found: this machine seems to be offline", unreachable=True)
