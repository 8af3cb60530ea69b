"""Runs all checks at once; each answer comes when it is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection

from backend.credentials.redaction import redact
from backend.doctor import accounts, machine, project
from backend.doctor.check import Check
from backend.doctor.situation import Facts, Situation

_LIMIT = 10.0  # seconds that a check may take

_CHECKS: dict[str, tuple[str, Callable[[Facts], Awaitable[Check]]]] = {
    "python": ("Python and packages", machine.python),
    "terminal": ("Terminal", machine.terminal),
    "modal-token": ("Modal token", accounts.modal_token),
    "modal-workspace": ("Modal workspace", accounts.modal_workspace),
    "modal-budget": ("Modal spending", accounts.modal_budget),
    "hf-token": ("Hugging Face token", accounts.hf_token),
    "licence": ("Licence of the base model", accounts.licence),
    "base-model": ("Base model on Modal", accounts.base_model),
    "config": ("Config", project.config),
    "datasets": ("Datasets", project.datasets),
    "local-training": ("Training on this machine", machine.local_training),
    "secret-files": ("Files with secrets", project.secret_files),
}


def check_titles() -> dict[str, str]:
    """Ids and titles of all checks, in the order in which people should read them."""
    return {name: title for name, (title, _) in _CHECKS.items()}


async def run_checks(situation: Situation, only: Collection[str] | None = None) -> AsyncIterator[Check]:
    """The checks, in the order in which their answers come; none takes longer than 10 seconds.

    They run at the same time and raise nothing: what cannot be found out is ``unknown``.

    Args:
        situation: What is to be checked.
        only: Ids of the checks to make; all if None.
    """
    facts = Facts(situation)
    tasks = [asyncio.ensure_future(_answer(name, facts)) for name in _CHECKS if only is None or name in only]
    try:
        for task in asyncio.as_completed(tasks):
            yield await task
    finally:
        for pending in tasks:
            pending.cancel()
        facts.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(name: str, facts: Facts) -> Check:
    title, check = _CHECKS[name]
    try:
        return await asyncio.wait_for(check(facts), _LIMIT)
    except TimeoutError:
        return Check(name, title, "unknown", f"no answer within {_LIMIT:g} s", "try again")
    except Exception as error:  # a fault of ours in one check must not hide the others
        said = " ".join(redact(f"{type(error).__name__}: {error}").split())[:200]
        return Check(name, title, "unknown", f"the check itself failed ({said})", "please report this")
