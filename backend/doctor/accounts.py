"""Checks of the two accounts: tokens, workspace, licence, and the model in the cloud."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from backend.credentials.hf_token import find_hf_token, hf_token_problem, hf_tokens
from backend.credentials.modal_command import token_problem
from backend.credentials.modal_profiles import modal_token_places
from backend.doctor.check import Check, Status
from backend.doctor.model_cache import cached_on_this_machine
from backend.doctor.situation import Facts, is_hub_id
from backend.hub_account import Access, HubRefusal, model_page, token_page
from backend.network import NetworkError

_SOON = timedelta(days=7)
_USAGE_PAGE = "https://modal.com/settings/usage"
_LOGIN_MODAL = "fluxlora-tui login modal"
_LOGIN_HF = "fluxlora-tui login hf"


async def modal_token(facts: Facts) -> Check:
    """Whether there is a Modal token, where it comes from, and whether Modal accepts it."""
    needed = facts.situation.backend == "modal"

    def answer(status: Status, detail: str, fix: str | None = None) -> Check:
        return Check("modal-token", "Modal token", status, detail, fix, needed)

    places = await asyncio.to_thread(modal_token_places, facts.env, facts.folder)
    token = next((place.token for place in places if place.token is not None), None)
    if token is None:
        broken = next((place for place in places if place.problem), None)
        if broken is not None:
            return answer("failed", f"{broken.source} {broken.problem}", _LOGIN_MODAL)
        return answer("missing", "there is no Modal token", _LOGIN_MODAL)
    profile = f", profile {token.profile}" if token.profile else ""
    where = f"from {token.source}{profile}"
    others = [place.source for place in places if place.token is not None and place.token is not token]
    if others:
        where += f", which wins over {' and '.join(others)}"
    from backend.launchers.modal.account import AccountRefusal

    try:
        account = await facts.modal_account()
    except NetworkError as error:
        return answer("failed", f"not verified: {error.message} (token {where})", error.fix)
    except AccountRefusal as refusal:
        shape = None
        if refusal.reason == "denied":
            shape = token_problem(token.token_id, token.token_secret.reveal())
        detail = f"{shape or refusal.message} (token {where})"
        return answer("failed", detail, f"{refusal.fix}, then {_LOGIN_MODAL}")
    name = f" ({account.token_name})" if account.token_name else ""
    ends = _ending(account.expires)
    if ends:
        return answer("warning", f"valid{name}, {where}; {ends}", f"make a new one in time: {_LOGIN_MODAL}")
    return answer("ok", f"valid{name}, {where}")


async def modal_workspace(facts: Facts) -> Check:
    """Which workspace a launch would use."""
    needed = facts.situation.backend == "modal"

    def answer(status: Status, detail: str, fix: str | None = None) -> Check:
        return Check("modal-workspace", "Modal workspace", status, detail, fix, needed)

    if await asyncio.to_thread(facts.modal_token) is None:
        return answer("missing", "no token, no workspace", _LOGIN_MODAL)
    from backend.launchers.modal.account import AccountRefusal

    try:
        account = await facts.modal_account()
    except NetworkError as error:
        return answer("unknown", error.message, error.fix)
    except AccountRefusal as refusal:
        return answer("unknown", refusal.message, refusal.fix)
    user = f", token of {account.user}" if account.user else ""
    return answer("ok", f"{account.workspace}{user}")


async def modal_budget(facts: Facts) -> Check:
    """What the workspace has spent, where Modal tells."""

    def answer(status: Status, detail: str, fix: str | None = None, page: str | None = None) -> Check:
        return Check("modal-budget", "Modal spending", status, detail, fix, needed=False, page=page)

    token = await asyncio.to_thread(facts.modal_token)
    if token is None:
        return answer("unknown", "no token")
    from backend.launchers.modal.account import AccountRefusal, workspace_budget

    try:
        budget = await workspace_budget(token)
    except NetworkError as error:
        return answer("unknown", error.message, error.fix)
    except AccountRefusal as refusal:
        return answer("unknown", refusal.message, refusal.fix)
    if budget is None:
        return answer("unknown", "Modal does not tell this token", f"see {_USAGE_PAGE}", _USAGE_PAGE)
    paid = f", ${budget.credits:.2f} of it paid by credits" if budget.credits is not None else ""
    return answer(
        "ok", f"${budget.used:.2f} used since {budget.since:%d %B}{paid}, ${budget.billed:.2f} to pay"
    )


async def hf_token(facts: Facts) -> Check:
    """Whether there is a Hugging Face token, whose, and what it may do."""

    # A launch depends on whether the base model can be had, which the licence check says.
    def answer(status: Status, detail: str, fix: str | None = None) -> Check:
        return Check("hf-token", "Hugging Face token", status, detail, fix, needed=False)

    tokens = await asyncio.to_thread(hf_tokens, facts.env, facts.folder)
    if not tokens:
        return answer("missing", "there is no Hugging Face token", _LOGIN_HF)
    first = tokens[0]
    where = f"from {first.source}"
    others = [token.source for token in tokens[1:] if token.token != first.token]
    if others:
        where += f", which wins over {' and '.join(others)}"
    try:
        account = await facts.hub_account()
    except NetworkError as error:
        return answer("failed", f"not verified: {error.message} (token {where})", error.fix)
    except HubRefusal as refusal:
        shape = hf_token_problem(first.token.reveal()) if refusal.reason == "invalid" else None
        detail = f"{shape or refusal.message} (token {where})"
        return answer("failed", detail, f"{refusal.fix}, then {_LOGIN_HF}")
    role = f", role {account.role}" if account.role else ""
    detail = f"{account.name}{role}, {where}"
    if account.clock:
        return answer("warning", detail, account.clock)
    ends = _ending(account.expires)
    if ends:
        return answer("warning", f"{detail}; {ends}", f"make a new one in time: {_LOGIN_HF}")
    if account.reads_gated is False:
        return answer(
            "warning",
            f"{detail}; it may not read gated models",
            f"allow it to at {token_page(facts.env)}",
        )
    if await _uploads(facts) and account.can_write is False:
        return answer(
            "warning",
            f"{detail}; it may not upload",
            "the config uploads the LoRA: use a token that may write",
        )
    return answer("ok", detail)


async def _uploads(facts: Facts) -> bool:
    if facts.situation.config is None:
        return False
    loaded, _ = await facts.loaded()
    return loaded is not None and loaded.config.process.save.push_to_hub


async def licence(facts: Facts) -> Check:
    """Whether the base model can be downloaded: licence accepted, token allowed to read it."""

    def answer(status: Status, detail: str, fix: str | None = None, page: str | None = None) -> Check:
        return Check("licence", "Licence of the base model", status, detail, fix, page=page)

    models = await facts.models()
    repos = [name for name in models if is_hub_id(name)]
    if not models:
        return Check("licence", "Licence of the base model", "unknown", "the config has errors", needed=False)
    if not repos:
        return answer("ok", f"{models[0]} is on this machine")
    if facts.situation.backend == "local":
        there = [repo for repo in repos if await asyncio.to_thread(cached_on_this_machine, repo, facts.env)]
        repos = [repo for repo in repos if repo not in there]
        if not repos:
            return answer("ok", f"{there[0]} is on this machine")
    found = await asyncio.to_thread(find_hf_token, facts.env, facts.folder)
    token = found.token if found is not None else None
    for repo in repos:
        try:
            access = await facts.hub_access(repo, token)
        except NetworkError as error:
            return answer("unknown", error.message, error.fix)
        except HubRefusal as refusal:
            return answer("unknown", refusal.message, refusal.fix)
        if access != "granted":
            return answer(*_refused(access, repo, facts, has_token=token is not None))
    return answer("ok", f"{' and '.join(repos)} can be downloaded")


def _refused(
    access: Access, repo: str, facts: Facts, *, has_token: bool
) -> tuple[Status, str, str, str | None]:
    """Status, detail, fix and page of the licence check."""
    page = model_page(repo, facts.env)
    match access:
        case "pending":
            return (
                "missing",
                f"access to {repo} is asked for, not granted yet",
                f"wait, and look at {page}",
                page,
            )
        case "no_permission":
            settings = token_page(facts.env)
            fix = f"allow the token to read gated models at {settings}"
            return "failed", f"the Hugging Face token may not read {repo}", fix, settings
        case "unknown_model":
            hint = "" if has_token else ", or it is private and needs a token"
            return "failed", f"there is no model {repo} on the Hub{hint}", "correct model.name_or_path", None
        case "invalid_token":
            return "failed", "the Hub does not accept the Hugging Face token", _LOGIN_HF, None
        case _:
            if not has_token:
                return (
                    "missing",
                    f"{repo} needs a Hugging Face token",
                    f"accept the licence at {page}, then {_LOGIN_HF}",
                    page,
                )
            fix = f"log in and accept it at {page}"
            return "missing", f"the licence of {repo} is not accepted", fix, page


async def base_model(facts: Facts) -> Check:
    """Whether the base model lies on the volume in the cloud, so that a launch need not download it."""

    def answer(status: Status, detail: str, fix: str | None = None) -> Check:
        return Check("base-model", "Base model on Modal", status, detail, fix, needed=False)

    from backend.launchers.modal.account import AccountRefusal

    later = "the first launch downloads it, on a machine without GPU"
    models = await facts.models()
    token = await asyncio.to_thread(facts.modal_token)
    if token is None or not models or not is_hub_id(models[0]):
        return answer(
            "unknown", "not looked for: " + ("no token" if token is None else "no model of the Hub")
        )
    try:
        await facts.modal_account()  # a token that does not work, or no network, is known sooner from here
        cached = await facts.situation.base_model_cached(token, await facts.shelf(), models[0])
    except (NetworkError, AccountRefusal) as error:
        return answer("unknown", error.message, error.fix)
    if cached is None:
        return answer("unknown", f"whether {models[0]} is there is not known", later)
    size = f"{cached.bytes / 1e9:.1f} GB"
    if cached.complete:
        return answer("ok", f"{models[0]}, {size}")
    return answer(
        "missing",
        f"{models[0]}: {size} of it are there" if cached.bytes else f"{models[0]} is not there",
        later,
    )


def _ending(expires: datetime | None) -> str | None:
    """A clause about a token that ends soon; None if it does not."""
    if expires is None:
        return None
    left = expires - datetime.now(UTC)
    if left > _SOON:
        return None
    return f"it ends on {expires.astimezone():%d %B at %H:%M}"
