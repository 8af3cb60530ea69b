"""The jobs of setting up: all checks, trying a token, logging in with a browser.

A refusal is part of their answer, not a failure of the job: ``{"refused": {kind, reason, message, fix}}``.
Secrets come by standard input and leave by no way: a token that a browser login gives is saved right here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backend.credentials.modal_profiles import ModalToken, modal_config_path, save_profile
from backend.credentials.secret import Secret
from backend.launchers.modal.account import Account, AccountRefusal, browser_login, verify
from backend.network import NetworkError

News = Callable[[Any], None]


async def doctor(arguments: Mapping[str, Any], news: News) -> dict[str, Any]:
    """Make checks, each told as soon as it is known: ``{backend, config | null, folder, only | null}``.

    A check is told as its record, with ``page``, and ``repairable``: whether it has a safe repair.
    """
    from backend.credentials.redaction import redact_data, remember_environment
    from backend.doctor import Situation, run_checks
    from backend.doctor.volume import ask_library

    remember_environment()
    config = arguments.get("config")
    situation = Situation(
        backend=arguments["backend"],
        config=Path(config) if config else None,
        folder=Path(arguments["folder"]),
        base_model_cached=ask_library,
    )
    async for check in run_checks(situation, arguments.get("only")):
        news(redact_data({**check.record(), "page": check.page, "repairable": check.repair is not None}))
    return {}


async def account(arguments: Mapping[str, Any], news: News) -> dict[str, Any]:
    """Whose token it is: ``{token_id, token_secret, server_url | null}``; answers the workspace's name."""
    token = ModalToken(
        str(arguments["token_id"]),
        Secret(str(arguments["token_secret"])),
        "standard input",
        None,
        arguments.get("server_url"),
    )
    try:
        return _record(await verify(token))
    except (NetworkError, AccountRefusal) as error:
        return _refused(error)


async def login(arguments: Mapping[str, Any], news: News) -> dict[str, Any]:
    """Log in with a browser, try the new token and save it: ``{server_url | null, patience}``.

    The page is told as ``{url, code}``; answers ``{workspace, profile, file}``.

    Raises:
        CredentialsError: The token cannot be saved.
    """
    server = arguments.get("server_url")
    try:
        async with browser_login(server) as flow:
            news({"url": flow.url, "code": flow.code})
            new = await flow.wait(float(arguments["patience"]))
        token = ModalToken(new.token_id, new.token_secret, "the browser", None, server)
        found = await verify(token)
    except (NetworkError, AccountRefusal) as error:
        return _refused(error)
    path = modal_config_path()
    workspace = new.workspace or found.workspace
    profile = os.environ.get("MODAL_PROFILE") or workspace or "default"
    save_profile(path, profile, new.token_id, new.token_secret, server_url=server)
    return {"workspace": workspace, "profile": profile, "file": str(path)}


def _record(found: Account) -> dict[str, Any]:
    return {key: value for key, value in asdict(found).items() if key in ("workspace", "token_name", "user")}


def _refused(error: NetworkError | AccountRefusal) -> dict[str, Any]:
    kind = "network" if isinstance(error, NetworkError) else "account"
    return {"refused": {"kind": kind, "reason": error.reason, "message": error.message, "fix": error.fix}}
