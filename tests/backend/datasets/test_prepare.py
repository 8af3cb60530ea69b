"""Preparing pictures when something fails: all of a picture or nothing of it, and all of it comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.datasets.captions import write
from backend.datasets.prepare import PrepareOptions, prepare, unprepare
from backend.datasets.scan import scan_all
from backend.datasets.sidecar import Box, Marks, SidecarError, marks_of, set_marks
from backend.datasets.trash import TrashError
from tests.backend.datasets.conftest import captioned, draw


@pytest.mark.parametrize("in_place", [True, False])
def test_a_picture_is_prepared_whole_or_not_at_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    path = draw(captioned(folder / "a.png", "text"), mode="RGBA")
    set_marks(path, Marks(crop=Box(0, 0, 20, 20)))
    before = {found.name: found.read_bytes() for found in folder.iterdir()}
    options = PrepareOptions(None if in_place else tmp_path / "out")
    items = scan_all(folder).items

    def refuses(changes: object) -> None:
        raise SidecarError("the sidecar cannot be written: no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("backend.datasets.prepare.set_many", refuses)
        (result,) = prepare(items, options)
    assert (result.target, result.problem) == (None, "the sidecar cannot be written: no space left on device")
    assert {found.name: found.read_bytes() for found in folder.iterdir()} == before
    (result,) = prepare(items, options)
    assert result.target is not None
    assert result.target.with_suffix(".txt").read_text(encoding="utf-8") == "text"
    assert marks_of(result.target).crop == Box(0, 0, 20, 20)


def test_taking_a_preparation_back_twice_leaves_what_is_back(folder: Path) -> None:
    path, other = draw(folder / "a.png", mode="RGBA"), draw(folder / "b.webp")
    originals = path.read_bytes(), other.read_bytes()
    results = list(prepare(scan_all(folder).items, PrepareOptions(None)))
    other.write_bytes(b"in the way")
    with pytest.raises(TrashError, match="exists again"):
        unprepare(results)
    assert path.read_bytes() == originals[0]
    other.unlink()
    assert unprepare(results) == [other]
    assert (path.read_bytes(), other.read_bytes()) == originals


def test_names_as_long_as_they_may_be(folder: Path) -> None:
    path = captioned(folder / f"{'n' * 251}.png", "text")
    write(path.with_suffix(".txt"), "other text")
    (result,) = prepare(scan_all(folder).items, PrepareOptions(None))
    assert (result.target, result.problem) == (path, None)
    assert path.with_suffix(".txt").read_text(encoding="utf-8") == "other text"
    assert unprepare([result]) == [path]
