"""Checks of the project: the config, its datasets, and the files that hold secrets."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

from backend.credentials.dotenv_file import read_dotenv
from backend.credentials.gitignore import IgnoreProposal, ignore_proposal
from backend.credentials.hf_token import NAMES, hub_token_path
from backend.credentials.modal_profiles import modal_config_path
from backend.doctor.check import Check
from backend.doctor.situation import Facts
from backend.files import read_json

_NO_CONFIG = "no config was given"
_SECRETS = (*NAMES, "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "WANDB_API_KEY")


async def config(facts: Facts) -> Check:
    """Whether the config can be trained."""
    title, path = "Config", facts.situation.config
    if path is None:
        return Check("config", title, "unknown", _NO_CONFIG, "fluxlora-tui doctor CONFIG", needed=False)
    loaded, problems = await facts.loaded()
    errors = [problem for problem in problems if problem.severity == "error"]
    if loaded is None:
        first = errors[0].describe(path.name) if errors else f"{path.name} cannot be read"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return Check("config", title, "failed", first + more, f"fluxlora-tui check {path}")
    warnings = sum(problem.severity == "warning" for problem in problems)
    if warnings:
        return Check(
            "config",
            title,
            "warning",
            f"{path.name}: {warnings} warning{'s' * (warnings > 1)}",
            f"fluxlora-tui check {path}",
        )
    return Check(
        "config", title, "ok", f"{path.name}: {loaded.config.name}, {loaded.config.process.train.steps} steps"
    )


async def datasets(facts: Facts) -> Check:
    """Whether the datasets' folders are there and hold pictures."""
    title = "Datasets"
    if facts.situation.config is None:
        return Check("datasets", title, "unknown", _NO_CONFIG, needed=False)
    loaded, _ = await facts.loaded()
    if loaded is None:
        return Check("datasets", title, "unknown", "the config has errors", needed=False)
    folders = [Path(dataset.folder_path) for dataset in loaded.config.process.datasets]
    counts = await asyncio.to_thread(lambda: [_pictures(folder) for folder in folders])
    for folder, count in zip(folders, counts, strict=True):
        if not count:
            what = "there are no pictures in" if folder.exists() else "there is no folder"
            return Check(
                "datasets", title, "failed", f"{what} {folder}", "put pictures there, or correct datasets"
            )
    places = f" in {len(folders)} folders" if len(folders) > 1 else f" in {folders[0]}"
    return Check("datasets", title, "ok", f"{sum(counts)} picture{'s' * (sum(counts) != 1)}{places}")


def _pictures(place: Path) -> int:
    """How many pictures a folder holds, or a file lists that maps pictures to captions."""
    from config.checks import count_pictures

    if not place.is_file():
        return count_pictures(place)
    listed = read_json(place)
    return len(listed) if isinstance(listed, dict) else 0


async def secret_files(facts: Facts) -> Check:
    """Whether others can read the files with tokens, and whether git would take ``.env`` along."""
    return await asyncio.to_thread(_secret_files, facts)


def _secret_files(facts: Facts) -> Check:
    title = "Files with secrets"
    dotenv = facts.folder / ".env"
    holds_secret = any(read_dotenv(dotenv).get(name) for name in _SECRETS)
    files = [modal_config_path(facts.env), hub_token_path(facts.env), *([dotenv] if holds_secret else [])]
    opened = [file for file in files if _is_open(file)]
    proposal = ignore_proposal(dotenv) if holds_secret else None
    details, fixes = [], []
    if opened:
        details.append("others on this machine can read " + " and ".join(map(str, opened)))
        fixes.append("chmod 600 " + " ".join(map(str, opened)))
    if proposal is not None:
        details.append(f"git would take {dotenv} along")
        fixes.append(f"add {proposal.line} to {proposal.file}")
    if details:
        fix = f"{'; '.join(fixes)}; doctor --fix does it"
        return Check(
            "secret-files",
            title,
            "warning",
            "; ".join(details),
            fix,
            needed=False,
            repair=_repair(opened, proposal),
        )
    return Check("secret-files", title, "ok", "only you can read them", needed=False)


def _is_open(file: Path) -> bool:
    """Whether others can read an ordinary file; a device such as /dev/null keeps its mode."""
    try:
        mode = file.stat().st_mode
    except OSError:
        return False
    return os.name == "posix" and stat.S_ISREG(mode) and bool(stat.S_IMODE(mode) & 0o077)


def _repair(opened: list[Path], proposal: IgnoreProposal | None) -> Callable[[], None]:
    def repair() -> None:
        for file in opened:
            file.chmod(0o600)
        if proposal is not None:
            proposal.apply()

    return repair
