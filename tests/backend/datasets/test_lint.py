"""Every rule: what it finds, and what it leaves alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from backend.datasets.errors import DatasetError
from backend.datasets.lint import RULES, LintOptions, lint
from backend.datasets.mend import mend, safe
from backend.datasets.phash import find_duplicates
from backend.datasets.problems import Problem
from backend.datasets.rules.pictures import CONVERTED
from backend.datasets.scan import scan_all
from backend.datasets.sidecar import SIDECAR, Box, Marks, marks_of, set_marks
from tests.backend.datasets.conftest import captioned, draw

OPTIONS = LintOptions(resolutions=(64,), trigger="zork")
GOOD = 12


def look(folder: Path, options: LintOptions = OPTIONS) -> list[Problem]:
    batch = scan_all(folder)
    return lint(
        folder,
        batch.items,
        options,
        orphans=batch.orphans,
        duplicates=find_duplicates(batch.items),
        scanned=batch.problems,
    )


@pytest.fixture
def good(folder: Path) -> Path:
    """A dataset without a fault."""
    for n in range(GOOD):
        captioned(
            folder / f"g{n:02}.png", f"zork number {n}, thing {n}", (72, 100) if n % 2 else (100, 72), seed=n
        )
    assert look(folder) == []
    return folder


def exif(value: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = value
    return found


def caption(name: str, content: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        draw(folder / f"{name}.png", (96, 96), 77)
        (folder / f"{name}.txt").write_bytes(content)

    return make


def picture(
    name: str, size: tuple[int, int] = (96, 96), mode: str = "RGB", **save: object
) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        draw(folder / name, size, 77, mode, **save)
        (folder / name).with_suffix(".txt").write_text("zork, one of its kind", encoding="utf-8")

    return make


def animate(folder: Path) -> None:
    frames = [draw(folder / f".{n}.png", (96, 96), 70 + n) for n in range(2)]
    images = [Image.open(frame) for frame in frames]
    images[0].save(folder / "x.webp", save_all=True, append_images=images[1:])
    (folder / "x.txt").write_text("zork, one of its kind", encoding="utf-8")


def cut(folder: Path) -> None:
    picture("x.jpg", (200, 200))(folder)
    raw = (folder / "x.jpg").read_bytes()
    (folder / "x.jpg").write_bytes(raw[: len(raw) // 2])


def lock(folder: Path) -> None:
    """A caption that nobody can read, not even root."""
    draw(folder / "x.png", (96, 96), 77)
    (folder / "x.txt").mkdir()


def twin(folder: Path) -> None:
    draw(folder / "g00.jpg", (96, 96), 99)


def copy(folder: Path) -> None:
    shutil.copy(folder / "g00.png", folder / "x.png")
    (folder / "x.txt").write_text("zork, one of its kind", encoding="utf-8")


def rescale(folder: Path) -> None:
    with Image.open(folder / "g00.png") as image:
        image.resize((160, 200)).save(folder / "x.jpg", quality=80)
    (folder / "x.txt").write_text("zork, one of its kind", encoding="utf-8")


def crop(folder: Path) -> None:
    set_marks(folder / "g00.png", Marks(crop=Box(0, 0, 500, 500)))


def say_the_same(folder: Path) -> None:
    for path in folder.glob("*.txt"):
        path.write_text(f"zork, {path.stem}, masterpiece", encoding="utf-8")


def one_tall(folder: Path) -> None:
    for n in range(GOOD):
        draw(folder / f"g{n:02}.png", (100, 80), n) if n else draw(folder / "g00.png", (80, 100), n)


def take_most(folder: Path) -> None:
    for n in range(1, GOOD):
        (folder / f"g{n:02}.png").unlink()
        (folder / f"g{n:02}.txt").unlink()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "caption-missing": (lambda folder: (folder / "g00.txt").unlink(), "g00.png"),
    "caption-empty": (caption("x", b" \n"), "x.png"),
    "caption-orphan": (lambda folder: (folder / "x.txt").write_text("x", encoding="utf-8"), "x.txt"),
    "caption-not-utf8": (caption("x", "zork café".encode("latin-1")), "x.png"),
    "caption-unreadable": (lock, "x.png"),
    "caption-bom": (caption("x", b"\xef\xbb\xbfzork, own"), "x.png"),
    "caption-over-t5": (caption("x", b"zork " + b"word " * 600), "x.png"),
    "caption-over-clip": (caption("x", b"zork " + b"word " * 90), "x.png"),
    "trigger-missing": (caption("x", b"a cat"), "x.png"),
    "caption-repeated": (say_the_same, ""),
    "picture-unreadable": (lambda folder: (folder / "g00.png").write_bytes(b""), "g00.png"),
    "picture-truncated": (cut, "x.jpg"),
    "picture-animated": (animate, "x.webp"),
    "picture-extension": (picture("x.png", format="JPEG"), "x.png"),
    "picture-small": (picture("x.png", (50, 50)), "x.png"),
    "picture-aspect": (picture("x.png", (300, 100)), "x.png"),
    "picture-rotated": (picture("x.jpg", exif=exif(6)), "x.jpg"),
    "picture-alpha": (picture("x.png", mode="RGBA"), "x.png"),
    "picture-cmyk": (picture("x.jpg", mode="CMYK"), "x.jpg"),
    "crop-outside": (crop, "g00.png"),
    "duplicate-exact": (copy, "x.png"),
    "duplicate-near": (rescale, "x.jpg"),
    "stem-shared": (twin, "g00.png"),
    "aspect-mix": (one_tall, ""),
    "too-few": (take_most, ""),
}


def test_every_rule_has_a_test() -> None:
    assert set(FAULTS) == set(RULES)


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_finds_its_fault_and_nothing_else_is_wrong(good: Path, rule: str) -> None:
    make, file = FAULTS[rule]
    make(good)
    found = look(good)
    expected = [(file, rule)]
    assert [(problem.file, problem.rule) for problem in found] == expected
    assert found[0].severity is RULES[rule].severity
    assert found[0].message
    assert "\n" not in found[0].message


def test_utf16_is_told_as_a_mark(good: Path) -> None:
    caption("x", "zork, café".encode("utf-16"))(good)
    assert [problem.rule for problem in look(good)] == ["caption-bom"]


def test_excluding_one_of_two_that_share_a_caption_is_enough(good: Path) -> None:
    twin(good)
    set_marks(good / "g00.jpg", Marks(excluded=True))
    assert look(good) == []


def test_a_picture_that_cannot_be_read_needs_no_caption(good: Path) -> None:
    (good / "g00.png").write_bytes(b"")
    (good / "g00.txt").unlink()
    assert [problem.rule for problem in look(good)] == ["picture-unreadable"]


def test_excluded_pictures_are_left_alone_and_a_crop_counts(good: Path) -> None:
    picture("x.png", (300, 100))(good)
    set_marks(good / "x.png", Marks(excluded=True))
    assert look(good) == []
    set_marks(good / "x.png", Marks(crop=Box(100, 0, 90, 90)))
    assert look(good) == []


@pytest.mark.parametrize(
    ("rule", "left"),
    [("caption-missing", "caption-empty"), ("caption-orphan", None), ("caption-not-utf8", None),
     ("caption-bom", None), ("trigger-missing", None), ("picture-extension", None), ("crop-outside", None),
     ("duplicate-exact", None), ("picture-animated", None), ("picture-rotated", None),
     ("picture-alpha", None), ("picture-cmyk", None)],
)  # fmt: skip
def test_what_has_a_fix_is_mended(good: Path, rule: str, left: str | None) -> None:
    FAULTS[rule][0](good)
    problems = look(good)
    before = {path.name: path.read_bytes() for path in good.iterdir() if path.name != SIDECAR}
    assert problems[0].fix is not None
    results = mend(problems, good, scan_all(good).items, OPTIONS)
    assert [result.failure for result in results] == [None]
    assert results[0].done
    assert [problem.rule for problem in look(good)] == ([left] if left else [])
    assert results[0].back is not None
    results[0].back()
    assert {path.name: path.read_bytes() for path in good.iterdir() if path.name != SIDECAR} == before
    assert look(good) == problems


def test_mending_is_not_taken_back_over_what_others_wrote_since(good: Path) -> None:
    caption("x", b"\xef\xbb\xbfzork, a cat")(good)
    picture("y.png", format="JPEG")(good)
    results = {it.problem.rule: it for it in mend(look(good), good, scan_all(good).items, OPTIONS)}
    (good / "x.txt").write_text("zork, mine", encoding="utf-8")
    draw(good / "y.png", (96, 96), 5)
    for rule, words in (("caption-bom", "changed since"), ("picture-extension", "exists already")):
        back = results[rule].back
        assert back is not None
        with pytest.raises(DatasetError, match=words):
            back()
    assert (good / "x.txt").read_text(encoding="utf-8") == "zork, mine"
    assert (good / "y.jpg").is_file()


def test_rules_with_a_fix_are_those_that_can_be_mended() -> None:
    assert {rule.id for rule in RULES.values() if rule.fix} == {
        "caption-missing", "caption-orphan", "caption-not-utf8", "caption-bom", "trigger-missing",
        "picture-extension", "crop-outside", "duplicate-exact", *CONVERTED,
    }  # fmt: skip


def test_only_what_loses_nothing_is_safe(good: Path) -> None:
    for rule in ("caption-missing", "caption-not-utf8", "caption-orphan", "duplicate-exact"):
        FAULTS[rule][0](good)
    assert {problem.rule for problem in safe(look(good))} <= {"duplicate-exact"}


def test_a_rename_takes_no_other_files_place_and_keeps_the_marks(good: Path) -> None:
    picture("x.png", format="JPEG")(good)
    set_marks(good / "x.png", Marks(crop=Box(0, 0, 80, 80)))
    draw(good / "x.jpg", (96, 96), 55)
    wanted = [problem for problem in look(good) if problem.rule == "picture-extension"]
    (refused,) = mend(wanted, good, scan_all(good).items, OPTIONS)
    assert "exists already" in (refused.failure or "")
    (good / "x.jpg").unlink()
    mend(wanted, good, scan_all(good).items, OPTIONS)
    assert marks_of(good / "x.jpg") == Marks(crop=Box(0, 0, 80, 80))
    assert marks_of(good / "x.png") == Marks()
