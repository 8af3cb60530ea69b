"""What the setup screen asks for and what it is answered; :mod:`tui.setup_service` does it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from backend.credentials.gitignore import IgnoreProposal
    from backend.credentials.secret import Secret

State = Literal["pending", "working", "ok", "warning", "missing", "failed", "unknown"]
Backend = Literal["local", "modal"]
HfPlace = Literal["dotenv", "hub"]

MODAL_CHECKS = ("modal-token", "modal-workspace", "modal-budget", "base-model", "secret-files")
"""What a new Modal token changes."""

HF_CHECKS = ("hf-token", "licence", "secret-files")
"""What a new Hugging Face token changes."""


class SetupError(Exception):
    """Something was not done; the message is one sentence for people.

    Attributes:
        unreachable: Whether the other side was not heard at all: the token may be good.
    """

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


@dataclass(frozen=True)
class SetupCheck:
    """A check as the screen shows it; the fields are those of ``backend.doctor.Check``.

    Attributes:
        id: ``modal-token``, ``licence``, …
        title: What is checked.
        state: What was found; ``pending`` while it is being found out, ``working`` while it is mended.
        detail: The same in a line.
        fix: What to do; empty if nothing.
        needed: Whether a launch fails without it.
        page: Web page on which it is mended; empty if none.
        repairable: Whether it can be mended without asking.
    """

    id: str
    title: str
    state: State = "pending"
    detail: str = ""
    fix: str = ""
    needed: bool = False
    page: str = ""
    repairable: bool = False

    @property
    def good(self) -> bool:
        """Whether a launch works as far as this is concerned."""
        return self.state in ("ok", "warning") or (self.state != "pending" and not self.needed)

    def asked_again(self) -> SetupCheck:
        """The same check, not answered yet; what was known stays to be read."""
        return replace(self, state="pending", repairable=False)


def from_record(record: Mapping[str, Any]) -> SetupCheck:
    """A check as the ``doctor`` job tells it."""
    return SetupCheck(
        id=str(record["id"]),
        title=str(record["title"]),
        state=record["status"],
        detail=str(record["detail"]),
        fix=str(record["fix"] or ""),
        needed=bool(record["needed"]),
        page=str(record["page"] or ""),
        repairable=bool(record["repairable"]),
    )


@dataclass(frozen=True)
class LoginPage:
    """Where a person agrees to a login: the page, and a code that it may ask for."""

    url: str
    code: str = ""


@dataclass(frozen=True)
class ModalProfile:
    """A profile of Modal's config file; ``masked`` tells its token id from others and no more."""

    name: str
    active: bool
    masked: str
    server: str = ""


@dataclass(frozen=True)
class ModalProfiles:
    """The profiles.

    Attributes:
        file: Modal's config file.
        profiles: In the file's order.
        problem: Why they cannot be read, or why another token is used; empty if neither.
    """

    file: Path
    profiles: tuple[ModalProfile, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class HfPlaces:
    """Where a Hugging Face token can be saved, and where it stands now or would best go."""

    dotenv: Path
    hub: Path
    best: HfPlace = "hub"


@dataclass(frozen=True)
class Saved:
    """A token was saved.

    Attributes:
        text: What to tell, in one or two sentences.
        proposal: A line missing in ``.gitignore``, if git would take the file along.
    """

    text: str
    proposal: IgnoreProposal | None = None


class Setup(Protocol):
    """The accounts and this machine. Methods raise :class:`SetupError` and end in time."""

    @property
    def titles(self) -> Mapping[str, str]:
        """Titles of all checks by their ids, in the order in which people should read them."""
        ...

    async def check(
        self,
        backend: Backend,
        config: Path | None,
        told: Callable[[SetupCheck], None],
        only: Collection[str] | None = None,
    ) -> None:
        """Make the checks; ``told`` hears of each as soon as it is known."""
        ...

    async def repair(self) -> None:
        """Keep others and git away from the files with secrets."""
        ...

    async def download_model(self, config: Path | None, progress: Callable[[int, int], None]) -> str:
        """Have the base model downloaded in the cloud; a sentence about the end. It outlives its asker."""
        ...

    async def try_modal(self, token_id: str, secret: Secret) -> str:
        """The name of the workspace that a token opens."""
        ...

    async def save_modal(
        self, token_id: str, secret: Secret, workspace: str, *, profile: str | None, activate: bool
    ) -> Saved:
        """Save a token in a profile; ``workspace`` is empty if it was not tried."""
        ...

    async def log_in(self, told: Callable[[LoginPage], None]) -> Saved:
        """Have a person agree in a browser to a new token, and save it."""
        ...

    async def profiles(self) -> ModalProfiles:
        """The profiles of Modal's config file."""
        ...

    async def activate(self, profile: str) -> None:
        """Use another profile from now on."""
        ...

    async def remove(self, profile: str) -> None:
        """Take a profile out of the file."""
        ...

    async def hf_places(self) -> HfPlaces:
        """Where a Hugging Face token can go."""
        ...

    async def try_hf(self, token: Secret) -> str:
        """Whose token it is, and what it lacks, as a clause."""
        ...

    async def save_hf(self, token: Secret, place: HfPlace, whose: str) -> Saved:
        """Save a Hugging Face token; ``whose`` is empty if it was not tried."""
        ...


def summary(checks: Sequence[SetupCheck], backend: Backend) -> tuple[str, bool | None]:
    """One line about all checks, and whether a launch would work; None while that is not known."""
    where = "on Modal" if backend == "modal" else "on this machine"
    pending = sum(check.state == "pending" for check in checks)
    if pending:
        return f"checking, {len(checks) - pending} of {len(checks)} known", None
    lacking = [check.title for check in checks if not check.good]
    if not lacking:
        return f"ready to train {where}", True
    return f"not ready {where}: {', '.join(lacking)}", False
