"""Commits, the manifest, paths, verdicts: one part at a time."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from backend.events import Status
from backend.files import read_json
from backend.launchers.modal.container import machine, manifest, sdk
from backend.launchers.modal.container.commits import Committer
from backend.launchers.modal.container.control import CommandFetcher
from backend.launchers.modal.container.manifest import Manifest
from backend.launchers.modal.container.paths import BASE_MOUNT, inside, volume_root
from backend.launchers.modal.container.said import Said
from backend.launchers.modal.container.samplers import SamplerDispatch
from backend.launchers.modal.container.sdk import FolderVolume, VolumeError, VolumeFullError
from backend.launchers.modal.container.verdict import judge
from backend.runs.folder import RunFolder
from backend.runs.stop_request import StopRequest
from tests.backend.modal_container.conftest import FakeVolume, wait_for

# -- commits


def test_requests_made_during_a_commit_are_one_further_commit() -> None:
    begun, go = threading.Event(), threading.Event()
    count = 0

    def commit() -> None:
        nonlocal count
        count += 1
        begun.set()
        assert go.wait(30)

    committer = Committer(commit, interval=60)
    committer.soon()
    assert begun.wait(30)
    for _ in range(10):
        committer.soon()
    go.set()
    committer.flush(30)
    assert count == 2
    committer.close()


def test_flush_commits_what_came_before_it_even_while_a_commit_is_under_way() -> None:
    content, committed = ["a"], [""]
    begun, go = threading.Event(), threading.Event()

    def commit() -> None:
        seen = content[0]
        begun.set()
        assert go.wait(30)
        committed[0] = seen

    committer = Committer(commit, interval=60)
    committer.soon()
    assert begun.wait(30)
    content[0] = "b"
    threading.Timer(0.1, go.set).start()
    committer.flush(30)
    assert committed[0] == "b"
    committer.close()


def test_flush_tells_what_went_wrong_and_tries_on_meanwhile() -> None:
    tries: list[float] = []
    told: list[str | None] = []

    def commit() -> None:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise VolumeError("504")

    committer = Committer(commit, on_trouble=told.append, interval=60)
    with pytest.raises(VolumeError, match="504"):
        committer.flush(0.5)
    wait_for(lambda: len(tries) == 3, "the third try")
    wait_for(lambda: told == ["504", None], "the all-clear")
    committer.close()


def test_a_full_volume_ends_a_flush_at_once() -> None:
    full = threading.Event()

    def commit() -> None:
        raise VolumeFullError("no space left")

    committer = Committer(commit, on_full=full.set, interval=60)
    began = time.monotonic()
    with pytest.raises(VolumeFullError):
        committer.flush(60)
    assert time.monotonic() - began < 20
    assert full.is_set()
    committer.close()


def test_changes_are_committed_once_an_interval() -> None:
    commits: list[float] = []
    committer = Committer(lambda: commits.append(time.monotonic()), interval=0.3)
    end = time.monotonic() + 1.6
    while time.monotonic() < end:
        committer.changed()
        time.sleep(0.01)
    committer.close()
    assert 2 <= len(commits) <= 6
    assert all(b - a > 0.25 for a, b in itertools.pairwise(commits))


# -- the manifest


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "fox")
    folder.create()
    folder.config.write_text("config: {}\n")
    for step in (1, 2):
        (folder.checkpoints / f"fox_{step:09d}.safetensors").write_bytes(b"lora %d" % step)
    return folder


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed from now on."""
    names: list[str] = []
    digest = manifest.hashlib.file_digest

    def counting(file: object, name: str) -> object:
        names.append(Path(file.name).name)  # type: ignore[attr-defined]
        return digest(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest.hashlib, "file_digest", counting)
    return names


def test_every_file_is_hashed_once(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    names = hashed(monkeypatch)
    book = Manifest(folder)
    book.write()
    assert len(names) == 3
    book.write()
    assert len(names) == 3
    (folder.checkpoints / "fox_000000003.safetensors").write_bytes(b"lora 3")
    book.write()
    assert names[3:] == ["fox_000000003.safetensors"]


def test_a_later_container_believes_the_manifest_about_old_files_only(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = time.time() - 100
    for path in (folder.config, *folder.checkpoints.iterdir()):
        os.utime(path, (old, old))
    Manifest(folder).write()
    before = read_json(folder.path / "manifest.json")["files"]
    changed = folder.checkpoints / "fox_000000002.safetensors"
    changed.write_bytes(b"lora X")  # the same size
    names = hashed(monkeypatch)
    Manifest(folder).write()
    assert names == [changed.name]
    after = read_json(folder.path / "manifest.json")["files"]
    assert [e["path"] for e in before] == [e["path"] for e in after]
    assert [e["sha256"] for e in before] != [e["sha256"] for e in after]


def test_half_written_files_and_deleted_ones_are_not_listed(folder: RunFolder) -> None:
    (folder.checkpoints / ".fox.safetensors.abc.tmp").write_bytes(b"half")
    (folder.samples / ".preview_1.png").write_bytes(b"soon gone")
    book = Manifest(folder)
    book.write()
    (folder.checkpoints / "fox_000000001.safetensors").unlink()
    book.write()
    paths = [entry["path"] for entry in read_json(folder.path / "manifest.json")["files"]]
    assert paths == ["checkpoints/fox_000000002.safetensors", "config.yaml"]


# -- commands and samplers


def test_commands_are_delivered_once_and_a_silent_volume_is_no_problem(tmp_path: Path) -> None:
    root = tmp_path / "volume"
    volume = FakeVolume(root, tmp_path / "committed")
    target = root / "fox/state/control"
    fetcher = CommandFetcher(volume, "fox/state/control", target)
    fetcher.look()  # no such folder yet
    remote = tmp_path / "committed/fox/state/control"
    remote.mkdir(parents=True)
    (remote / "1-a.json").write_text("{}")
    (remote / ".1-b.json.tmp").write_text("{")
    fetcher.look()
    assert [path.name for path in target.iterdir()] == ["1-a.json"]
    (target / "1-a.json").unlink()  # the trainer has carried it out
    fetcher.look()
    assert list(target.iterdir()) == []


def test_requests_that_are_done_are_tidied_up(tmp_path: Path) -> None:
    folder = tmp_path / "sampling"
    folder.mkdir()
    for step in (1, 2):
        (folder / f"{step}.json").write_text(f'{{"id": "r{step}", "step": {step}}}')
    volume = FolderVolume(tmp_path / "committed")
    (tmp_path / "committed/s").mkdir(parents=True)
    (tmp_path / "committed/s/2.json").touch()  # the sampler has deleted 1.json
    calls: list[int] = []

    def spawn(step: int) -> str:
        calls.append(step)
        return f"fc-{step}"

    def make() -> SamplerDispatch:
        return SamplerDispatch(folder, "s", volume, lambda: None, spawn, lambda text, level: None)

    first = make()
    first.look()
    first.tidy()
    assert sorted(path.name for path in folder.iterdir()) == ["2.json", "handed.json"]
    make().look()  # another container of the run: nothing is handed on twice
    assert calls == [1, 2]


# -- small things


def test_volume_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LORA_ROOT", "MODAL_EMU_ROOT"):
        monkeypatch.delenv(name, raising=False)
    assert volume_root() == Path("/mnt/lora")
    assert volume_root(BASE_MOUNT) == Path("/mnt/base")
    monkeypatch.setenv("MODAL_EMU_ROOT", str(tmp_path))
    assert volume_root() == Path("/mnt/lora")  # nothing is mounted there
    (tmp_path / "mnt/lora").mkdir(parents=True)
    assert volume_root() == tmp_path / "mnt/lora"
    monkeypatch.setenv("LORA_ROOT", str(tmp_path / "named"))
    assert volume_root() == tmp_path / "named"
    assert volume_root(BASE_MOUNT) == Path("/mnt/base")


def test_a_folder_outside_the_volume_is_refused(tmp_path: Path) -> None:
    assert inside(tmp_path, "fox") == tmp_path / "fox"
    assert inside(tmp_path, ".") == tmp_path
    for wrong in ("..", "a/../../b", "/etc", ""):
        with pytest.raises(ValueError, match="no folder of the volume"):
            inside(tmp_path, wrong)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (RuntimeError("No space left on volume: 10 bytes, 5 allowed"), True),
        (RuntimeError("Rate limit exceeded"), False),
        (FileNotFoundError("/quota"), False),
        (ConnectionError("connection lost"), False),
    ],
)
def test_what_a_full_volume_says(error: Exception, full: bool) -> None:
    assert sdk.is_full(error) is full
    assert isinstance(sdk.explained(error), VolumeFullError) is full


def test_without_modal_a_volume_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODAL_IS_REMOTE", raising=False)
    volume = sdk.volume_of("vo-1", tmp_path)
    volume.commit()
    volume.reload()
    (tmp_path / "a").write_bytes(b"x")
    assert volume.names("") == ["a"]
    assert volume.names("nowhere") == []
    assert volume.read("a") == b"x"
    with pytest.raises(VolumeError, match="b cannot be read"):
        volume.read("b")


def test_the_memory_limit_is_the_smallest_that_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit, none, info = tmp_path / "memory.max", tmp_path / "none", tmp_path / "meminfo"
    limit.write_text("34359738368\n")
    none.write_text("max\n")
    info.write_text("MemTotal:       527958020 kB\nMemFree: 1 kB\n")
    monkeypatch.setattr(machine, "_CGROUPS", (limit, none))
    monkeypatch.setattr(machine, "_MEMINFO", info)
    assert machine.memory_limit() == 32 * 2**30
    monkeypatch.setattr(machine, "_CGROUPS", (none, tmp_path / "missing"))
    assert machine.memory_limit() == 527958020 * 1024
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "missing")
    assert machine.memory_limit() is None


@pytest.mark.parametrize(
    ("code", "killed", "asked", "status", "error"),
    [
        (-signal.SIGKILL, False, None, Status.FAILED, "container_out_of_memory"),
        (-signal.SIGKILL, True, StopRequest("preempted"), Status.INTERRUPTED, None),
        (-signal.SIGTERM, False, StopRequest("preempted"), Status.INTERRUPTED, None),
        (-signal.SIGTERM, False, StopRequest("cancelled"), Status.STOPPED, None),
        (-signal.SIGKILL, True, StopRequest("budget"), Status.STOPPED, None),
        (-signal.SIGTERM, False, None, None, None),
        (-signal.SIGSEGV, False, None, None, None),
        (-signal.SIGSEGV, False, StopRequest("preempted"), None, None),
        (1, False, None, Status.FAILED, "trainer_crashed"),
        (0, False, None, Status.FAILED, "trainer_crashed"),
    ],
)
def test_verdicts(
    code: int, killed: bool, asked: StopRequest | None, status: Status | None, error: str | None
) -> None:
    said = Said(saved=7)
    verdict = judge(code, killed=killed, asked=asked, said=said, memory=None, last_boot=False)
    assert (verdict.status, verdict.error) == (status, error)
    assert verdict.reason
    if status is None:
        last = judge(code, killed=killed, asked=asked, said=said, memory=None, last_boot=True)
        assert last.status is Status.FAILED
