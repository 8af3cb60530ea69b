"""Short jobs that need Modal's SDK, done by a process of their own, so that the app never loads it.

``python -m backend.launchers.modal <job>`` reads its arguments as JSON from standard input and answers on
standard output with one JSON object a line: ``{"progress": [done, total]}`` or ``{"news": ...}``
any number of times, then ``{"answer": ...}`` or ``{"error": "one sentence"}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backend.launchers.base import LaunchError
from backend.launchers.modal.remote import DeniedError, MissingError, OfflineError, RefusedError, RemoteError

_LINE_LIMIT = 64 << 20  # a workspace with many runs answers in one long line

_ERRORS: dict[str, type[LaunchError]] = {
    cls.__name__: cls for cls in (OfflineError, DeniedError, MissingError, RefusedError, RemoteError)
}


async def ask(
    job: str,
    arguments: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    news: Callable[[Any], None] | None = None,
) -> Any:
    """Have a job done; its answer.

    Args:
        job: Its name; see :mod:`backend.launchers.modal.jobs`.
        arguments: Plain data.
        progress: Told ``(done, total)`` where the job counts something.
        environment: Variables of the process, with the credentials; those of this process if None.
        news: Told what the job tells on its way, plain data.

    Raises:
        LaunchError: It failed, with one sentence; of the class that fits.
        asyncio.CancelledError: The job's process was ended.
    """
    inherited = os.environ if environment is None else environment
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "backend.launchers.modal",
        job,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=Path.cwd(),
        env={**inherited, "PYTHONUTF8": "1"},
        limit=_LINE_LIMIT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(dict(arguments)).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await process.stdin.drain()
        process.stdin.close()
        async for line in process.stdout:
            message = _message(line)
            if "progress" in message and progress is not None:
                done, total = message["progress"]
                progress(int(done), int(total))
            elif "news" in message and news is not None:
                news(message["news"])
            elif "error" in message:
                kind = _ERRORS.get(str(message.get("kind")), LaunchError)
                raise kind(str(message["error"]))
            elif "answer" in message:
                return message["answer"]
        raise LaunchError(f"the {job} job ended without an answer (exit code {await process.wait()})")
    finally:
        process.stdin.close()  # a cancelled job's pipe would outlive the event loop
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await asyncio.shield(process.wait())


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}  # something that a library printed
    return message if isinstance(message, dict) else {}
