from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from backend.launchers.modal import transfer
from backend.launchers.modal.lock import held
from backend.launchers.modal.manifest import Manifest, TransferError, is_safe, parse_manifest
from backend.launchers.modal.remote import DeniedError, FullError, MissingError, OfflineError
from backend.launchers.modal.transfer import new_files, pull
from tests.backend.modal.fakes import FakeVolume

FILES: dict[str, tuple[str, bytes]] = {
    "checkpoints/fox_000000010.safetensors": ("checkpoint", b"ten " * 5000),
    "checkpoints/fox.safetensors": ("checkpoint", b"last " * 5000),
    "samples/10_0.jpg": ("sample", b"picture " * 500),
    "config.yaml": ("config", b"config: {}\n"),
    "log.txt": ("log", b""),
    "state/resume.safetensors": ("state", b"state " * 2000),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))


def manifest_of(files: Mapping[str, tuple[str, bytes]]) -> bytes:
    return json.dumps(
        {
            "version": 1,
            "updated": 5.5,
            "files": [
                {
                    "path": path,
                    "bytes": len(content),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "kind": kind,
                }
                for path, (kind, content) in files.items()
            ],
        }
    ).encode()


def fill(volume: FakeVolume, files: Mapping[str, tuple[str, bytes]]) -> None:
    volume.files.update({f"fox/{path}": content for path, (_, content) in files.items()})
    volume.files["fox/manifest.json"] = manifest_of(files)


@pytest.fixture
def volume() -> FakeVolume:
    made = FakeVolume()
    fill(made, FILES)
    made.files["fox/checkpoints/half.safetensors"] = b"not in the manifest"
    return made


def here(destination: Path) -> dict[str, bytes]:
    return {
        path.relative_to(destination).as_posix(): path.read_bytes()
        for path in destination.rglob("*")
        if path.is_file()
    }


def contents(files: Mapping[str, tuple[str, bytes]] = FILES) -> dict[str, bytes]:
    return {path: content for path, (_, content) in files.items()}


def downloads(volume: FakeVolume) -> list[str]:
    return [call for call in volume.calls if call.startswith("read_into")]


async def test_all_complete_files_come_and_nothing_else(volume: FakeVolume, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    taken = await pull(
        volume, "fox", None, tmp_path / "to" / "here", lambda done, total: told.append((done, total))
    )
    assert here(tmp_path / "to" / "here") == contents()
    assert taken == [tmp_path / "to" / "here" / path for path in FILES]
    size = sum(len(content) for content in contents().values())
    assert told[-1] == (size, size)
    assert all(total == size for _, total in told)
    assert 1 < volume.most_running <= 4


async def test_what_is_there_and_right_is_not_fetched_again(volume: FakeVolume, tmp_path: Path) -> None:
    await pull(volume, "fox", None, tmp_path / "d")
    wrong = tmp_path / "d" / "samples" / "10_0.jpg"
    wrong.write_bytes(wrong.read_bytes().swapcase())  # the same size
    volume.calls.clear()
    taken = await pull(volume, "fox", None, tmp_path / "d")
    assert downloads(volume) == ["read_into fox/samples/10_0.jpg 0"]
    assert len(taken) == len(FILES)
    assert here(tmp_path / "d") == contents()


async def test_kinds_and_names(volume: FakeVolume, tmp_path: Path) -> None:
    taken = await pull(volume, "fox", None, tmp_path / "a", kinds=["sample"])
    assert [path.name for path in taken] == ["10_0.jpg"]
    taken = await pull(volume, "fox", ["config.yaml"], tmp_path / "b")
    assert list(here(tmp_path / "b")) == ["config.yaml"]
    with pytest.raises(TransferError, match=r"no complete file checkpoints/half\.safetensors"):
        await pull(volume, "fox", ["config.yaml", "checkpoints/half.safetensors"], tmp_path / "c")
    assert not (tmp_path / "c").exists()


async def test_pictures_of_sampler_containers_come_too(volume: FakeVolume, tmp_path: Path) -> None:
    drawn = {"samples/20_0.jpg": ("sample", b"drawn elsewhere")}
    volume.files["fox/samples/20_0.jpg"] = b"drawn elsewhere"
    volume.files["fox/samples.manifest.json"] = manifest_of(drawn)
    await pull(volume, "fox", None, tmp_path / "d", kinds=["sample"])
    assert set(here(tmp_path / "d")) == {"samples/10_0.jpg", "samples/20_0.jpg"}


# -- broken off, and continued -------------------------------------------------------------------


async def test_a_transfer_that_broke_off_is_continued(volume: FakeVolume, tmp_path: Path) -> None:
    name = "checkpoints/fox.safetensors"
    volume.broken_after = 7000
    with pytest.raises(OfflineError):
        await pull(volume, "fox", [name], tmp_path)
    target = tmp_path / name
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "fox.safetensors.part",
        "fox.safetensors.part.json",
    ]
    volume.calls.clear()
    told: list[int] = []
    await pull(volume, "fox", [name], tmp_path, lambda done, total: told.append(done))
    assert downloads(volume) == [f"read_into fox/{name} 7000"]
    assert told[0] == 7000
    assert here(tmp_path / "checkpoints") == {"fox.safetensors": FILES[name][1]}


async def test_a_part_of_another_version_is_not_continued(volume: FakeVolume, tmp_path: Path) -> None:
    name = "checkpoints/fox.safetensors"
    volume.broken_after = 7000
    with pytest.raises(OfflineError):
        await pull(volume, "fox", [name], tmp_path)
    newer = {**FILES, name: ("checkpoint", b"newer" * 5000)}
    fill(volume, newer)
    volume.calls.clear()
    await pull(volume, "fox", [name], tmp_path)
    assert downloads(volume) == [f"read_into fox/{name} 0"]
    assert (tmp_path / name).read_bytes() == b"newer" * 5000


async def test_a_part_that_is_bad_is_fetched_anew(volume: FakeVolume, tmp_path: Path) -> None:
    name = "checkpoints/fox.safetensors"
    volume.broken_after = 7000
    with pytest.raises(OfflineError):
        await pull(volume, "fox", [name], tmp_path)
    part = tmp_path / (name + ".part")
    part.write_bytes(b"\0" * part.stat().st_size)  # what a crash of the machine can leave
    volume.calls.clear()
    await pull(volume, "fox", [name], tmp_path)
    assert downloads(volume) == [f"read_into fox/{name} 7000", f"read_into fox/{name} 0"]
    assert here(tmp_path / "checkpoints") == {"fox.safetensors": FILES[name][1]}


async def test_a_whole_part_needs_only_its_name(volume: FakeVolume, tmp_path: Path) -> None:
    name = "config.yaml"
    version = hashlib.sha256(FILES[name][1]).hexdigest()
    place = tmp_path / "d"
    place.mkdir()
    (place / "config.yaml.part").write_bytes(FILES[name][1])
    (place / "config.yaml.part.json").write_text(json.dumps({"version": version}), encoding="utf-8")
    await pull(volume, "fox", [name], place)
    assert not downloads(volume)
    assert here(place) == {"config.yaml": FILES[name][1]}


async def test_cancelled_it_leaves_only_parts(volume: FakeVolume, tmp_path: Path) -> None:
    enough = asyncio.Event()

    def progress(done: int, total: int) -> None:
        if done > 5000:
            enough.set()

    task = asyncio.create_task(pull(volume, "fox", None, tmp_path, progress, kinds=["checkpoint"]))
    await asyncio.wait_for(enough.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = here(tmp_path / "checkpoints")
    assert left
    assert all(name.endswith((".part", ".part.json")) for name in left)
    await pull(volume, "fox", None, tmp_path, kinds=["checkpoint"])
    assert set(here(tmp_path / "checkpoints")) == {"fox.safetensors", "fox_000000010.safetensors"}


# -- changed under way ---------------------------------------------------------------------------


def once(volume: FakeVolume, start: str, act: Callable[[], None]) -> None:
    def before(call: str) -> None:
        if call.startswith(start):
            volume.before = None
            act()

    volume.before = before


async def test_a_file_that_changes_under_way_is_taken_in_its_new_version(
    volume: FakeVolume, tmp_path: Path
) -> None:
    name = "state/resume.safetensors"
    newer = {**FILES, name: ("state", b"newer state " * 3000)}
    once(volume, "read_into", lambda: fill(volume, newer))
    told: list[tuple[int, int]] = []
    await pull(volume, "fox", [name], tmp_path, lambda done, total: told.append((done, total)))
    assert (tmp_path / name).read_bytes() == newer[name][1]
    assert told[-1] == (36_000, 36_000)


async def test_a_file_that_is_never_right_is_given_up(volume: FakeVolume, tmp_path: Path) -> None:
    volume.files["fox/config.yaml"] = b"CONFIG: {}\n"
    with pytest.raises(TransferError, match=r"config\.yaml does not arrive as it should"):
        await pull(volume, "fox", ["config.yaml"], tmp_path / "d")
    assert not here(tmp_path / "d")
    assert len(downloads(volume)) == 1


async def test_an_old_checkpoint_that_is_deleted_meanwhile(volume: FakeVolume, tmp_path: Path) -> None:
    name = "checkpoints/fox_000000010.safetensors"

    def delete() -> None:
        rest = {path: file for path, file in FILES.items() if path != name}
        del volume.files[f"fox/{name}"]
        volume.files["fox/manifest.json"] = manifest_of(rest)

    once(volume, "read_into", delete)
    taken = await pull(volume, "fox", None, tmp_path / "a", kinds=["checkpoint"], parallel=1)
    assert set(here(tmp_path / "a")) == {"checkpoints/fox.safetensors"}
    assert [path.name for path in taken] == ["fox.safetensors"]

    fill(volume, FILES)
    once(volume, "read_into", delete)
    with pytest.raises(TransferError, match="is gone from Modal"):
        await pull(volume, "fox", [name], tmp_path / "b")
    assert not here(tmp_path / "b")


# -- without a manifest --------------------------------------------------------------------------


async def test_a_folder_without_a_manifest_only_on_request(tmp_path: Path) -> None:
    files = {
        "old/old_000000250.safetensors": b"lora",
        "old/samples/1.jpg": b"picture",
        "old/.cache/x": b"hidden",
    }
    volume = FakeVolume(files=dict(files), modified=dict.fromkeys(files, 1_700_000_000.0))
    with pytest.raises(MissingError):
        await pull(volume, "old", None, tmp_path / "d")
    await pull(volume, "old", None, tmp_path / "d", without_manifest=True)
    assert here(tmp_path / "d") == {"old_000000250.safetensors": b"lora", "samples/1.jpg": b"picture"}
    volume.calls.clear()
    volume.files["old/samples/1.jpg"] = b"PICTURE"
    volume.modified["old/samples/1.jpg"] += 60
    await pull(volume, "old", None, tmp_path / "d", without_manifest=True, kinds=["sample", "checkpoint"])
    assert downloads(volume) == ["read_into old/samples/1.jpg 0"]
    with pytest.raises(MissingError):
        await pull(volume, "nowhere", None, tmp_path / "e", without_manifest=True)


# -- this machine --------------------------------------------------------------------------------

BAD = ["../evil", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a\\..\\b", "a\nb", "a\x1b[2Jb", "a/"]


@pytest.mark.parametrize("path", BAD)
async def test_a_manifest_cannot_write_elsewhere(volume: FakeVolume, tmp_path: Path, path: str) -> None:
    assert not is_safe(path)
    volume.files["fox/manifest.json"] = manifest_of({**FILES, path: ("checkpoint", b"evil")})
    with pytest.raises(TransferError, match="nothing was taken") as raised:
        await pull(volume, "fox", None, tmp_path / "d")
    assert str(raised.value).isprintable()
    assert not (tmp_path / "d").exists()


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
async def test_a_link_in_the_destination_is_not_followed_out(volume: FakeVolume, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "d" / "samples").symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(TransferError, match="leads out of"):
        await pull(volume, "fox", None, tmp_path / "d", kinds=["sample"])
    assert not here(tmp_path / "outside")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"files": 3}',
        b'{"files": [{"path": "a"}]}',
        b'{"files": [{"path": "a", "bytes": -1, "sha256": "' + b"0" * 64 + b'"}]}',
        b'{"files": [{"path": "a", "bytes": 1, "sha256": "short"}]}',
        b'{"files": [' * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_damaged_manifest(raw: bytes, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="damaged"):
        parse_manifest(raw)
    (tmp_path / "manifest.json").write_bytes(raw)
    assert Manifest.load(tmp_path / "manifest.json") is None


def test_a_manifest_with_a_file_twice() -> None:
    entry = json.loads(manifest_of({"a": ("log", b"x")}))
    entry["files"] *= 2
    with pytest.raises(TransferError, match="two files"):
        parse_manifest(json.dumps(entry).encode())


async def test_a_full_disk_is_noticed_first(
    volume: FakeVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 40_000 + transfer._MARGIN))
    with pytest.raises(TransferError, match=r"has 34 MB free; under 1 MB are to come, and 34 MB stay free"):
        await pull(volume, "fox", None, tmp_path)
    assert not downloads(volume)
    await pull(volume, "fox", ["config.yaml"], tmp_path)


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_disk_that_gets_full_under_way(volume: FakeVolume, tmp_path: Path, wrapped: bool) -> None:
    def full(call: str) -> None:
        if call.startswith("read_into"):
            error = OSError(errno.ENOSPC, "No space left on device")
            if wrapped:  # as the gateway words whatever the SDK raises
                raise FullError("the volume takes no more") from error
            raise error

    volume.before = full
    with pytest.raises(TransferError, match="the disk is full"):
        await pull(volume, "fox", ["config.yaml"], tmp_path)


async def test_a_destination_that_cannot_be_written(volume: FakeVolume, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TransferError, match="cannot be written"):
        await pull(volume, "fox", None, tmp_path / "file" / "below")
    (tmp_path / "d" / "config.yaml").mkdir(parents=True)
    with pytest.raises(TransferError, match="is a folder here"):
        await pull(volume, "fox", ["config.yaml"], tmp_path / "d")


async def test_two_transfers_into_one_folder_take_turns(volume: FakeVolume, tmp_path: Path) -> None:
    await asyncio.gather(pull(volume, "fox", None, tmp_path / "d"), pull(volume, "fox", None, tmp_path / "d"))
    assert here(tmp_path / "d") == contents()
    assert len(downloads(volume)) == len(FILES), "the second one finds everything there"


async def test_it_does_not_wait_for_ever(
    volume: FakeVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_PATIENCE", 0.3)
    lock = transfer._lock_file(tmp_path / "d")
    assert lock is not None
    with held(lock) as mine:
        assert mine
        with pytest.raises(TransferError, match="by another process"):
            await pull(volume, "fox", None, tmp_path / "d")


async def test_other_errors_pass_and_no_worker_goes_on(volume: FakeVolume, tmp_path: Path) -> None:
    def deny(call: str) -> None:
        if call.startswith("read_into fox/samples"):
            raise DeniedError("the token was revoked")

    volume.before = deny
    with pytest.raises(DeniedError):
        await pull(volume, "fox", None, tmp_path)
    count = volume.read_bytes
    await asyncio.sleep(0.05)
    assert volume.read_bytes == count


# -- on their own --------------------------------------------------------------------------------


async def test_what_is_new(volume: FakeVolume, tmp_path: Path) -> None:
    manifest = parse_manifest(manifest_of(FILES))
    assert [file.path for file in new_files(manifest, tmp_path)] == [
        "checkpoints/fox_000000010.safetensors",
        "checkpoints/fox.safetensors",
        "samples/10_0.jpg",
    ]
    await pull(volume, "fox", None, tmp_path, kinds=transfer.BROUGHT_HOME)
    assert new_files(manifest, tmp_path) == []
    newer: dict[str, Any] = {**FILES, "samples/20_0.jpg": ("sample", b"new")}
    found = new_files(parse_manifest(manifest_of(newer)), tmp_path)
    assert [file.path for file in found] == ["samples/20_0.jpg"]
    assert [file.path for file in new_files(parse_manifest(manifest_of(newer)), tmp_path, ["state"])] == [
        "state/resume.safetensors"
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="names of that system")
def test_ordinary_names_are_safe() -> None:
    assert all(is_safe(path) for path in [*FILES, "samples/ein Füchslein (1).jpg", "con.txt", "a:b"])


def test_the_list_of_files_knows_the_sums_on_the_volume(tmp_path: Path) -> None:
    from backend.launchers.modal.launcher import ModalLauncher
    from backend.launchers.modal.places import Places
    from backend.runs.folder import RunFolder

    folder = RunFolder(tmp_path)
    names = ("checkpoints/fox.safetensors", "samples/10_0.jpg", "config.yaml")
    here = {names[0]: FILES[names[0]][1], names[2]: b"config: {another: one}\n"}
    for name, content in here.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    Places(folder).manifest.parent.mkdir(parents=True, exist_ok=True)
    Places(folder).manifest.write_bytes(manifest_of({name: FILES[name] for name in names}))
    sums = {file.path: file.sha256 for file in ModalLauncher._files(None, folder)}  # type: ignore[arg-type]
    assert sums[names[0]] == hashlib.sha256(FILES[names[0]][1]).hexdigest()  # here, and there
    assert sums[names[1]] == hashlib.sha256(FILES[names[1]][1]).hexdigest()  # only there
    assert sums[names[2]] == ""  # here it is another one
