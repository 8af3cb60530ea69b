"""What the first paint may not import: each of these costs every start of the app."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FORBIDDEN = (
    "torch", "diffusers", "transformers", "peft", "safetensors", "modal", "pydantic", "numpy", "PIL",
    "yaml", "watchfiles", "sqlite3", "psutil", "tomlkit", "tomllib", "textual_image", "markdown_it",
    "httpx", "dotenv",
)  # fmt: skip

# ``start_loading`` is what the app does after its first paint; before it does, this looks at what is
# on the screen and what has been imported. Importing in threads has not begun then.
PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tui.app import FluxLoraApp

class Probe(FluxLoraApp):
    def start_loading(self):
        modules = sorted(sys.modules)
        strips = self.screen._compositor.render_strips()
        text = "\\n".join("".join(segment.text for segment in strip) for strip in strips)
        self.exit()
        self.report = {{"modules": modules, "text": text}}

app = Probe(root=Path({home!r}))
app.run(headless=True, size=(80, 24))
print(json.dumps(app.report))
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict:
    home = tmp_path_factory.mktemp("home")
    (home / "cache").mkdir()
    row = {
        "id": "abcd2345", "name": "remembered", "backend": "local", "status": "finished", "reason": None,
        "step": 9, "steps": 9, "loss": 0.1, "created": 1.7e9, "updated": 1.7e9, "path": "/x",
    }  # fmt: skip
    (home / "cache" / "run-table.json").write_text(json.dumps([row]), encoding="utf-8")
    program = PROGRAM.format(root=str(Path(__file__).parents[2]), home=str(home))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False, cwd=home
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_first_paint_is_the_real_screen(start: dict) -> None:
    assert "remembered" in start["text"]
    assert "? Help" in start["text"]


@pytest.mark.parametrize("module", FORBIDDEN)
def test_the_first_paint_does_not_import(start: dict, module: str) -> None:
    assert module not in start["modules"]


def test_only_the_first_screen_is_imported(start: dict) -> None:
    screens = {name for name in start["modules"] if name.startswith("tui.screens.")}
    assert screens == {"tui.screens.base", "tui.screens.jobs"}
    assert not any(
        name.startswith(("tui.charts.", "tui.logs.", "backend.launchers")) for name in start["modules"]
    )


def test_the_number_of_modules_stays_small(start: dict) -> None:
    assert len(start["modules"]) <= 430
