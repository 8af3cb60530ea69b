"""What a warm launch on Modal costs of our own time, against the stand-in of ``tests/loopback``.

The stand-in answers at once, so nearly all that is measured is ours and the SDK's. With a delay added to each
call the same launch shows how many calls stand one behind the other. Prints JSON lines::

    python benchmarks/modal_launch.py [--launches 5] [--pictures 20]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def write_project(folder: Path, pictures: int) -> Path:
    """Pictures of 300 KiB, a model folder without weights to speak of, and a config; returns the config."""
    import yaml
    from PIL import Image

    from backend.trainer.tiny import build_tiny_flux

    data = folder / "pictures"
    data.mkdir()
    for number in range(pictures):
        Image.frombytes("RGB", (320, 320), os.urandom(320 * 320 * 3)).save(data / f"{number}.png")
        (data / f"{number}.txt").write_text(f"picture {number}\n", encoding="utf-8")
    process = {
        "type": "sd_trainer",
        "datasets": [{"folder_path": str(data), "resolution": [64]}],
        "train": {"steps": 10, "disable_sampling": True},
        "model": {"name_or_path": str(build_tiny_flux(folder / "model"))},
    }
    config = folder / "bench.yaml"
    config.write_text(
        yaml.safe_dump({"job": "extension", "config": {"name": "bench", "process": [process]}}),
        encoding="utf-8",
    )
    return config


async def launch_once(config: Path, home: Path, number: int) -> dict[str, float]:
    """Launch; seconds from the beginning to the call, and of its parts."""
    from backend.events import PhaseEvent
    from backend.launchers.modal.gateway import Gateway
    from backend.launchers.modal.journal import write_journal
    from backend.launchers.modal.launch import Launch, plan_journal
    from backend.launchers.modal.voice import Voice
    from backend.runs.folder import RunFolder, RunRecord
    from config.load import load_config

    folder = RunFolder(home / f"run{number}")
    folder.create()
    loaded = load_config(config)
    folder.config.write_text(loaded.dump(), encoding="utf-8")
    record = RunRecord(id=f"bench{number:03d}", name="bench", backend="modal", steps=10, path=folder.path)
    marks: dict[str, float] = {}

    def heard(event: object) -> None:
        if isinstance(event, PhaseEvent):
            marks.setdefault(event.phase, time.perf_counter())

    launch = Launch(
        record,
        Gateway(),
        Voice(heard, lambda line: None),
        lambda journal: write_journal(folder.path, journal),
        lambda: True,
    )
    began = time.perf_counter()
    await launch.run(plan_journal(loaded))
    ended = time.perf_counter()
    times = [*marks.values(), ended]
    parts = {name: after - at for (name, at), after in zip(marks.items(), times[1:], strict=True)}
    return {"total": ended - began, **parts}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=20)
    options = parser.parse_args()
    from tests.loopback.cloud import LoopbackCloud

    with tempfile.TemporaryDirectory() as place, LoopbackCloud(queue_delay=3600) as cloud:
        os.environ |= {**cloud.settings(), "FLUXLORA_HOME": place}
        config = write_project(Path(place), options.pictures)
        import modal  # noqa: F401 - a warm launch has it already

        def measure(numbers: range) -> list[dict[str, float]]:
            return [asyncio.run(launch_once(config, Path(place), number)) for number in numbers]

        cold = measure(range(1))[0]
        print(json.dumps({"cold": {name: round(value, 3) for name, value in cold.items()}}))
        before = len(cloud.rpcs())
        warm = measure(range(1, 1 + options.launches))
        calls: Counter[str] = Counter(rpc.name for rpc in cloud.rpcs()[before:])
        inputs = calls["VolumeListFiles2"] / options.launches
        cloud.latency(0.1)
        slow = measure(range(100, 102))
        total = statistics.median(run["total"] for run in warm)
        result: dict[str, Any] = {
            "warm_median_s": round(total, 3),
            "warm_parts_s": {
                name: round(statistics.median(run.get(name, 0.0) for run in warm), 3) for name in warm[0]
            },
            "calls_a_launch": round(sum(calls.values()) / options.launches, 1),
            "calls_for_unchanged_inputs": inputs,
            "calls_one_behind_the_other": round(
                (statistics.median(run["total"] for run in slow) - total) / 0.1, 1
            ),
            "target_s": 0.3,
        }
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
