"""A whole local run, timed: the real session and loop on cached latents, the transformer's weights random.

Of some updates in its first half a profiler tells where the host waits for the device. Everything is the
trainer's own but three things: the text encoders are small (their outputs have FLUX.1's shapes), the pictures
are noise, and the transformer is made on the device instead of being read.

    python -m benchmarks.whole_run STEPS [--small]
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

PICTURES = 20
_TRACED = 8  # updates that are profiled
_RESULT = "RESULT "


def measure_run(steps: int, *, small: bool = False) -> dict[str, Any]:
    """Train ``steps`` steps in a process of its own; what was measured, or an ``error``."""
    command = [sys.executable, "-m", "benchmarks.whole_run", str(steps), *(["--small"] if small else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(_RESULT):
            return dict(json.loads(line[len(_RESULT) :]))
    print(done.stdout[-3000:], done.stderr[-3000:])
    why = (done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or ["nothing"])[-1]
    return {"engine": "whole run", "resolution": None, "error": why}


def main() -> int:
    """Train and print one result."""
    steps, small = int(sys.argv[1]), "--small" in sys.argv
    with tempfile.TemporaryDirectory(prefix="fluxlora-run-", ignore_cleanup_errors=True) as name:
        print(_RESULT + json.dumps(_measure(Path(name), steps, small=small)), flush=True)
    return 0


def _measure(folder: Path, steps: int, *, small: bool) -> dict[str, Any]:
    os.environ["FLUXLORA_HOME"] = str(folder / "home")
    import torch

    from backend.events import StepEvent, decode
    from backend.runs.folder import RunFolder
    from backend.trainer.attempt import run_attempt
    from backend.trainer.bench import shapes
    from backend.trainer.loading import BaseModel
    from config.load import load_config

    config = shapes.small(64, 1, 2) if small else shapes.FLUX_DEV
    if small:
        config = config | {"pooled_projection_dim": 64, "joint_attention_dim": 128}
    sizes = [64, 96, 128] if small else [512, 768, 1024]
    _build_model(folder / "model", config)
    _draw_pictures(folder / "pictures", max(sizes))
    source = folder / "run.yaml"
    source.write_text(json.dumps(_config(folder, sizes, steps)), encoding="utf-8")
    run = RunFolder(folder / "run")
    run.create()
    run.config.write_text(load_config(source, []).dump(), encoding="utf-8")

    def transformer(base: BaseModel, *unused: Any) -> Any:
        return shapes.random_transformer(config, base.device, base.dtype)

    began = time.time()
    trace = _Trace(max(2, steps // 4))
    with (
        trace.installed(),
        mock.patch.object(BaseModel, "transformer", transformer),
        run.log.open("w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
    ):
        code = run_attempt(run.path)
    wall = time.time() - began
    log_text = run.log.read_text(encoding="utf-8")
    if code:
        return {"engine": "whole run", "resolution": None, "error": log_text.strip()[-600:]}
    events = [decode(line) for line in run.events.read_bytes().splitlines()]
    at = [event.t for event in events if isinstance(event, StepEvent)]
    gaps = [b - a for a, b in itertools.pairwise(at)]
    half = gaps[len(gaps) // 2 :]
    found: dict[str, Any] = {
        "engine": "whole run",
        "resolution": "mix",
        "compiled": True,
        "compute": "bf16",
        "checkpointing": "config",
        "attention": "config",
        "batch": 1,
        "steps": steps,
        "seconds_per_step": sum(half) / max(1, len(half)),  # the mean: what a run lasts
        "p10": statistics.quantiles(half, n=10)[0],
        "p90": statistics.quantiles(half, n=10)[-1],
        "tokens_per_second": 0.0,
        "tflops": 0.0,
        "first_step_seconds": at[0] - began,
        "warmup_seconds": at[0] - began,
        "wall_seconds": wall,
        "training_seconds": at[-1] - at[0],
        "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "waits": trace.waits,
        "cuda_calls": trace.calls,
        "log": log_text[-3000:],
    }
    return found


class _Trace:
    """Profiles some updates of the loop.

    Args:
        first: The number of the first.

    Attributes:
        waits: Where the host waited, times an update; None if the run was too short.
        calls: Calls of CUDA in the trace, times an update: without any it would have seen no wait either.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self.waits: dict[str, float] | None = None
        self.calls = 0.0

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Profile while this is open."""
        from torch.profiler import profile, record_function

        from backend.trainer.bench.waits import STEP, waits_of
        from backend.trainer.loop import TrainingLoop

        usual, profiler, count = TrainingLoop._update, profile(acc_events=True), itertools.count(1)

        def update(loop: TrainingLoop, accumulation: int) -> None:
            number = next(count)
            if number == self._first:
                profiler.__enter__()
            inside = self._first <= number < self._first + _TRACED
            with record_function(STEP) if inside else contextlib.nullcontext():
                usual(loop, accumulation)
            if number == self._first + _TRACED - 1:
                profiler.__exit__(None, None, None)
                events = list(profiler.events() or ())
                self.waits = waits_of(events, _TRACED)
                self.calls = sum(event.name.startswith(("cuda", "cuLaunch")) for event in events) / _TRACED

        with mock.patch.object(TrainingLoop, "_update", update):
            yield


def _config(folder: Path, sizes: list[int], steps: int) -> dict[str, Any]:
    process = {
        "type": "sd_trainer",
        "training_folder": str(folder / "out"),
        "trigger_word": "sks",
        "network": {"type": "lora", "linear": 16, "linear_alpha": 16},
        "save": {"save_every": 0},
        "datasets": [{"folder_path": str(folder / "pictures"), "caption_ext": "txt", "resolution": sizes}],
        "train": {
            "batch_size": 1,
            "steps": steps,
            "gradient_checkpointing": "auto",
            "optimizer": "adamw",
            "lr": 1e-4,
            "dtype": "bf16",
            "disable_sampling": True,
            "skip_first_sample": True,
            "ema_config": {"use_ema": True, "ema_decay": 0.99},
        },
        "model": {"name_or_path": str(folder / "model"), "is_flux": True},
        "sample": {"sample_every": 0, "prompts": []},
    }
    return {"job": "extension", "config": {"name": "whole_run", "process": [process]}}


def _build_model(folder: Path, config: dict[str, Any]) -> None:
    """A diffusers folder with small encoders whose outputs are as wide as ``config`` says."""
    import torch

    from backend.files import write_json
    from backend.trainer.tiny import pipeline, text
    from backend.trainer.tiny.vae import build_vae

    text.T5_WIDTH, text.CLIP_WIDTH = config["joint_attention_dim"], config["pooled_projection_dim"]
    text.T5_TOKENS, text._LAYERS = 512, 1
    torch.manual_seed(0)
    captions = [emblem.caption for emblem in pipeline.EMBLEMS]
    tokenizer, clip = text.build_clip(captions)
    tokenizer_2, t5 = text.build_t5(captions)
    vae = build_vae([pipeline._half_size(pipeline.draw(emblem)) for emblem in pipeline.EMBLEMS])
    folder.mkdir(parents=True)
    parts = {"tokenizer": tokenizer, "tokenizer_2": tokenizer_2, "vae": vae}
    parts |= {"text_encoder": clip, "text_encoder_2": t5.to(torch.bfloat16)}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    from diffusers import FlowMatchEulerDiscreteScheduler

    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).save_pretrained(
        folder / "scheduler"
    )
    (folder / "transformer").mkdir()
    write_json(folder / "transformer" / "config.json", {"_class_name": "FluxTransformer2DModel", **config})
    write_json(folder / "model_index.json", pipeline._INDEX)


def _draw_pictures(folder: Path, side: int) -> None:
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(PICTURES):
        coarse = generator.integers(0, 256, (side // 16, side // 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side)).save(folder / f"{index:02}.png")
        (folder / f"{index:02}.txt").write_text(f"sks, a picture of number {index}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
