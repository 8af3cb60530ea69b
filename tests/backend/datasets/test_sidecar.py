"""Crops and exclusions beside the pictures."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backend.datasets import sidecar
from backend.datasets.sidecar import (
    SIDECAR,
    Box,
    Marks,
    SidecarError,
    change_many,
    marks_of,
    read_sidecar,
    set_many,
    set_marks,
)

CROP = Marks(crop=Box(1, 2, 30, 40))


def test_marks_come_back_and_undo_leaves_no_file(folder: Path) -> None:
    one, two = folder / "a [b]\n.png", folder / "ü.jpg"
    before = set_many({one: CROP, two: Marks(excluded=True)})
    assert before == {one: Marks(), two: Marks()}
    assert (marks_of(one), marks_of(two)) == (CROP, Marks(excluded=True))
    assert set_many(before) == {one: CROP, two: Marks(excluded=True)}
    assert not (folder / SIDECAR).exists()


def test_what_a_newer_minor_version_wrote_is_kept(folder: Path) -> None:
    (folder / SIDECAR).write_text(
        json.dumps({"version": 1, "by": "x", "pictures": {"a.png": {"note": 1}}}), encoding="utf-8"
    )
    set_marks(folder / "a.png", CROP)
    set_marks(folder / "a.png", Marks())
    data = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
    assert data == {"version": 1, "by": "x", "pictures": {"a.png": {"note": 1}}}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"pictures": 3}', '{"version": "x", "pictures": {}}', "[" * 100_000]
)
def test_damage_is_said_and_set_aside_when_something_is_written(folder: Path, text: str) -> None:
    (folder / SIDECAR).write_text(text, encoding="utf-8")
    with pytest.raises(SidecarError, match="mend or delete it"):
        read_sidecar(folder)
    set_marks(folder / "a.png", CROP)
    assert marks_of(folder / "a.png") == CROP
    assert (folder / f"{SIDECAR}.damaged").read_text(encoding="utf-8") == text


def test_a_newer_version_is_never_overwritten(folder: Path) -> None:
    (folder / SIDECAR).write_text('{"version": 2, "pictures": {}}', encoding="utf-8")
    for call in (lambda: read_sidecar(folder), lambda: set_marks(folder / "a.png", CROP)):
        with pytest.raises(SidecarError, match="newer version"):
            call()
    assert "2" in (folder / SIDECAR).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "entry",
    [3, {"excluded": 1}, {"crop": [1, 2, 3, 4]}, {"crop": {"left": -1, "top": 0, "width": 1, "height": 1}},
     {"crop": {"left": 0, "top": 0, "width": 0, "height": 1}},
     {"crop": {"left": True, "top": 0, "width": 1, "height": 1}}],
)  # fmt: skip
def test_an_entry_without_sense_spoils_no_other(folder: Path, entry: object) -> None:
    data = {"version": 1, "pictures": {"bad.png": entry, "good.png": {"excluded": True}}}
    (folder / SIDECAR).write_text(json.dumps(data), encoding="utf-8")
    sidecar = read_sidecar(folder)
    assert sidecar.marks == {"good.png": Marks(excluded=True)}
    assert len(sidecar.problems) == 1
    assert "bad.png" in sidecar.problems[0]


def test_a_box_fits_only_inside() -> None:
    assert Box(0, 0, 10, 10).fits(10, 10)
    assert not Box(1, 0, 10, 10).fits(10, 10)
    assert not Box(-1, 0, 5, 5).fits(10, 10)


_WRITER = """
import sys
from pathlib import Path
from backend.datasets.sidecar import Box, Marks, change_many
folder, who = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    change_many({folder / f"{who}{number}.png": lambda marks: Marks(excluded=True)})
    change_many({folder / "both.png": lambda marks: Marks(crop=Box(0, 0, marks.crop.width + 1, 1))})
"""


def test_two_programs_that_write_one_sidecar_lose_nothing(folder: Path) -> None:
    set_marks(folder / "both.png", Marks(crop=Box(0, 0, 1, 1)))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder), who],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for who in "ab"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=60)
    marks = read_sidecar(folder).marks
    assert len(marks) == 81
    assert marks["both.png"].crop == Box(0, 0, 81, 1)


def test_a_sidecar_that_somebody_else_keeps_writing_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar, "_PATIENCE", 0.01)
    told: list[str] = []

    def meanwhile(marks: Marks) -> Marks:
        def other() -> None:  # a lock counts for its process, so what another one meets is played here
            with pytest.raises(SidecarError, match="another program") as caught, sidecar._alone(folder):
                pass
            told.append(str(caught.value))

        thread = threading.Thread(target=other)
        monkeypatch.setattr(sidecar, "_lock", threading.Lock())
        thread.start()
        thread.join()
        return marks

    change_many({folder / "a.png": meanwhile})
    assert len(told) == 1
