from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

BASE = """\
job: extension
config:
  name: fox
  process:
    - type: sd_trainer
      trigger_word: zqfox
      network: {{type: lora, linear: 16, linear_alpha: 16}}
      save: {{dtype: float16, save_every: 250}}
      datasets:
        - folder_path: "{dataset}"
          caption_ext: txt
          resolution: [512, 768, 1024]
      train:
        batch_size: 1
        steps: 1000
        lr: 1e-4
        dtype: bf16
      model:
        name_or_path: black-forest-labs/FLUX.1-dev
        is_flux: true
      sample:
        sample_every: 250
        prompts:
          - "[trigger] in the snow"
meta:
  name: "[name]"
  version: '1.0'
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    (folder / "a.txt").write_text("a [trigger]", encoding="utf-8")
    return folder


@pytest.fixture
def write(tmp_path: Path, dataset: Path) -> Callable[..., Path]:
    """Write the base config with some text replaced; returns its path."""

    def make(*changes: tuple[str, str], text: str | None = None, name: str = "c.yaml") -> Path:
        body = BASE.format(dataset=dataset) if text is None else text
        for old, new in changes:
            assert old in body
            body = body.replace(old, new, 1)
        path = tmp_path / name
        path.write_bytes(body.encode("utf-8"))
        return path

    return make
