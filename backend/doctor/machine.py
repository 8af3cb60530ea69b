"""Checks of this machine: Python and packages, terminal, whether it can train."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import shutil
import sys
from importlib import metadata
from typing import Any

from backend.doctor.check import Check, Status
from backend.doctor.situation import Facts, is_hub_id

_PACKAGE = "fluxlora-tui"
# import names of what training needs, where they differ from nothing one could guess
_TRAINING = ("torch", "diffusers", "transformers", "peft", "accelerate", "huggingface_hub", "sentencepiece")
_INSTALL = f"pip install '{_PACKAGE}[train]'"
_GIB = 1 << 30
# Bytes of memory with which FLUX.1's 12 billion weights can be trained: in bf16, and quantised.
_WHOLE, _QUANTISED = 38 * _GIB, 20 * _GIB
_PROBE_SECONDS = 9.0

_PROBE = """
import json, torch
d = {"torch": torch.__version__, "device": "cpu", "name": "", "memory": 0}
if torch.cuda.is_available():
    d.update(device="cuda", name=torch.cuda.get_device_name(), memory=torch.cuda.mem_get_info()[1])
elif torch.backends.mps.is_available():
    d.update(device="mps", name="Apple silicon", memory=torch.mps.recommended_max_memory())
print(json.dumps(d))
"""

_probed: dict[str, Any] | None = None


async def python(facts: Facts) -> Check:
    """The Python version and the app's own packages."""
    title = "Python and packages"
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check(
            "python", title, "warning", f"Python {version} is not tested", "use Python 3.11, 3.12 or 3.13"
        )
    wrong = await asyncio.to_thread(_wrong_packages)
    if wrong:
        return Check(
            "python", title, "failed", f"Python {version}; " + "; ".join(wrong), f"pip install -U {_PACKAGE}"
        )
    return Check(
        "python", title, "ok", f"Python {version}, {_PACKAGE} {_version(_PACKAGE)}, modal {_version('modal')}"
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _wrong_packages() -> list[str]:
    """What the base install wants and is not there, or in another version."""
    try:
        wanted = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []  # run from a folder: nobody says what is wanted
    wrong = []
    for line in wanted:
        match = re.match(r"([A-Za-z0-9_.-]+)\s*([^;\[]*)", line)
        if match is None or ";" in line:  # extras
            continue
        name, bounds = match[1], match[2]
        there = _version(name)
        if there is None:
            wrong.append(f"{name} is missing")
        elif not _within(there, bounds):
            wrong.append(f"{name} {there} is installed, {bounds.strip()} is needed")
    return wrong


def _within(version: str, bounds: str) -> bool:
    have = _numbers(version)
    for operator, bound in re.findall(r"(<=|>=|==|<|>)\s*([0-9][0-9A-Za-z.]*)", bounds):
        limit = _numbers(bound)
        width = max(len(have), len(limit))
        a, b = (part + (0,) * (width - len(part)) for part in (have, limit))
        if not {"<=": a <= b, ">=": a >= b, "==": a == b, "<": a < b, ">": a > b}[operator]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:4])


async def terminal(facts: Facts) -> Check:
    """What can be known of the terminal without drawing on it."""
    title, env = "Terminal", facts.env
    if not sys.stdout.isatty():
        return Check("terminal", title, "unknown", "standard output is no terminal", needed=False)
    columns, lines = shutil.get_terminal_size()
    colours = (
        "24-bit colour"
        if env.get("COLORTERM", "").lower() in ("truecolor", "24bit")
        else "256 colours or fewer"
    )
    if "NO_COLOR" in env:
        colours = "no colour (NO_COLOR)"
    detail = f"{columns}x{lines}, {colours}, {env.get('TERM') or 'TERM is not set'}"
    if env.get("TERM") == "dumb":
        return Check(
            "terminal", title, "failed", detail, "use a terminal that can move its cursor", needed=False
        )
    if columns < 80 or lines < 24:
        return Check("terminal", title, "warning", detail, "make the window at least 80x24", needed=False)
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding != "utf8":
        return Check(
            "terminal", title, "warning", f"{detail}, {encoding}", "set LANG to a UTF-8 locale", needed=False
        )
    return Check("terminal", title, "ok", detail, needed=False)


async def local_training(facts: Facts) -> Check:
    """Whether this machine can train: torch, a device, its memory."""
    needed = facts.situation.backend == "local"

    def answer(status: Status, detail: str, fix: str | None = None) -> Check:
        return Check("local-training", "Training on this machine", status, detail, fix, needed)

    missing = [name for name in _TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        return answer("missing", f"not installed: {', '.join(missing)}", _INSTALL)
    probed = await _probe()
    if probed is None:
        return answer(
            "unknown",
            f"torch did not load within {_PROBE_SECONDS:g} s",
            "look again; the next time is quicker",
        )
    if "error" in probed:
        return answer("failed", f"torch does not load: {probed['error']}", f"reinstall it: {_INSTALL}")
    torch = f"torch {probed['torch']}"
    if probed["device"] == "cpu":
        return answer(
            "warning",
            f"{torch}, no GPU",
            "the demo trains here; train FLUX.1 on Modal or on a machine with a GPU",
        )
    memory = int(probed["memory"])
    detail = f"{torch}, {probed['name']}, {memory / _GIB:.0f} GiB"
    smallest = _WHOLE if not await _is_quantised(facts) else _QUANTISED
    if await _trains_flux(facts) and memory < smallest:
        fix = (
            "set model.quantize: true, or train on Modal"
            if memory >= _QUANTISED
            else "set model.low_vram: true and quantize: true with qtype nf4, or train on Modal"
        )
        return answer("warning", f"{detail}: little for FLUX.1", fix)
    return answer("ok", detail)


async def _is_quantised(facts: Facts) -> bool:
    if facts.situation.config is None:
        return True
    loaded, _ = await facts.loaded()
    return loaded is None or loaded.config.process.model.quantize


async def _trains_flux(facts: Facts) -> bool:
    """Whether it is the real model; one in a folder may be of any size."""
    models = await facts.models()
    return not models or is_hub_id(models[0])


async def _probe() -> dict[str, Any] | None:
    """What torch says about this machine, asked in a process of its own; None if that takes too long."""
    global _probed
    if _probed is not None:
        return _probed
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PROBE,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), _PROBE_SECONDS)
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = out.decode("utf-8", "replace").strip().splitlines()
    try:
        _probed = json.loads(lines[-1])
    except (ValueError, IndexError):
        said = err.decode("utf-8", "replace").strip().splitlines()
        return {"error": said[-1][:200] if said else f"it ended with code {process.returncode}"}
    return _probed
