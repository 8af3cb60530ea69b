from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.configs.library import ConfigLibrary, LibraryError
from backend.configs.project import project_configs
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.registry import Registry
from config.load import check_config
from config.presets import preset_text


@pytest.fixture
def library(tmp_path: Path) -> ConfigLibrary:
    project = tmp_path / "project"
    project.mkdir()
    return ConfigLibrary(project, Registry(tmp_path / "home"), trash=tmp_path / "trash")


def add_run(registry: Registry, name: str, created: float, text: str = "") -> RunRecord:
    folder = RunFolder(registry.runs_folder / f"run{created:.0f}")
    folder.create()
    folder.config.write_text(text, encoding="utf-8")
    record = RunRecord(
        id=folder.path.name, name=name, backend="local", steps=10, created=created, path=folder.path
    )
    folder.write_record(record)
    registry.add(record)
    return record


def test_what_a_list_shows(library: ConfigLibrary) -> None:
    registry = library.registry
    assert registry is not None
    path = library.new_from_preset("character", "fox")
    add_run(registry, "fox", 1)
    newest = add_run(registry, "fox", 2)
    (library.folder / "notes.yaml").write_text("a: 1\n", encoding="utf-8")
    (library.folder / "broken.yaml").write_text("config:\n  process: [\n", encoding="utf-8")
    (library.folder / "sub").mkdir()
    (library.folder / "sub" / "own.json").write_text(
        json.dumps({"config": {"name": "own", "process": [{"train": {"steps": 5}}]}}), encoding="utf-8"
    )
    found = {entry.path.name: entry for entry in library.entries()}
    assert set(found) == {"fox.yaml", "broken.yaml", "own.json"}
    fox = found["fox.yaml"]
    assert (fox.path, fox.name, fox.steps) == (path, "fox", 2000)
    assert fox.base_model == "black-forest-labs/FLUX.1-dev"
    assert fox.datasets == ("./pictures",)
    assert fox.last_run is not None
    assert fox.last_run.id == newest.id
    assert found["own.json"].steps == 5
    assert "broken.yaml:3: is not valid YAML" in (found["broken.yaml"].problem or "")


def test_the_demos_configs_are_listed_too(tmp_path: Path) -> None:
    root, work = tmp_path / "home", tmp_path / "work"
    for place in (root / "demo", work, tmp_path / "more"):
        place.mkdir(parents=True)
        (place / f"{place.name}.yaml").write_text(preset_text("character"), encoding="utf-8")
    names = {entry.path.name for entry in project_configs(root, work, [tmp_path / "more"]).entries()}
    assert names == {"demo.yaml", "work.yaml", "more.yaml"}
    assert len(project_configs(root, tmp_path).entries()) == 3  # once each, though two ways lead there


def test_new_ones_carry_their_name_and_keep_the_comments(library: ConfigLibrary) -> None:
    path = library.new_from_preset("style", "my style")
    text = path.read_text(encoding="utf-8")
    assert [line for line in preset_text("style").split("\n") if line not in text.split("\n")] == [
        next(line for line in preset_text("style").split("\n") if line.startswith("  name: "))
    ]
    loaded, _ = check_config(library.duplicate(path, "other"), files=False, env={})
    assert loaded is not None
    assert loaded.config.name == "other"
    registry = library.registry
    assert registry is not None
    add_run(registry, "fox", 3, text)
    again = library.new_from_run(registry.all()[0], "again")
    assert "name: again" in again.read_text(encoding="utf-8")


def test_renaming_and_the_way_to_the_trash_and_back(library: ConfigLibrary) -> None:
    path = library.new_from_preset("character", "fox")
    renamed = library.rename(path, "owl")
    assert not path.exists()
    assert "name: owl" in renamed.read_text(encoding="utf-8")
    text = renamed.read_bytes()
    trashed = library.delete(renamed)
    assert library.entries() == []
    assert library.trash() == [trashed]
    assert library.restore(trashed) == renamed
    assert renamed.read_bytes() == text
    assert library.trash() == []


@pytest.mark.parametrize("name", ["", "a/b", "..", "con", "a ", 'q"', "x" * 200, "new\nline"])
def test_bad_names_are_refused(library: ConfigLibrary, name: str) -> None:
    with pytest.raises(LibraryError, match="cannot be a file's name"):
        library.new_from_preset("character", name)
    assert list(library.folder.iterdir()) == []


def test_nothing_is_overwritten(library: ConfigLibrary) -> None:
    path = library.new_from_preset("character", "fox")
    before = path.read_bytes()
    for make in (
        lambda: library.new_from_preset("style", "fox"),
        lambda: library.duplicate(path, "fox"),
        lambda: library.rename(library.new_from_preset("style", "owl"), "fox"),
    ):
        with pytest.raises(LibraryError, match="there already"):
            make()
    trashed = library.delete(path)
    library.new_from_preset("style", "fox")
    with pytest.raises(LibraryError, match="is there again"):
        library.restore(trashed)
    assert trashed.read_bytes() == before
