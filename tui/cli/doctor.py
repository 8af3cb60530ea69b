"""``doctor``: what a launch still lacks, one line a check, as each is known."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from backend.credentials.errors import CredentialsError
from backend.credentials.redaction import redact, remember_environment
from backend.doctor import Check, Situation, launch_works, run_checks
from backend.doctor.run import check_titles
from backend.doctor.volume import ask_library
from tui.cli.report import print_json, printable


def doctor(config: str | None, backend: Literal["local", "modal"], *, as_json: bool, fix: bool) -> int:
    """Run all checks; returns 0 if a launch on ``backend`` would work, else 1."""
    remember_environment()
    situation = Situation(
        backend=backend,
        config=Path(config).expanduser() if config else None,
        base_model_cached=ask_library,
    )
    quiet = as_json or fix
    checks = asyncio.run(_run(situation, say=not quiet))
    if fix and _repair(checks):
        checks = asyncio.run(_run(situation, say=not as_json))
    elif fix and not as_json:
        for check in _sorted(checks):
            _print(check)
    works = launch_works(checks)
    if as_json:
        print_json({"ok": works, "checks": [_clean(check) for check in _sorted(checks)]})
        return 0 if works else 1
    where = "on Modal" if backend == "modal" else "on this machine"
    if works:
        print(f"\nready: a launch {where} would work")
        return 0
    lacking = [c.title for c in _sorted(checks) if c.needed and c.status not in ("ok", "warning")]
    print(f"\nnot ready: a launch {where} lacks {', '.join(lacking)}")
    return 1


async def _run(situation: Situation, *, say: bool) -> list[Check]:
    checks: list[Check] = []
    async for check in run_checks(situation):
        checks.append(check)
        if say:
            _print(check)
    return checks


def _sorted(checks: Sequence[Check]) -> list[Check]:
    order = list(check_titles())
    return sorted(checks, key=lambda check: order.index(check.id))


def _clean(check: Check) -> dict[str, object]:
    return {key: redact(v) if isinstance(v, str) else v for key, v in check.record().items()}


def _print(check: Check) -> None:
    width = max(map(len, check_titles().values()))
    print(f"{check.status:<8} {check.title:<{width}}  {printable(redact(check.detail))}")
    if check.fix and check.status != "ok":
        print(f"{'':<8} {'':<{width}}  -> {printable(redact(check.fix))}")
    sys.stdout.flush()


def _repair(checks: Sequence[Check]) -> bool:
    """Do what can be done without asking; returns whether anything was done."""
    done = False
    for check in checks:
        if check.repair is None or check.status == "ok":
            continue
        try:
            check.repair()
            done = True
            print(printable(f"repaired: {check.title}: {check.detail}"), file=sys.stderr)
        except (CredentialsError, OSError) as error:
            print(printable(f"not repaired: {check.title}: {error}"), file=sys.stderr)
    return done
