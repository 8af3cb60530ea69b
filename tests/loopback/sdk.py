"""Scenarios with the real SDK's asynchronous API and a client of its own, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from .cloud import LoopbackCloud

_FRAME = """\
import asyncio, io, json, os, sys
import modal
from modal import exception

async def scenario(client, arguments):
{body}

async def main():
    token = os.environ["MODAL_TOKEN_ID"], os.environ["MODAL_TOKEN_SECRET"]
    client = await modal.Client.from_credentials.aio(*token)
    print("\\nRESULT " + json.dumps(await scenario(client, json.loads(sys.argv[1]))))

if __name__ == "__main__":
    asyncio.run(main())
"""


def run_sdk(
    cloud: LoopbackCloud, body: str, *, seconds: float = 60, cwd: Path | None = None, **arguments: Any
) -> Any:
    """Run the lines of an async function; returns what it returns (as JSON).

    They have `client`, `arguments` (a dict), `modal`, `exception` (modal's), asyncio, io, json, os and sys.

    Raises:
        AssertionError: the process failed; the message has all that it printed.
    """
    script = _FRAME.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(arguments)],
        env=cloud.environ(),
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
    )
    marker, result = done.stdout.rpartition("\nRESULT ")[1:]
    assert marker, f"the SDK's process failed:\n{done.stdout}\n{done.stderr}"
    return json.loads(result)
