"""The demo project: made whole, made once, and the user's own after that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from backend.demo import DemoError, DemoProject, prepare_demo
from backend.demo import pictures as demo_pictures
from backend.demo.pictures import EMBLEMS, draw
from backend.trainer.buckets import bucket_for
from config.load import load_config


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared demo that no test changes."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "original"
    said: list[str] = []
    prepare_demo(folder, progress=said.append)
    assert said == ["drawing 12 pictures", "building the tiny FLUX"]
    return folder


@pytest.fixture
def project(original: Path, tmp_path: Path) -> DemoProject:
    """A copy of it, somewhere else: also what a user gets who moves the folder."""
    folder = tmp_path / "my demo"
    shutil.copytree(original, folder)
    return prepare_demo(folder)


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_fresh_demo_is_complete_and_its_config_without_fault(original: Path) -> None:
    project = prepare_demo(original)
    assert sorted(path.name for path in original.iterdir()) == [
        ".demo.json",
        "dataset",
        "demo.yaml",
        "tiny-flux",
    ]
    loaded = load_config(project.config)
    assert [problem for problem in loaded.problems if problem.severity != "info"] == []
    process = loaded.config.process
    assert process.model.name_or_path == str(project.model)
    assert [dataset.folder_path for dataset in process.datasets] == [str(project.dataset)]
    assert process.training_folder is None
    assert process.save.save_every
    assert len(process.sample.prompts) == 2
    assert all("[trigger]" in prompt for prompt in process.sample.prompts)


def test_any_path_survives_the_config(original: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s: a #"strange" 狐 {folder}'
    if os.name == "nt":
        folder = tmp_path / "it's a #strange 狐 {folder}"
    shutil.copytree(original, folder)
    project = prepare_demo(folder)
    assert load_config(project.config).config.process.model.name_or_path == str(project.model)


def test_the_second_time_nothing_happens(project: DemoProject, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _times(project.config.parent)
    monkeypatch.setattr(subprocess, "run", _must_not_be_called)
    said: list[str] = []
    assert prepare_demo(project.config.parent, progress=said.append) == project
    assert said == []
    assert _times(project.config.parent) == before


def _must_not_be_called(*_: object, **__: object) -> None:
    raise AssertionError("it was all there already")


def test_an_edited_config_is_kept(project: DemoProject) -> None:
    text = project.config.read_text(encoding="utf-8").replace("\n        steps: ", "\n        steps: 1")
    project.config.write_text(text, encoding="utf-8")
    prepare_demo(project.config.parent)
    assert project.config.read_text(encoding="utf-8") == text


def test_an_edited_config_is_kept_though_its_record_is_gone(project: DemoProject) -> None:
    project.config.write_text("mine: true\n", encoding="utf-8")
    (project.config.parent / ".demo.json").unlink()
    prepare_demo(project.config.parent)
    assert project.config.read_text(encoding="utf-8") == "mine: true\n"


def test_an_untouched_config_follows_a_moved_folder(project: DemoProject, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    project.config.parent.rename(moved)
    again = prepare_demo(moved)
    process = load_config(again.config).config.process
    assert process.model.name_or_path == str(moved / "tiny-flux")


def test_a_deleted_config_comes_back(project: DemoProject) -> None:
    project.config.unlink()
    prepare_demo(project.config.parent)
    assert load_config(project.config).config.name == "demo-fox"


def test_the_users_pictures_are_left_alone(project: DemoProject) -> None:
    (project.dataset / "fox-01.png").unlink()
    (project.dataset / "fox-02.txt").write_text("my words", encoding="utf-8")
    prepare_demo(project.config.parent)
    assert not (project.dataset / "fox-01.png").exists()
    assert (project.dataset / "fox-02.txt").read_text(encoding="utf-8") == "my words"


def test_half_a_dataset_is_never_left_behind(project: DemoProject, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(project.dataset)

    def fail_at_the_fifth(emblem: demo_pictures.Emblem) -> Image.Image:
        if emblem is EMBLEMS[4]:
            raise OSError(28, "No space left on device", "fox-05.png")
        return draw(emblem)

    with monkeypatch.context() as patch:
        patch.setattr(demo_pictures, "draw", fail_at_the_fifth)
        with pytest.raises(DemoError, match=r"No space left on device: fox-05\.png"):
            prepare_demo(project.config.parent)
    assert sorted(path.name for path in project.config.parent.iterdir()) == [
        ".demo.json",
        "demo.yaml",
        "tiny-flux",
    ]
    prepare_demo(project.config.parent)
    assert len(list(project.dataset.glob("*.png"))) == 12


def test_a_missing_train_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "torch.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')", encoding="utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", str(absent))
    with pytest.raises(DemoError) as caught:
        prepare_demo(tmp_path / "demo")
    assert "pip install 'fluxlora-tui[train]'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DemoError, match="the demo cannot be made in") as caught:
        prepare_demo(tmp_path / "file" / "demo")
    assert str(tmp_path / "file") in str(caught.value)


def test_the_app_side_never_imports_torch(original: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from backend.demo import prepare_demo; "
        "light = {'PIL', 'pydantic', 'yaml', 'numpy'} & set(sys.modules); assert not light, light; "
        "prepare_demo(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(original)], check=True)


def test_the_pictures_are_the_same_every_time() -> None:
    assert all(draw(emblem).tobytes() == draw(emblem).tobytes() for emblem in EMBLEMS[::5])
    assert len({draw(emblem).tobytes() for emblem in EMBLEMS}) == len(EMBLEMS)


def test_the_pictures_have_captions_and_several_shapes(original: Path) -> None:
    files = sorted((original / "dataset").glob("*.png"))
    assert len(files) == 12
    buckets = set()
    for file in files:
        caption = file.with_suffix(".txt").read_text(encoding="utf-8")
        assert caption.startswith("[trigger], ")
        with Image.open(file) as picture:
            assert picture.mode == "RGB"
            buckets.add(bucket_for(*picture.size, 128))
    assert buckets == {(128, 128), (160, 96), (96, 160)}
