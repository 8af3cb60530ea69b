"""What a config can be compared with or begun from: presets, earlier runs, the saved file, other configs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tui.text import one_line

if TYPE_CHECKING:
    from tui.app import FluxLoraApp

RUN_CONFIG = "config.yaml"  # in a run's folder: what it was started with


@dataclass(frozen=True)
class Source:
    """A text with a name for the head of a column."""

    name: str
    text: str


@dataclass(frozen=True)
class _Offer:
    name: str
    detail: str
    read: Callable[[], str]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig")


def _offers(app: FluxLoraApp, saved: str | None, not_this: Path | None, others: list[Path]) -> list[_Offer]:
    from config.presets import preset_names, preset_summary, preset_text

    offers = []
    if saved is not None:
        offers.append(_Offer("saved file", "what is on the disk", lambda: saved))
    for name in preset_names():
        offers.append(_Offer(f"preset {name}", preset_summary(name), partial(preset_text, name)))
    for run in app.feed.runs:
        offers.append(
            _Offer(f"run {one_line(run.name)} ({run.id})", run.status, partial(_read, run.path / RUN_CONFIG))
        )
    offers += [_Offer(path.name, str(path), partial(_read, path)) for path in others if path != not_this]
    return offers


async def choose_source(
    app: FluxLoraApp,
    *,
    saved: str | None = None,
    not_this: Path | None = None,
    others: list[Path] | None = None,
) -> Source | None:
    """Let the user choose what to compare with.

    Args:
        app: The app.
        saved: The saved text, if it differs from what is edited.
        not_this: A config that is not offered.
        others: Other configs that are.
    """
    from tui.messages import OperationFailed
    from tui.screens.choose import Choice, ChooseScreen

    offers = await asyncio.to_thread(_offers, app, saved, not_this, others or [])
    choices = [Choice(offer.name, offer.detail) for offer in offers]
    picked = await app.push_screen_wait(ChooseScreen("Compare with", choices))
    if picked is None:
        return None
    offer = offers[picked]
    try:
        return Source(offer.name, await asyncio.to_thread(offer.read))
    except (OSError, ValueError) as error:
        app.post_message(OperationFailed(f"{offer.name} cannot be read", str(error)))
        return None


def nearest_preset(text: str) -> tuple[str, list[object]] | None:
    """The preset from which the text differs in the fewest keys, and those changes. Slow: use a thread."""
    from config.comparing import semantic_diff
    from config.editing import EditError
    from config.presets import preset_names, preset_text

    best: tuple[str, list[object]] | None = None
    for name in preset_names():
        try:
            changes: list[object] = list(semantic_diff(preset_text(name), text))
        except EditError:
            return None
        if best is None or len(changes) < len(best[1]):
            best = (name, changes)
    return best
