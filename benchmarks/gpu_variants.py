"""On a GPU: the tiny FLUX trained by the real session in every way that a config can ask for.

    python -m benchmarks.gpu_variants [--steps 12] [--only WORD] [--at-once 4]

Each variant is a run of its own process. It passes if it ends well, its losses are numbers, and they follow
those of a plain run as closely as its number format lets them. Times here say nothing: the model is tiny.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

Changes = Mapping[str, Mapping[str, Any]]

PLAIN = "plain"
VARIANTS: dict[str, Changes] = {
    PLAIN: {},
    "bf16, compiled": {"model": {"compile": True}},
    "checkpointing": {"train": {"gradient_checkpointing": True}},
    "accumulation": {"train": {"gradient_accumulation_steps": 2}},
    "two GPUs": {"train": {"gpus": 2}},
    "two GPUs, compiled": {"train": {"gpus": 2}, "model": {"compile": True}},
    "batch of two": {"train": {"batch_size": 2}},
    "float8 weights": {"model": {"quantize": True, "qtype": "float8"}},
    "int8 weights": {"model": {"quantize": True, "qtype": "int8"}},
    "nf4 weights": {"model": {"quantize": True, "qtype": "nf4"}},
    "offload of two blocks": {"model": {"offload": 2}, "train": {"gradient_checkpointing": True}},
    "offload of nf4": {"model": {"quantize": True, "qtype": "nf4", "offload": 2}},
    "offload auto": {"model": {"offload": "auto"}},
    "adamw8bit": {"train": {"optimizer": "adamw8bit"}},
    "automagic": {"train": {"optimizer": "automagic", "lr": 1e-4}},
    "prodigy": {"train": {"optimizer": "prodigy", "lr": 1.0}},
    "adafactor": {"train": {"optimizer": "adafactor"}},
    "average of weights": {"train": {"ema_config": {"use_ema": True, "ema_decay": 0.9}}},
    "samples": {
        "train": {"disable_sampling": False},
        "sample": {
            "sample_every": 6, "prompts": ["a red circle"], "sample_steps": 3, "width": 128, "height": 128,
        },
    },
    "text not cached": {"train": {"cache_text_embeddings": False}, "datasets": {"caption_dropout_rate": 0.3}},
    "stopped and resumed": {},
    "latents not cached": {"datasets": {"cache_latents_to_disk": False, "cache_latents": False}},
}  # fmt: skip
FOLLOW = (
    0.25  # of a loss, relative: variants that quantise or average draw the same batches, not the same bits
)
ELSEWHERE = ("accumulation", "batch of two", "text not cached", "adafactor", "prodigy", "automagic")
LIKE = {"two GPUs": "accumulation", "two GPUs, compiled": "accumulation"}  # the same batches an update


def train(
    folder: Path, model: Path, pictures: Path, changes: Changes, steps: int, *, stop: bool = False
) -> dict[str, Any]:
    """Train one variant here, ``stop`` if it is to be stopped half way; its losses, or an ``error``."""
    os.environ["FLUXLORA_HOME"] = str(folder / "home")
    from backend.events import StepEvent, decode
    from backend.runs.folder import RunFolder
    from backend.trainer.attempt import run_attempt
    from backend.trainer.report import Reporter

    dataset = {"folder_path": str(pictures), "resolution": [64, 128], **changes.get("datasets", {})}
    process: dict[str, Any] = {
        "type": "sd_trainer",
        "trigger_word": "zork",
        "training_seed": 7,
        "network": {"type": "lora", "linear": 8},
        "save": {"save_every": 0},
        "datasets": [dataset],
        "train": {
            "steps": steps, "batch_size": 1, "lr": 1e-3, "dtype": "bf16", "disable_sampling": True,
            "gradient_checkpointing": False, **changes.get("train", {}),
        },
        "model": {
            "name_or_path": str(model), "is_flux": True, "quantize": False, "compile": False,
            **changes.get("model", {}),
        },
        "sample": {"sampler": "flowmatch", "prompts": [], **changes.get("sample", {})},
    }  # fmt: skip
    run = RunFolder(folder / "run")
    run.create()
    document = {"job": "extension", "config": {"name": "variant", "process": [process]}}
    run.config.write_text(json.dumps(document), encoding="utf-8")
    if stop:
        usual = Reporter.step

        def step(reporter: Reporter, event: StepEvent) -> None:
            usual(reporter, event)
            if event.step == steps // 2:
                run.stop_file.touch()

        with mock.patch.object(Reporter, "step", step):
            if code := run_attempt(run.path):
                return {"error": f"exit code {code} when stopped"}
        run.stop_file.unlink(missing_ok=True)
    if code := run_attempt(run.path):
        return {"error": f"exit code {code}"}
    events = [decode(line) for line in run.events.read_bytes().splitlines()]
    return {"losses": [event.loss for event in events if isinstance(event, StepEvent)]}


def measure(name: str, place: Path, steps: int) -> dict[str, Any]:
    """Train one variant in a process of its own."""
    folder = place / name.replace(" ", "-").replace(",", "")
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.gpu_variants", "--steps", str(steps), "--one", name]
    done = subprocess.run(
        [*command, "--place", str(place), "--out", str(folder / "result.json"), "--folder", str(folder)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    result = folder / "result.json"
    if not result.exists() or "error" in (found := json.loads(result.read_text(encoding="utf-8"))):
        return {"error": (done.stdout[-1500:] + done.stderr[-1500:]).strip()}
    return dict(found)


def verdict(name: str, found: Mapping[str, Any], like: Mapping[str, Any], steps: int) -> str:
    """What is wrong with a variant, whose losses should be ``like`` another's; nothing if it is right."""
    if "error" in found:
        return str(found["error"])
    losses = found["losses"]
    if len(losses) != steps or not all(math.isfinite(loss) for loss in losses):
        return f"{len(losses)} losses: {losses}"
    if name in ELSEWHERE or "error" in like:
        return ""
    apart = max(abs(a - b) / abs(b) for a, b in zip(losses, like["losses"], strict=True))
    return f"a loss is {apart:.0%} from {LIKE.get(name, PLAIN)}'s" if apart > FOLLOW else ""


def main() -> int:
    """Train all variants; 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only", default="", help="a word of the variants' names")
    parser.add_argument("--at-once", type=int, default=4)
    for hidden in ("--one", "--place", "--out", "--folder"):
        parser.add_argument(hidden, default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        place = Path(options.place)
        changes = VARIANTS[options.one]
        found = train(
            Path(options.folder), place / "model", place / "pictures", changes, options.steps,
            stop=options.one == "stopped and resumed",
        )  # fmt: skip
        Path(options.out).write_text(json.dumps(found), encoding="utf-8")
        return 0
    import torch
    from PIL import Image, ImageDraw

    from backend.trainer.tiny import build_tiny_flux

    names = [name for name in VARIANTS if options.only in name or name in (PLAIN, *LIKE.values())]
    if torch.cuda.is_available() and torch.cuda.device_count() < 2:
        names = [name for name in names if not name.startswith("two GPUs")]
    with tempfile.TemporaryDirectory(prefix="fluxlora-variants-") as root:
        place = Path(root)
        (place / "pictures").mkdir()
        for index, size in enumerate([(128, 128), (160, 96), (96, 160), (200, 200)]):
            image = Image.new("RGB", size, (40 * index, 200 - 30 * index, 90))
            ImageDraw.Draw(image).ellipse((10, 10, 70, 70), fill=(250, 20 * index, 10))
            image.save(place / "pictures" / f"{index}.png")
            (place / "pictures" / f"{index}.txt").write_text(f"a red circle, {index}", encoding="utf-8")
        build_tiny_flux(place / "model")
        wrong = 0
        with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
            pending = {name: pool.submit(measure, name, place, options.steps) for name in names}
            by_future = {future: name for name, future in pending.items()}
            for future in concurrent.futures.as_completed(by_future):
                name, found = by_future[future], future.result()
                like = pending[LIKE.get(name, PLAIN)].result()
                problem = verdict(name, found, like, options.steps)
                wrong += bool(problem)
                losses = found.get("losses") or ["-"]
                line = f"{name}: first loss {losses[0]}, last {losses[-1]}"
                print(f"{'WRONG' if problem else 'right'}  {line}", flush=True)
                if problem:
                    print("   " + problem.replace("\n", "\n   "), flush=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
