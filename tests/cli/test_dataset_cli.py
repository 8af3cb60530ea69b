"""``fluxlora-tui dataset``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from backend.datasets.sidecar import marks_of
from tui.cli.main import run as main


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    for n in range(3):
        Image.linear_gradient("L").resize((520 + 16 * n, 540)).convert("RGB").save(path / f"a{n}.png")
        (path / f"a{n}.txt").write_text(f"zork, thing {n}", encoding="utf-8")
    return path


def run(*arguments: str) -> int:
    return main(["dataset", *arguments])


def test_json_has_pictures_captions_and_problems(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a0.txt").write_bytes(b"\xef\xbb\xbf[trigger] x")
    (folder / "bad\n[red].png").write_bytes(b"")
    assert run(str(folder), "--json", "--trigger", "zork", "--resolution", "512") == 1
    record = json.loads(capsys.readouterr().out)
    assert set(record) == {"folder", "images", "captions", "problems", "fixed"}
    assert [image["file"] for image in record["images"]] == ["a0.png", "a1.png", "a2.png", "bad\n[red].png"]
    assert (record["images"][0]["width"], record["images"][0]["height"]) == (520, 540)
    assert (record["captions"][0]["text"], record["captions"][0]["trained"]) == ("[trigger] x", "zork x")
    found = {(problem["file"], problem["rule"], problem["severity"]) for problem in record["problems"]}
    assert ("bad\n[red].png", "picture-unreadable", "error") in found
    assert ("a0.png", "caption-bom", "info") in found
    assert all(
        set(problem) == {"file", "rule", "severity", "message", "fix"} for problem in record["problems"]
    )


def test_text_is_one_line_a_problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a\x1b[31m\n.png").write_bytes(b"")
    assert run(str(folder), "--resolution", "512") == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.splitlines()[0].endswith("[picture-unreadable]")
    assert out.splitlines()[-1].startswith("4 pictures, 3 with a caption: ")


def test_fix_mends_what_loses_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a0.txt").write_bytes("zork, café".encode("utf-16"))
    (folder / "a1.jpg").write_bytes((folder / "a0.png").read_bytes())
    (folder / "a1.png").unlink()
    (folder / "a2.txt").write_bytes("café".encode("latin-1"))
    assert run(str(folder), "--fix", "--json") == 1
    record = json.loads(capsys.readouterr().out)
    assert (folder / "a0.txt").read_bytes() == "zork, café".encode()
    assert (folder / "a1.png").exists()
    assert marks_of(folder / "a1.png").excluded
    assert (folder / "a2.txt").read_bytes() == "café".encode("latin-1")  # no guess without asking
    assert {(entry["file"], entry["rule"], entry["failure"]) for entry in record["fixed"]} == {
        ("a0.png", "caption-bom", None), ("a1.jpg", "duplicate-exact", None),
        ("a1.jpg", "picture-extension", None),
    }  # fmt: skip
    assert "caption-bom" not in {problem["rule"] for problem in record["problems"]}


def test_a_good_dataset_has_no_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(folder)) == 0
    assert "3 pictures, 3 with a caption" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "does not exist"),
        (["bad\0name"], "does not exist"),
        ([".", "--resolution", "big"], "--resolution"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
