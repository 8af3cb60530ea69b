"""The real SDK and CLI in processes of their own (the SDK's client is a singleton), for a loopback Modal."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from .cloud import LoopbackCloud

LIMIT = 90.0  # for one process; CI is slow

LAUNCH = """
import json
import sys

import modal
import worker

options = json.loads(sys.argv[1])
arguments = options.pop("arguments", [])
detach = options.pop("detach", True)
if "retries" in options:
    options["retries"] = modal.Retries(**options["retries"])
options["volumes"] = {
    place: modal.Volume.from_name(name, create_if_missing=True, version=2)
    for place, name in options.get("volumes", {}).items()
}
options["secrets"] = [modal.Secret.from_dict(values) for values in options.get("secrets", [])]
app = modal.App("loopback-test", tags={"run": "r1"}, include_source=False)
image = modal.Image.debian_slim(python_version="3.12").add_local_python_source("worker")
function = app.function(image=image, **options)(worker.train)
with app.run(detach=detach):
    call = function.spawn(*arguments)
    print(json.dumps([app.app_id, call.object_id, function.object_id]), flush=True)
    if "--stay" in sys.argv:
        sys.stdin.read()
"""

RESULT = """
import json
import sys

import modal

try:
    outcome = {"value": modal.FunctionCall.from_id(sys.argv[1]).get(timeout=float(sys.argv[2]))}
except BaseException as error:
    outcome = {"error": f"{type(error).__module__}.{type(error).__name__}", "message": str(error)}
print(json.dumps(outcome))
"""


@dataclass
class Launched:
    app_id: str
    call_id: str
    function_id: str


class Clients:
    """`folder` is where the worker module lies and where the processes run."""

    def __init__(self, cloud: LoopbackCloud, folder: Path) -> None:
        self.cloud = cloud
        self.folder = folder

    def worker(self, source: str) -> None:
        """The module `worker` that `launch` ships; its function `train` is what runs."""
        (self.folder / "worker.py").write_text(dedent(source), encoding="utf-8")

    def start(self, code: str, *arguments: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", dedent(code), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.cloud.environ(PYTHONPATH=str(self.folder), **extra),
            cwd=self.folder,
        )

    def run(self, code: str, *arguments: str, **extra: str) -> str:
        """Standard output of a Python script that must succeed."""
        process = self.start(code, *arguments, **extra)
        out, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, f"exit {process.returncode}\n{out}\n{err}\n{self.cloud.failures}"
        return out

    def modal(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The `modal` command."""
        return subprocess.run(
            [sys.executable, "-m", "modal", *arguments],
            capture_output=True,
            text=True,
            env=self.cloud.environ(COLUMNS="200", PYTHONPATH=str(self.folder)),
            cwd=self.folder,
            timeout=LIMIT,
            check=False,
        )

    def launch(self, *arguments: Any, **options: Any) -> Launched:
        """`app.run(detach=True)` and one `spawn` of `worker.train`; options as for `app.function`."""
        settings = {"arguments": arguments, "timeout": 120} | options
        return Launched(*json.loads(self.run(LAUNCH, json.dumps(settings))))

    def result(self, call_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """{"value": …} or {"error": "module.Class", "message": …} of `FunctionCall.get` in a new process."""
        return json.loads(self.run(RESULT, call_id, str(seconds)))
