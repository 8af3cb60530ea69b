"""A download of base models in the cloud that no run waits for.

It goes on when nobody waits any more. What was begun is written down, so that whoever asks for the same
models again waits for the same download instead of starting another one beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from backend.credentials.hf_token import find_hf_token
from backend.files import read_json, write_json
from backend.launchers.modal.gateway import Gateway
from backend.launchers.modal.journal import Journal, Stage
from backend.launchers.modal.library import Library
from backend.launchers.modal.remote import OfflineError, RemoteError
from backend.launchers.modal.voice import Voice
from backend.runs.folder import RunRecord, new_run_id


async def download(
    gateway: Gateway, volume: str, models: Sequence[str], root: Path, progress: Callable[[int, int], None]
) -> list[str]:
    """Have what is missing of ``models`` downloaded onto ``volume``, and wait; returns what was missing.

    Args:
        gateway: The connection.
        volume: Name of the volume for base models; made if there is none.
        models: Hub ids.
        root: The data folder, where the download is written down.
        progress: Told bytes: done, in all.

    Raises:
        RemoteError: It failed, or Modal cannot be reached.
    """
    from backend.events import PhaseEvent

    store = await Library.for_models(gateway, volume, tuple(models))
    missing = await store.missing() if store is not None else []
    note = root / "cloud-downloads" / f"{_key(gateway.environment, volume, models)}.json"
    if store is None or not missing:
        _forget(note)
        return []
    journal = await _begun(gateway, note)
    record = RunRecord(id=new_run_id(), name="prefetch", backend="modal", steps=0, path=Path(), handle={})

    def heard(event: object) -> None:
        if isinstance(event, PhaseEvent):
            progress(event.done, event.total)

    voice = Voice(heard, lambda line: print(line, file=sys.stderr))
    try:
        await store.fetch(
            missing, journal, record, _hub_secret(), voice, lambda now: _write(note, now), lambda: True
        )
    except OfflineError:
        raise  # it may go on over there
    except RemoteError:
        _forget(note)  # it ended: the next one begins anew
        raise
    return missing


async def _begun(gateway: Gateway, note: Path) -> Journal:
    """What is known of the download; one that never came to its call is stopped and forgotten."""
    known = read_json(note)
    app_id, call_id = (known.get("app_id"), known.get("call_id")) if isinstance(known, dict) else (None, None)
    journal = Journal(stage=Stage.PREPARING, environment=gateway.environment)
    if app_id and call_id:
        return journal.with_(prefetch_app_id=str(app_id), prefetch_call_id=str(call_id))
    if app_id:
        with contextlib.suppress(RemoteError):
            await gateway.stop_app(str(app_id))
        _forget(note)
    return journal


def _write(note: Path, journal: Journal) -> None:
    if journal.prefetch_app_id is None:
        _forget(note)
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    write_json(note, {"app_id": journal.prefetch_app_id, "call_id": journal.prefetch_call_id})


def _forget(note: Path) -> None:
    note.unlink(missing_ok=True)


def _key(environment: str | None, volume: str, models: Sequence[str]) -> str:
    text = json.dumps([environment, volume, sorted(models)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hub_secret() -> Mapping[str, str]:
    """The Hub's token for the container, wherever this machine has it."""
    found = find_hf_token()
    return {"HF_TOKEN": found.token.reveal()} if found is not None else {}
