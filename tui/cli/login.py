"""``login``: a token for Modal or Hugging Face, from standard input or a hidden prompt, tried, then saved."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from backend.credentials.errors import CredentialsError
from backend.credentials.gitignore import ignore_proposal
from backend.credentials.pasted import PasteIncompleteError, PasteRefusedError
from backend.network import NetworkError
from tui.cli.hidden_prompt import read_hidden
from tui.cli.main import fail
from tui.cli.report import printable

T = TypeVar("T")

_MOST = 1 << 16  # characters read from standard input


def login(account: str, *, verify: bool) -> int:
    """Read, try and save a token; returns 0, 1 if it is not accepted or cannot be tried, 2 if it is none."""
    try:
        return _modal(verify) if account == "modal" else _hugging_face(verify)
    except PasteRefusedError as error:
        return fail(str(error), 2)
    except CredentialsError as error:
        return fail(printable(str(error)), 1)
    except NetworkError as error:
        return fail(f"not saved: {error}; --no-verify saves the token without trying it", 1)


def _read(prompt: str, parse: Callable[[str], T]) -> T:
    """What ``parse`` makes of the pasted text; at a prompt, lines are read until it has all it needs."""

    def wants_more(text: str) -> bool:
        try:
            parse(text)
        except PasteIncompleteError:
            return True
        except PasteRefusedError:
            return False
        return False

    if not sys.stdin.isatty():
        return parse(sys.stdin.read(_MOST))
    return parse(read_hidden(f"{prompt} (it is not shown)", wants_more))


def _modal(verify: bool) -> int:
    from backend.credentials.modal_command import parse_modal_command
    from backend.credentials.modal_profiles import (
        ModalToken,
        find_modal_token,
        modal_config_path,
        save_profile,
    )

    pasted = _read(
        "Paste the modal token set command of https://modal.com/settings/tokens", parse_modal_command
    )
    server = os.environ.get("MODAL_SERVER_URL") or None
    token = ModalToken(pasted.token_id, pasted.token_secret, "standard input", pasted.profile, server)
    workspace = None
    if verify:
        from backend.launchers.modal.account import AccountRefusal
        from backend.launchers.modal.account import verify as ask

        try:
            workspace = asyncio.run(ask(token)).workspace
        except AccountRefusal as refusal:
            return fail(printable(f"not saved: {refusal}"), 1)
    path = modal_config_path()
    name = pasted.profile or os.environ.get("MODAL_PROFILE") or workspace or "default"
    save_profile(path, name, token.token_id, token.token_secret, activate=pasted.activate, server_url=server)
    opened = f"; it opens the workspace {workspace}" if workspace else "; it was not tried"
    print(printable(f"saved in profile {name} of {path}{opened}"))
    used = find_modal_token(folder=Path.cwd())
    if used is not None and used.token_secret != token.token_secret:
        source = f"profile {used.profile} of {used.source}" if used.profile else used.source
        print(printable(f"but the token from {source} is used, which goes before it"), file=sys.stderr)
    return 0


def _hugging_face(verify: bool) -> int:
    from backend.credentials.hf_token import NAMES, find_hf_token, parse_hf_token, save_hf_token
    from backend.hub_account import HubRefusal, check_access, model_page, whoami

    token = _read("Paste the token of https://huggingface.co/settings/tokens", parse_hf_token)
    account, access = None, None
    if verify:
        from backend.doctor.situation import DEFAULT_MODEL

        try:
            account = asyncio.run(whoami(token))
        except HubRefusal as refusal:
            return fail(printable(f"not saved: {refusal}"), 1)
        with contextlib.suppress(HubRefusal, NetworkError):  # told by doctor; no reason not to save
            access = asyncio.run(check_access(DEFAULT_MODEL, token))
    # A token in .env goes before the Hub's own file, so that is the one to replace.
    folder = Path.cwd()
    in_dotenv = _dotenv_has(folder / ".env", NAMES)
    path = save_hf_token(token, "dotenv" if in_dotenv else "hub", folder=folder)
    whose = f"; it belongs to {account.name}" if account else "; it was not tried"
    print(printable(f"saved in {path}{whose}"))
    if account is not None and account.expires is not None:
        print(f"it ends on {account.expires.astimezone():%Y-%m-%d}", file=sys.stderr)
    if access is not None and access != "granted":
        page = model_page(DEFAULT_MODEL)
        print(
            f"FLUX.1-dev cannot be downloaded with it yet: see {page} and fluxlora-tui doctor",
            file=sys.stderr,
        )
    used = find_hf_token(folder=folder)
    if used is not None and used.token != token:
        print(printable(f"but the token from {used.source} is used, which goes before it"), file=sys.stderr)
    proposal = ignore_proposal(path) if in_dotenv else None
    if proposal is not None:
        print(printable(f"git would take it along: add {proposal.line} to {proposal.file}"), file=sys.stderr)
    return 0


def _dotenv_has(path: Path, names: tuple[str, ...]) -> bool:
    from backend.credentials.dotenv_file import read_dotenv

    variables = read_dotenv(path)
    return any(variables.get(name) for name in names)
