"""The estimate's words."""

from __future__ import annotations

from pathlib import Path

from backend.estimate import estimate_text
from tui.widgets.estimate_pane import estimate_lines

CONFIG = """\
job: extension
config:
  name: fox
  process:
    - type: sd_trainer
      datasets:
        - folder_path: {folder}
      train: {{steps: 100}}
      model: {{name_or_path: black-forest-labs/FLUX.1-dev}}
"""


def test_pictures_that_are_not_here_leave_questions_open(tmp_path: Path) -> None:
    file = tmp_path / "fox.yaml"
    file.write_text(CONFIG.format(folder="./nowhere"), encoding="utf-8")
    text = estimate_lines(estimate_text(file, file.read_text(encoding="utf-8")), (), 40).plain
    assert "Pictures ?   epochs ?" in text
    assert "Steps per picture ?" in text
    assert "H100" in text
