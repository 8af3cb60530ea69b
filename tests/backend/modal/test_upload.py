from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.launchers.modal import upload
from backend.launchers.modal.bundle import DATA, Bundle, make_bundle
from backend.launchers.modal.inputs import InputError
from backend.launchers.modal.remote import OfflineError
from backend.launchers.modal.upload import COMPLETE, forget, send, stored
from config.load import load_config
from tests.backend.modal.fakes import FakeVolume


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))


def bundle_of(tmp_path: Path, *folders: str) -> Bundle:
    """A bundle of folders with 100 small pictures each; they are not decoded, so they need not be any."""
    for name in folders:
        folder = tmp_path / name
        if not folder.is_dir():
            folder.mkdir()
            for index in range(100):
                (folder / f"{index:03}.png").write_bytes(f"{name} {index}".encode() * 50)
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "datasets": [{"folder_path": str(tmp_path / name)} for name in folders],
        "train": {"steps": 10},
        "model": {"name_or_path": "some/model"},
    }
    path = tmp_path / "fox.yaml"
    path.write_text(yaml.safe_dump({"config": {"name": "fox", "process": [process]}}), encoding="utf-8")
    return make_bundle(load_config(path))


def content(volume: FakeVolume, bundle: Bundle) -> bool:
    """Whether all of a bundle is on the volume, byte for byte."""
    return all(
        volume.files.get(f"{root.folder}/{file.path}")
        == (file.source if isinstance(file.source, bytes) else file.source.read_bytes())
        for root in bundle.roots
        for file in root.files
    )


async def test_everything_arrives_in_batches_and_the_markers_last(tmp_path: Path) -> None:
    bundle, volume = bundle_of(tmp_path, "foxes", "cats"), FakeVolume()
    told: list[tuple[int, int]] = []
    sent = await send(bundle, volume, lambda done, total: told.append((done, total)))
    assert content(volume, bundle)
    assert volume.calls == [f"list {DATA}", *["upload 32"] * 6, "upload 8", "upload 2"]
    assert {name for name in volume.files if name.endswith(COMPLETE)} == {
        f"{DATA}/{root.hash}{COMPLETE}" for root in bundle.roots
    }
    assert sent.bytes_total == sent.bytes_sent_at_most == bundle.bytes
    assert (sent.files, sent.already_there) == (200, 0)
    assert told[0] == (0, bundle.bytes)
    assert told[-1] == (bundle.bytes, bundle.bytes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


async def test_unchanged_data_takes_one_call_for_all_roots(tmp_path: Path) -> None:
    volume = FakeVolume()
    await send(bundle_of(tmp_path, "foxes", "cats"), volume)
    volume.calls.clear()
    told: list[tuple[int, int]] = []
    sent = await send(bundle_of(tmp_path, "foxes", "cats"), volume, lambda *step: told.append(step))
    assert volume.calls == [f"list {DATA}"]
    assert (sent.bytes_sent_at_most, sent.files, sent.already_there) == (0, 0, 2)
    assert not told


async def test_only_the_new_root_is_sent(tmp_path: Path) -> None:
    volume = FakeVolume()
    await send(bundle_of(tmp_path, "foxes"), volume)
    bundle = bundle_of(tmp_path, "foxes", "cats")
    sent = await send(bundle, volume)
    assert (sent.files, sent.already_there) == (100, 1)
    assert content(volume, bundle)


@pytest.mark.parametrize("at", [1, 2, 3, 5, 9, 14, 15])
async def test_broken_off_anywhere_it_is_not_taken_for_complete(tmp_path: Path, at: int) -> None:
    bundle, volume = bundle_of(tmp_path, "a", "b", "c", "d"), FakeVolume()
    calls = 0

    def fail(call: str) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise OfflineError("Modal cannot be reached")

    volume.before = fail
    with pytest.raises(OfflineError):
        await send(bundle, volume)
    await asyncio.sleep(0.02)
    assert calls <= at + 2, "the batches beside it end too"
    volume.before = None
    assert not await stored(volume)
    await send(bundle, volume)
    assert content(volume, bundle)
    assert await stored(volume) == {root.hash for root in bundle.roots}


async def test_cancelled_in_the_middle(tmp_path: Path) -> None:
    bundle, volume = bundle_of(tmp_path, "foxes"), FakeVolume()
    started = asyncio.Event()
    volume.before = lambda call: started.set() if call.startswith("upload") else None
    task = asyncio.create_task(send(bundle, volume))
    await asyncio.wait_for(started.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    count = len(volume.calls)
    await asyncio.sleep(0.05)
    assert len(volume.calls) == count, "no batch goes on"
    assert not await stored(volume)


async def test_two_launches_at_once(tmp_path: Path) -> None:
    bundle, volume = bundle_of(tmp_path, "foxes"), FakeVolume()
    await asyncio.gather(send(bundle, volume), send(bundle, volume))
    assert content(volume, bundle)
    assert await stored(volume) == {root.hash for root in bundle.roots}


async def test_a_file_that_changes_meanwhile_is_not_marked(tmp_path: Path) -> None:
    bundle, volume = bundle_of(tmp_path, "foxes"), FakeVolume()
    victim = tmp_path / "foxes" / "050.png"

    def change(call: str) -> None:
        if call.startswith("upload"):
            victim.write_bytes(b"another picture")

    volume.before = change
    with pytest.raises(InputError, match=r"050\.png changed while it was sent"):
        await send(bundle, volume)
    volume.before = None
    assert not await stored(volume)


async def test_data_deleted_by_hand_is_sent_again(tmp_path: Path) -> None:
    bundle, volume = bundle_of(tmp_path, "foxes"), FakeVolume()
    await send(bundle, volume)
    (root,) = bundle.roots
    await volume.remove(root.folder, recursive=True)  # the marker is left
    await send(bundle, volume)
    assert content(volume, bundle)


async def test_forgetting_deletes_the_marker_first(tmp_path: Path) -> None:
    bundle, volume = bundle_of(tmp_path, "foxes", "cats"), FakeVolume()
    await send(bundle, volume)
    gone = bundle.roots[0]
    volume.calls.clear()
    await forget(volume, gone.hash)
    assert volume.calls == [f"remove {gone.folder}{COMPLETE}", f"remove {gone.folder}"]
    assert await stored(volume) == {root.hash for root in bundle.roots if root is not gone}


async def test_a_large_file_is_a_batch_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_BATCH_BYTES", 2000)
    bundle, volume = bundle_of(tmp_path, "foxes"), FakeVolume()
    (tmp_path / "foxes" / "050.png").write_bytes(b"x" * 5000)
    bundle = bundle_of(tmp_path, "foxes")
    await send(bundle, volume)
    assert "upload 1" in volume.calls[:-1]
    assert content(volume, bundle)


async def test_a_marker_says_what_it_is_of(tmp_path: Path) -> None:
    bundle, volume = bundle_of(tmp_path, "foxes"), FakeVolume()
    await send(bundle, volume)
    (root,) = bundle.roots
    facts = json.loads(volume.files[f"{root.folder}{COMPLETE}"])
    assert (facts["name"], facts["files"], facts["bytes"]) == ("foxes", 100, bundle.bytes)
