from __future__ import annotations

import errno
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from backend.trainer import cache as cache_module
from backend.trainer.cache import RamBudget, TensorCache, content_key
from backend.trainer.errors import TrainingError
from backend.trainer.tensorfile import join_tensors, read_tensors, split_tensors, write_tensors

PLENTY, NONE = 1 << 30, 0


def entry() -> dict[str, torch.Tensor]:
    return {"latent": torch.arange(12.0).reshape(3, 4)}


def test_keys_tell_parts_apart() -> None:
    assert content_key("a", "bc") != content_key("ab", "c")
    assert content_key("a") == content_key("a")
    assert len(content_key("a")) == 64


@pytest.mark.parametrize("budget", [PLENTY, NONE])
def test_what_is_stored_is_found_by_another_process(tmp_path: Path, budget: int) -> None:
    key = content_key("x")
    writer = TensorCache(tmp_path, RamBudget(budget))
    assert writer.find(key) is None
    writer.store(key, entry())
    for reader in (writer, TensorCache(tmp_path, RamBudget(budget))):
        assert torch.equal(reader[key]["latent"], entry()["latent"])
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".safetensors"]


@pytest.mark.parametrize("damage", [b"", b"garbage", "cut"])
def test_a_damaged_entry_counts_as_missing_and_can_be_stored_again(
    tmp_path: Path, damage: bytes | str
) -> None:
    key = content_key("x")
    TensorCache(tmp_path, RamBudget(NONE)).store(key, entry())
    path = TensorCache(tmp_path, RamBudget(NONE)).path(key)
    path.write_bytes(path.read_bytes()[:-5] if isinstance(damage, str) else damage)
    reader = TensorCache(tmp_path, RamBudget(PLENTY))
    assert reader.find(key) is None
    reader.store(key, entry())
    assert torch.equal(TensorCache(tmp_path, RamBudget(NONE))[key]["latent"], entry()["latent"])


def test_memory_is_used_within_its_budget(tmp_path: Path) -> None:
    ram = RamBudget(50)
    cache = TensorCache(tmp_path, ram)
    cache.store(content_key("a"), entry())  # 48 bytes
    cache.store(content_key("b"), entry())
    assert ram.left == 2
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    assert torch.equal(cache[content_key("a")]["latent"], entry()["latent"])
    with pytest.raises(TrainingError, match="deleted"):
        cache[content_key("b")]


def test_a_full_disk_only_matters_to_what_does_not_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module, "atomic_file", full)
    roomy = TensorCache(tmp_path, RamBudget(PLENTY))
    roomy.store("ab", entry())
    assert torch.equal(roomy["ab"]["latent"], entry()["latent"])
    with pytest.raises(TrainingError, match="disk is full") as caught:
        TensorCache(tmp_path, RamBudget(NONE)).store("ab", entry())
    assert caught.value.code == "disk_full"


# -- the file format ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8])
def test_files_are_safetensors(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {
        "b": torch.arange(6).reshape(2, 3).to(dtype).t(),
        "a": torch.tensor(7).to(dtype),
        "c": torch.zeros(0),
    }
    buffer = io.BytesIO()
    size = write_tensors(buffer, tensors, {"who": "wir, äöü"})
    path = tmp_path / "x.safetensors"
    path.write_bytes(buffer.getvalue())
    assert size == path.stat().st_size
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    again, metadata = read_tensors(path)
    assert metadata == {"who": "wir, äöü"}
    assert again["b"].dtype is dtype


def test_the_bytes_are_those_of_the_library() -> None:
    tensors = {"b": torch.randn(3, 4), "a": torch.randn(5)}
    buffer = io.BytesIO()
    write_tensors(buffer, tensors, {"format": "pt"})
    assert buffer.getvalue() == save(tensors, {"format": "pt"})


def test_nested_values_survive() -> None:
    value = {
        "numbers": [1, 2.5, None, True, "x"],
        "deep": {3: {"exp_avg": torch.ones(2), "step": torch.tensor(4.0)}, 4: {}},
        "nan": float("inf"),
        "tenth": 0.1 + 0.2,
    }
    text, tensors = split_tensors(value)
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    back = join_tensors(text, tensors)
    assert torch.equal(back["deep"][3]["exp_avg"], torch.ones(2))
    assert back["deep"][4] == {}
    assert back["numbers"] == value["numbers"]
    assert back["nan"] == float("inf")
    assert back["tenth"] == 0.1 + 0.2
    assert np.isclose(float(back["deep"][3]["step"]), 4.0)
