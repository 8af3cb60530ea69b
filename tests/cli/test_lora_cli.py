from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.backend.lora_files import SMALL, diffusers_tensors, kohya_tensors, save, tensor

from .conftest import Output

HOSTILE = {
    "modelspec.title": "[red]x[/red]\x1b[2J\x9b31m\r\n\u202eevil",
    "big": "x" * 5000,
    "[/]\x07": "\x00",
}


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    return save(
        tmp_path / "cat.safetensors", diffusers_tensors(SMALL), {"format": "pt", "modelspec.title": "cat"}
    )


def test_inspect(cli: Output, lora: Path) -> None:
    code, out, err = cli("inspect", str(lora))
    assert (code, err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if " " in line)
    assert rows["kind"] == "LoRA, diffusers names"
    assert rows["rank"] == "2"
    assert rows["modules"].startswith("26; ")
    assert rows["modelspec.title"] == "cat"
    assert "sound: all matrices" in out
    assert any(line.split()[:2] == ["kohya", "no"] and "--format kohya" in line for line in out.splitlines())
    assert any(line.split()[:2] == ["diffusers", "yes"] for line in out.splitlines())


def test_inspect_json(cli: Output, lora: Path) -> None:
    code, out, err = cli("inspect", str(lora), "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["ranks"], report["kind"], report["problems"]) == ({"2": 26}, "LoRA", [])
    code, out, _ = cli("inspect", "--help")
    assert code == 0
    assert all(f'"{key}"' in out for key in (*report, *report["works_in"][0]))


def test_what_a_file_says_cannot_act_on_the_terminal(cli: Output, tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", diffusers_tensors(SMALL), HOSTILE)
    code, out, err = cli("inspect", str(path))
    assert (code, err) == (0, "")
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "[red]x[/red]" in out  # shown as it is
    assert max(map(len, out.splitlines())) < 1100
    code, out, _ = cli("inspect", str(path), "--json")
    assert json.loads(out)["metadata"]["modelspec.title"] == HOSTILE["modelspec.title"]
    assert "\x1b" not in out


def test_a_broken_file_is_reported_and_fails(cli: Output, tmp_path: Path) -> None:
    half = {key: value for key, value in diffusers_tensors(SMALL).items() if "lora_A" in key}
    path = save(tmp_path / "x.safetensors", half)
    code, out, err = cli("inspect", str(path))
    assert code == 1
    assert "sound" not in out
    assert len(err.splitlines()) == 11
    assert "and 16 more problems" in err
    code, out, _ = cli("inspect", str(path), "--json")
    assert code == 1
    assert len(json.loads(out)["problems"]) == 26


@pytest.mark.parametrize("command", [("inspect",), ("convert", "--format", "kohya")])
@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 99, b"PK\x03\x04" + b"\0" * 200, None])
def test_bad_files_give_one_sentence(
    cli: Output, tmp_path: Path, command: tuple[str, ...], content: bytes | None
) -> None:
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    code, out, err = cli(*command, str(path))
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("fluxlora-tui: ")
    assert str(path) in err
    code, out, err = cli(*command, str(tmp_path))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    code, out, err = cli(*command, "\0[red]\x1b[2J")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "\x1b" not in err


def test_convert_there_and_back(cli: Output, lora: Path, tmp_path: Path) -> None:
    before = lora.read_bytes()
    code, out, err = cli("convert", str(lora), "--format", "kohya")
    there = tmp_path / "cat_kohya.safetensors"
    assert (code, out, err) == (0, f"{there}\n", "")
    back = tmp_path / "back.safetensors"
    assert cli("convert", str(there), "--format", "diffusers", "--output", str(back))[0] == 0
    assert lora.read_bytes() == before
    assert back.read_bytes() == before
    code, _, err = cli("convert", str(there), "--format", "diffusers", "--output", str(back))
    assert code == 2
    assert "is there already" in err


def test_convert_says_what_is_not_exact(cli: Output, tmp_path: Path) -> None:
    path = save(tmp_path / "dog.safetensors", kohya_tensors(SMALL, rank=3, alpha=1.0))
    code, out, err = cli("convert", str(path), "--format", "diffusers")
    assert code == 0
    assert out == f"{tmp_path / 'dog_diffusers.safetensors'}\n"
    assert "note: the scale (alpha / rank) was multiplied into 26 layers' weights" in err


def test_convert_refuses_what_it_would_lose(cli: Output, tmp_path: Path) -> None:
    lokr = {"lycoris_transformer_blocks_0_attn_to_q.lokr_w1": tensor(np.ones((2, 2)))}
    path = save(tmp_path / "lokr.safetensors", lokr)
    code, _, err = cli("convert", str(path), "--format", "kohya")
    assert code == 2
    assert "only LoRAs can be converted" in err
    assert list(tmp_path.iterdir()) == [path]
    assert cli("convert", str(path))[0] == 2  # --format is needed
    assert cli("convert", str(path), "--format", "xlabs")[0] == 2


def test_neither_command_imports_torch(lora: Path) -> None:
    code = (
        "import sys; from tui.cli.main import run; "
        f"run(['inspect', {str(lora)!r}]); run(['convert', {str(lora)!r}, '--format', 'kohya']); "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'modal', 'textual', 'pydantic')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (lora.parent / "cat_kohya.safetensors").is_file()
