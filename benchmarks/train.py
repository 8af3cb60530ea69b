"""How fast the trainer trains: on this machine's CPU against a plain loop, on a GPU at FLUX.1's true size.

On a CPU small models of FLUX's build train, side by side with a loop in the manner of the public examples
(``benchmarks/plain_loop.py``), each in a process of its own, in turns: under five minutes on two cores. On a
GPU the true FLUX.1 trains with random weights: nothing is downloaded.

    python -m benchmarks.train                       # CPU: ratios
    python -m benchmarks.train --gpu --json OUT      # GPU: 3 sizes in bf16 and fp8, compiled
    python -m benchmarks.train --meta                # shapes alone, on the meta device
    python -m benchmarks.train --gpu --compute bf16 --checkpointing off,auto,on --compile on,off --plain
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from backend.bench import MIX, STEPS, Variant, projection, run, variants
from backend.files import write_json
from backend.trainer.bench.waits import told


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="the true FLUX.1 on the GPU")
    parser.add_argument("--meta", action="store_true", help="check all shapes on the meta device")
    parser.add_argument("--sizes", default="512,768,1024", help="pixels; WxH is understood")
    parser.add_argument("--compute", default="bf16,fp8", help="bf16, fp8, auto")
    parser.add_argument("--checkpointing", default="off", help="off, auto, on")
    parser.add_argument("--compile", default="on", help="on, off")
    parser.add_argument("--graphs", default="on", help="on, off: CUDA graphs of the fast engine")
    parser.add_argument("--lora-in-k", default="on", help="on, off, auto: where the LoRA's products are")
    parser.add_argument("--inductor", default="", help="options of torch.compile, such as max_autotune=1")
    parser.add_argument("--attention", default="auto", help="backends, such as auto,native,_flash_3")
    parser.add_argument("--engine", default="fast", help="fast, modules")
    parser.add_argument("--steps", type=int, default=20, help="timed steps a size on a GPU (default 20)")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="the plain loop too (on a CPU always)")
    parser.add_argument("--plain-sizes", help="sizes of the plain loop (default: all)")
    parser.add_argument("--loop", type=int, default=0, metavar="N", help="time a whole run of N steps too")
    parser.add_argument("--profile", default="", metavar="FILE",
                        help="write tables of kernels, and tell where the host waits")  # fmt: skip
    parser.add_argument("--json", metavar="OUT", help="write all results to this file as they come")
    parser.add_argument("--timeout", type=float, default=0, help="seconds after which a variant is ended")
    parser.add_argument("--gpu-name", default="H100", help="whose price is used (default H100)")
    parser.add_argument("--seconds", type=float, default=25, help="of taking turns, a model on a CPU")
    parser.add_argument("--threads", type=int, default=0, help="torch's threads on a CPU")
    parser.add_argument("--models", default="32:2:4:64:8,64:4:8:64:16,256:2:4:128:128,512:2:4:256:256",
                        help="on a CPU: width:double:single:pixels:text tokens, ...")  # fmt: skip
    return parser.parse_args(arguments)


def size(text: str) -> tuple[int, int]:
    """``512`` or ``1024x768`` as width and height."""
    width, _, height = text.strip().lower().partition("x")
    return int(width), int(height or width)


def words(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def price_of(gpu: str) -> float | None:
    """Dollars an hour on Modal."""
    from backend.prices import load_prices

    return load_prices().prices.of_gpu(gpu)


class Results:
    """What was measured, printed as it comes and kept in a file that is whole at any time."""

    def __init__(self, file: str | None) -> None:
        self.all: list[dict[str, Any]] = []
        self._file = Path(file) if file else None

    def add(self, result: dict[str, Any]) -> None:
        """Print and keep one."""
        self.all.append(result)
        print(line_of(result), flush=True)
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, self.all)


HEADING = (
    f"{'variant':<56}{'px':>6}{'s/step':>9}{'p10':>8}{'p90':>8}{'host':>8}{'tok/s':>9}"
    f"{'TFLOP/s':>9}{'MFU':>7}{'GiB':>7}{'first':>8}{'warm':>8}"
)


def name_of(result: dict[str, Any]) -> str:
    """A variant's name in the table."""
    compiled = "compiled" if result.get("compiled") else "eager"
    return (
        f"{result.get('engine')} {result.get('compute')} {compiled} ckpt={result.get('checkpointing')} "
        f"{result.get('attention')}{' graphs' if result.get('graphs') else ''}"
        f"{' in_k=' + result['lora_in_k'] if result.get('lora_in_k') not in (None, 'on') else ''}"
    )


def line_of(result: dict[str, Any]) -> str:
    """A row of the table."""
    begin = f"{name_of(result)[:55]:<56}{result.get('resolution') or '':>6}"
    if result.get("error"):
        return f"{begin}  FAILED: {result['error']}"
    host = result.get("host_seconds")
    mfu = result.get("mfu")
    row = (
        f"{begin}{result['seconds_per_step']:9.4f}{result['p10']:8.4f}{result['p90']:8.4f}"
        f"{'' if host is None else f'{host:8.4f}':>8}"
        f"{result['tokens_per_second']:9.0f}{result['tflops']:9.1f}"
        f"{'' if mfu is None else f'{mfu:.1%}':>7}{result['peak_bytes'] / 2**30:7.1f}"
        f"{result['first_step_seconds']:8.1f}{result['warmup_seconds']:8.1f}"
    )
    if result.get("waits") is not None:
        row = f"{row}\n    {told(result['waits'])}"
    profile = result.get("profile")
    if not profile:
        return row
    kinds = {k: v for k, v in profile.items() if k not in ("top", "waits")}
    return f"{row}\n    ms a step: {kinds}\n    {told(profile['waits'])}"


def summary(results: list[dict[str, Any]], price: float | None) -> list[str]:
    """What the tutorial's job comes to with each variant that has all of the mix's sizes."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        by_name.setdefault(name_of(result), []).append(result)
    lines = []
    for name, group in by_name.items():
        job = projection(group, price)
        if job is not None:
            lines.append(
                f"{name}: mean of {'/'.join(map(str, MIX))} {job['seconds_per_step']:.4f} s; {STEPS} steps "
                f"{job['minutes']:.1f} min, ${job['dollars']:.2f} (training alone)"
            )
    return lines


def measure_gpu(options: argparse.Namespace) -> int:
    """Measure all variants on the GPU; 1 if one failed."""
    results = Results(options.json)
    base = Variant(
        sizes=tuple(map(size, words(options.sizes))),
        engine=options.engine,
        rank=options.rank,
        batch=options.batch,
        steps=options.steps,
        profile=options.profile,
        inductor={key: bool(int(on)) for key, _, on in (w.partition("=") for w in words(options.inductor))},
    )
    todo = variants(
        base,
        compute=words(options.compute),
        checkpointing=words(options.checkpointing),
        compiled=[word == "on" for word in words(options.compile)],
        attention=words(options.attention),
        graphs=[word == "on" for word in words(options.graphs)],
        lora_in_k=words(options.lora_in_k),
    )
    if options.plain:
        from dataclasses import replace

        sizes = tuple(map(size, words(options.plain_sizes or options.sizes)))
        todo.append(replace(base, engine="plain", compiled=False, sizes=sizes))
    print(HEADING)
    for variant in todo:
        run(variant, results.add, lambda line: print("  |", line, flush=True), options.timeout or None)
    if options.loop:
        from benchmarks.whole_run import measure_run

        results.add(measure_run(options.loop))
    for facts in results.all:
        if facts.get("peaks"):
            print("peaks:", {key: f"{value / 1e12:.1f}e12" for key, value in facts["peaks"].items()})
            break
    print("\n".join(summary(results.all, price_of(options.gpu_name))))
    return int(any(result.get("error") for result in results.all))


def main() -> int:
    """Measure what the options ask for."""
    options = parse()
    if options.meta:
        from backend.trainer.bench.dry import check_shapes

        for said in check_shapes([size(word) for word in words(options.sizes)]):
            print(said)
        return 0
    if options.gpu:
        return measure_gpu(options)
    from benchmarks.side_by_side import compare

    found = compare(options)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
