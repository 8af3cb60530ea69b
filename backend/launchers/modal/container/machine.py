"""What kind of machine the container is: its GPU and its memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_DRIVER = Path("/proc/driver/nvidia/gpus")
_MEMINFO = Path("/proc/meminfo")


def gpu_name() -> str:
    """The name of the first GPU, such as ``NVIDIA H100 80GB HBM3``; empty without one."""
    try:
        for card in sorted(_DRIVER.iterdir()):
            for line in (card / "information").read_text(encoding="utf-8").splitlines():
                if line.startswith("Model:"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return _ask_the_driver()


def _ask_the_driver() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = answer.stdout.decode("utf-8", "replace").splitlines()
    return lines[0].strip() if lines else ""


def memory_limit() -> int | None:
    """Bytes of main memory that the container may use; None if that cannot be found out."""
    limits = [limit for path in _CGROUPS if (limit := _number_in(path)) is not None]
    try:
        first = _MEMINFO.read_text(encoding="utf-8").split("\n", 1)[0]  # MemTotal:  24683940 kB
        limits.append(int(first.split()[1]) * 1024)
    except (OSError, ValueError, IndexError):
        pass
    return min(limits, default=None)


def _number_in(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # "max": no limit
        return None
