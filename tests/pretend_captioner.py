"""A captioning process with a sentence instead of a model."""

from __future__ import annotations

import sys
from pathlib import Path

from backend.captioning.job import CaptionJob

# A process that captions as the real one does, with a sentence instead of a model; the model itself is
# tested in tests/trainer/test_captioner.py.
CAPTIONER = """
import sys, time
from pathlib import Path
from backend.captioning.job import CaptionJob
from backend.trainer.captioner import work
class Model:
    def caption(self, images, prompts):
        while {wait!r} and not Path({wait!r}).exists() and not job.stop_file.exists():
            time.sleep(0.02)
        return [f"a {{image.width}} wide picture, {{prompt}}" for image, prompt in zip(images, prompts)]
work._Work._load = lambda self: Model()
sys.modules["backend.trainer.captioner.model"] = type(sys)("model")
sys.modules["backend.trainer.captioner.model"].release_memory = lambda: None
job = CaptionJob(Path(sys.argv[1]))
sys.exit(work.run_job(job, job.request))
"""


def pretend_captioner(monkeypatch, wait: str = "") -> None:
    """Have captioning jobs run it; it waits for the file ``wait``, or to be asked to stop."""
    command = (sys.executable, "-c", CAPTIONER.format(wait=wait))
    monkeypatch.setattr(CaptionJob, "CAPTIONER", command)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
