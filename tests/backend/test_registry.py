from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from backend.events import Status, StatusEvent, StepEvent
from backend.runs.folder import RunFolder, RunRecord, new_run_id
from backend.runs.registry import Registry, RunNotFoundError
from backend.runs.service import RunService
from backend.runs.stream import EventWriter


def add(
    registry: Registry, run_id: str, *, name: str = "fox", created: float = 1.0, at: Path | None = None
) -> RunRecord:
    folder = RunFolder(at or registry.runs_folder / run_id)
    folder.create()
    record = RunRecord(id=run_id, name=name, backend="local", steps=10, created=created, path=folder.path)
    folder.write_record(record)
    registry.add(record)
    return record


def test_ids_are_unique_and_easy_to_type() -> None:
    ids = {new_run_id() for _ in range(2000)}
    assert len(ids) == 2000
    assert all(len(i) == 8 and i[0].isalpha() and i.isalnum() and i.islower() for i in ids)


def test_find_by_id_prefix_last_and_name(registry: Registry) -> None:
    add(registry, "abc11111", name="fox", created=1)
    add(registry, "abd22222", name="owl", created=3)
    add(registry, "xyz33333", name="fox", created=2)
    assert registry.find("abc11111").id == "abc11111"
    assert registry.find("x").id == "xyz33333"
    assert registry.find("last").id == "abd22222"
    assert registry.find("owl").id == "abd22222"
    for text, words in (
        ("ab", "fits 2 runs"),
        ("fox", "fits 2 runs"),
        ("q", "no run fits"),
        ("", "no run fits"),
    ):
        with pytest.raises(RunNotFoundError, match=words):
            registry.find(text)


def test_no_runs_yet(registry: Registry) -> None:
    assert registry.all() == []
    with pytest.raises(RunNotFoundError, match="no runs yet"):
        registry.find("last")


def test_the_index_comes_back_from_the_folders(registry: Registry, tmp_path: Path) -> None:
    add(registry, "abc11111", created=1)
    add(registry, "elsewher", created=2, at=tmp_path / "output" / "fox")
    before = registry.all()
    for file in registry.root.glob("runs.db*"):
        file.unlink()
    assert registry.all() == before
    assert registry.rebuild() == 2
    assert registry.all() == before


def test_a_damaged_index_is_set_aside_and_made_anew(registry: Registry) -> None:
    add(registry, "abc11111")
    (registry.root / "runs.db-wal").unlink(missing_ok=True)
    (registry.root / "runs.db").write_bytes(b"this is no database, whatever its name says" * 200)
    assert [run.id for run in registry.all()] == ["abc11111"]
    assert list(registry.root.glob("runs.db.broken-*"))


def test_a_run_whose_folder_is_gone_is_not_listed(registry: Registry) -> None:
    import shutil

    record = add(registry, "abc11111")
    shutil.rmtree(record.path)
    assert registry.all() == []


def test_new_runs_never_share_a_training_folder(registry: Registry, tmp_path: Path) -> None:
    first = registry.place("a", "fox", str(tmp_path))
    first.mkdir()
    assert first == tmp_path / "fox"
    assert registry.place("b", "fox", str(tmp_path)) == tmp_path / "fox-2"
    assert registry.place("c", "fox", None) == registry.runs_folder / "c"


def _add_many(root: Path, letter: str) -> None:
    registry = Registry(root)
    for number in range(15):
        add(registry, f"{letter}{number:07d}")


def test_many_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(tmp_path, letter)) for letter in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(Registry(tmp_path).all()) == 45


def test_service_reads_only_what_changed(registry: Registry) -> None:
    record = add(registry, "abc11111")
    with EventWriter(RunFolder(record.path).events) as writer:
        writer.write(StepEvent(step=3, loss=0.5, smoothed=0.5, lr=0.1, seconds=1.0))
        writer.write(StatusEvent(status=Status.FINISHED))
    service = RunService(registry.root)
    (run,) = service.list_now()
    assert (run.status, run.step, run.loss) == (Status.FINISHED, 3, 0.5)
    assert registry.all() == [run]
    assert service.list_now() == [run]
    # A resumed run's events grow again: the stored summary no longer counts.
    with EventWriter(RunFolder(record.path).events) as writer:
        writer.write(StepEvent(step=4, loss=0.25, smoothed=0.4, lr=0.1))
        writer.write(StatusEvent(status=Status.STOPPED))
    (again,) = RunService(registry.root).list_now()
    assert (again.status, again.step) == (Status.STOPPED, 4)
