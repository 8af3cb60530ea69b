from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.lora.file import LoraError, Tensor, read_lora, write_lora
from backend.lora.number_formats import FORMATS, count_nonfinite, decode, encode, is_nonzero
from tests.backend.lora_files import all_bits, diffusers_tensors, save, tensor

torch = pytest.importorskip("torch")
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def file_of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("name", ["F16", "BF16", "F8_E4M3", "F8_E5M2"])
def test_every_number_of_a_format_is_read_as_torch_reads_it(name: str) -> None:
    number = FORMATS[name]
    bits = np.arange(1 << (8 * number.size), dtype=number.bits)
    theirs = torch.from_numpy(bits.copy()).view(DTYPES[name]).to(torch.float64)
    assert np.array_equal(decode(bits, number), theirs.numpy(), equal_nan=True)
    assert count_nonfinite(bits, number) == int((~torch.isfinite(theirs)).sum())
    assert np.array_equal(is_nonzero(bits, number), theirs.numpy() != 0)
    finite = np.isfinite(decode(bits, number))
    assert np.array_equal(encode(decode(bits[finite], number), number), bits[finite])


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"])
def test_numbers_are_rounded_as_torch_rounds_them(name: str) -> None:
    number = FORMATS[name]
    rng = np.random.default_rng(0)
    values = rng.normal(size=20_000) * 2.0 ** rng.integers(-20, 6, size=20_000)
    if number.size < 4:  # all ties between neighbours
        top = 0x7B00 if name == "F16" else 0x7E00 if name == "BF16" else 0x77
        finite = decode(np.arange(top, dtype=number.bits), number)
        values = np.concatenate([values, (finite[1:] + finite[:-1]) / 2, -(finite[1:] + finite[:-1]) / 2])
    values = values.astype(np.float32).astype(np.float64)
    theirs = torch.from_numpy(values.astype(np.float32)).to(DTYPES[name]).to(torch.float64).numpy()
    assert np.array_equal(decode(encode(values, number), number), theirs)


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_what_is_not_finite_or_too_large_stays_recognisable(name: str) -> None:
    number = FORMATS[name]
    values = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, 1.0])
    assert count_nonfinite(encode(values, number), number) == 4
    if number.size < 4:
        assert count_nonfinite(encode(np.array([1e39, -1e39]), number), number) == 2


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_the_safetensors_library_agrees(tmp_path: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    source = {
        "b": torch.randn(3, 5).to(DTYPES[name]),
        "a": torch.randn(7).to(DTYPES[name]),
        "s": torch.tensor(2.0),
    }
    save_file(source, tmp_path / "theirs.safetensors", metadata={"x": "[red]é[/red]", "ss_y": "1"})
    found = read_lora(tmp_path / "theirs.safetensors")
    assert found.metadata == {"x": "[red]é[/red]", "ss_y": "1"}
    assert found.tensors["b"].shape == (3, 5)
    assert found.tensors["s"].item() == 2.0
    assert np.array_equal(found.tensors["a"].values(), source["a"].to(torch.float64).numpy())
    write_lora(tmp_path / "ours.safetensors", found.tensors, found.metadata)
    again = load_file(tmp_path / "ours.safetensors")
    assert again.keys() == source.keys()
    for key, value in source.items():
        assert torch.equal(again[key].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))
    assert all_bits(read_lora(tmp_path / "ours.safetensors").tensors) == all_bits(found.tensors)


def test_hashes_are_those_of_kohya(tmp_path: Path) -> None:
    """By its definition: the tensors' bytes, and 64 KiB at 1 MiB of a file with only ss_ metadata."""
    from safetensors.torch import load_file, save

    tensors = {"a.lora_up.weight": tensor(np.random.default_rng(0).normal(size=(700, 900)), "F16")}
    tensors["a.alpha"] = tensor(np.array(4.0), "F32")
    path = tmp_path / "x.safetensors"
    metadata = {"ss_a": "é", "modelspec.title": "t", "modelspec.hash_sha256": "old", "sshs_model_hash": "old"}
    write_lora(path, tensors, metadata)
    found = read_lora(path).metadata
    content = path.read_bytes()
    data = content[8 + int.from_bytes(content[:8], "little") :]
    assert found["sshs_model_hash"] == hashlib.sha256(data).hexdigest()
    assert found["modelspec.hash_sha256"] == "0x" + hashlib.sha256(data).hexdigest()
    bare = save(load_file(path), {"ss_a": "é"})
    assert len(bare) > 0x110000
    assert found["sshs_legacy_hash"] == hashlib.sha256(bare[0x100000:0x110000]).hexdigest()[:8]
    assert found["modelspec.title"] == "t"


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", diffusers_tensors())
    before = path.read_bytes()

    def broken() -> Any:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_lora(path, {"a": Tensor(FORMATS["F16"], (2,), broken)}, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


ENTRY = {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}
HOSTILE = {
    "empty": b"",
    "short": b"\x01\x02",
    "pickle": b"\x80\x02}q\x00." * 50,
    "text": b"<!DOCTYPE html><html>401 Unauthorized</html>",
    "huge header": struct.pack("<Q", 1 << 60) + b"{}",
    "cut header": file_of({"a": ENTRY})[:20],
    "cut data": file_of({"a": ENTRY}, b"\0\0"),
    "more data": file_of({"a": ENTRY}, b"\0" * 9),
    "list": file_of(b"[]"),
    "not utf-8": file_of(b'{"\xff": 1}'),
    "deep": file_of(b"[" * 200_000),
    "long number": file_of(b'{"a": ' + b"9" * 10_000 + b"}"),
    "constant": file_of(b'{"a": NaN}'),
    "entry": file_of({"a": 3}),
    "repeated": file_of(b'{"a":%s,"a":%s}' % ((json.dumps(ENTRY).encode(),) * 2), b"\0" * 4),
    "dtype": file_of({"a": ENTRY | {"dtype": "[red]\x1b[2J"}}, b"\0" * 4),
    "unhashable dtype": file_of({"a": ENTRY | {"dtype": []}}, b"\0" * 4),
    "negative": file_of({"a": ENTRY | {"shape": [-2]}}, b"\0" * 4),
    "boolean": file_of({"a": ENTRY | {"shape": [True]}}, b"\0" * 2),
    "large": file_of({"a": ENTRY | {"shape": [1 << 61, 1 << 61]}}, b"\0" * 4),
    "gap": file_of({"a": ENTRY | {"data_offsets": [4, 8]}}, b"\0" * 8),
    "overlap": file_of({"a": ENTRY, "b": ENTRY}, b"\0" * 4),
    "three offsets": file_of({"a": ENTRY | {"data_offsets": [0, 4, 4]}}, b"\0" * 4),
    "metadata": file_of({"__metadata__": {"a": 1}}),
    "metadata list": file_of({"__metadata__": ["a"]}),
    "surrogate": file_of(b'{"__metadata__": {"a": "\\ud800"}}'),
    "surrogate key": file_of(b'{"\\ud800": %s}' % json.dumps(ENTRY).encode(), b"\0" * 4),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_give_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(LoraError) as caught:
        read_lora(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_an_alpha_is_one_number() -> None:
    assert tensor(np.array([4.0]), "BF16").item() == 4
    assert Tensor.of(np.array(2**64 - 3, "<u8"), FORMATS["I64"]).item() == -3
    with pytest.raises(LoraError, match="shape"):
        tensor(np.zeros(2)).item()
    with pytest.raises(LoraError, match="BOOL"):
        Tensor.of(np.array(1, "u1"), FORMATS["BOOL"]).item()
