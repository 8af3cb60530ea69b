"""What only a real Modal account can tell: seven small experiments on CPU containers.

Nothing here has been run against Modal itself: the project's machines have no way there. It runs against the
stand-in of ``tests/loopback``, whose answers are the stand-in's own. With a token
(``fluxlora-tui login modal``), from a checkout::

    python benchmarks/modal_live.py            # all of them: about five minutes, a few cents
    python benchmarks/modal_live.py 1 6        # some

The launcher is meant to be right under either answer; what is found out tells which of its precautions
could go, and belongs into ``ARCHITECTURE.md``. Each experiment prints what was asked, what was seen, and what
that would mean. Everything that it makes is called ``fluxlora-live-…`` and removed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import modal

NAME = f"fluxlora-live-{secrets.token_hex(3)}"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def talk(lines: int, pause: float) -> str:
    """Print numbered lines: with print, without a flush."""
    import os
    import time

    for number in range(lines):
        print(f"line {number} unbuffered={os.environ.get('PYTHONUNBUFFERED')}")
        time.sleep(pause)
    return "said all"


def write_big(megabytes: int, pause: float) -> list[float]:
    """Write a file without committing; the time of its end, then wait."""
    import os
    import time

    with open("/mnt/live/big.bin", "wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    done = time.time()
    time.sleep(pause)
    return [done, time.time()]


def save_slowly(seconds: float) -> str:
    """When cancelled, save for some seconds; the file tells how far that came."""
    import time
    from pathlib import Path

    print("working", flush=True)
    try:
        time.sleep(600)
    except BaseException as error:
        began = time.time()
        while time.time() - began < seconds:
            Path("/mnt/live/saved.txt").write_text(f"{type(error).__name__} {time.time() - began:.1f}")
            time.sleep(0.5)
        raise
    return "never cancelled"


def spawn_and_leave(function_id: str) -> str:
    """Start another function of the app, and end at once."""
    import modal

    return str(modal.Function.from_id(function_id).spawn(5, 1.0).object_id)


def app_with(
    *functions: Callable[..., Any], volume: modal.Volume | None = None, unbuffered: bool = False
) -> Any:
    """An app of plain functions on the smallest machine, and its functions."""
    app = modal.App(NAME, tags={"tool": "fluxlora-live"}, include_source=False)
    image = modal.Image.debian_slim(python_version=PYTHON)
    if unbuffered:
        image = image.env({"PYTHONUNBUFFERED": "1"})
    made = [
        app.function(
            image=image,
            serialized=True,
            name=function.__name__,
            cpu=0.25,
            memory=512,
            timeout=700,
            volumes={"/mnt/live": volume} if volume is not None else {},
        )(function)
        for function in functions
    ]
    return app, made


async def launched(app: Any, function: Any, *arguments: Any) -> Any:
    """Detached, with its one call; the call."""
    async with app.run.aio(detach=True):
        return await function.spawn.aio(*arguments)


def say(text: str) -> None:
    """One line of a finding."""
    print(f"   {text}", flush=True)


async def history_of_a_stream() -> None:
    """1. Does a stream without a cursor begin with history? Do entries end where lines end?"""
    app, (function,) = app_with(talk)
    await launched(app, function, 40, 0.5)
    await asyncio.sleep(15)
    attached = time.time()
    first, whole = [], 0
    async for entry in app.logs.stream.aio(timeout=8):
        first.append((entry.timestamp.timestamp(), entry.message))
        whole += entry.message.endswith("\n")
        if len(first) >= 10:
            break
    old = sum(at < attached - 2 for at, _ in first)
    say(f"{old} of the first {len(first)} entries were older than the stream; {whole} ended with a newline")
    say("the tailer asks for the history itself and drops what comes twice: right either way")
    await app.stop.aio()


async def end_of_a_detached_app() -> None:
    """2. Does a detached app stop by itself after its last call?"""
    app, (function,) = app_with(talk)
    call = await launched(app, function, 1, 0.0)
    await call.get.aio(timeout=300)
    began = time.time()
    while time.time() - began < 60:
        info = await (await modal.App.lookup.aio(app.app_id)).info.aio()
        if info.lifecycle.stopped_at is not None:
            say(f"it stopped by itself after {time.time() - began:.0f} s")
            return
        await asyncio.sleep(3)
    say("it was still there after 60 s: the courier's own stop is needed")
    await app.stop.aio()


async def billing_permissions() -> None:
    """3. Do rates and the cost report answer on this plan?"""
    from datetime import UTC, datetime, timedelta

    workspace = modal.Workspace.from_context()
    await workspace.hydrate.aio()
    for name, ask in (
        ("rates", lambda: workspace.billing.rates.aio()),
        ("report", lambda: workspace.billing.report.aio(start=datetime.now(UTC) - timedelta(days=2))),
    ):
        try:
            answer = await ask()
            say(f"{name}: {len(answer)} entries")
        except Exception as error:
            say(f"{name}: {type(error).__name__}: {error}")
    say("without them the app shows estimates from its dated table")


async def background_commits(volume: Any) -> None:
    """4. When does a file of 512 MiB that nobody commits become visible?"""
    app, (function,) = app_with(write_big, volume=volume)
    call = await launched(app, function, 512, 60.0)
    seen = None
    began = time.time()
    while seen is None and time.time() - began < 240:
        try:
            sizes = {entry.path: entry.size for entry in await volume.listdir.aio("/")}
        except Exception:
            sizes = {}
        if sizes.get("big.bin") == 512 << 20:
            seen = time.time()
        await asyncio.sleep(1)
    written, _ = await call.get.aio(timeout=300)
    say(
        "never seen whole while it ran"
        if seen is None
        else f"visible {seen - written:.1f} s after its last byte"
    )
    await app.stop.aio()


async def buffering() -> None:
    """5. Is standard output buffered without PYTHONUNBUFFERED?"""
    for unbuffered in (False, True):
        app, (function,) = app_with(talk, unbuffered=unbuffered)
        call = await launched(app, function, 10, 1.0)
        lags = []
        async for entry in app.logs.stream.aio(timeout=40):
            if entry.message.startswith("line"):
                lags.append((time.time(), entry.timestamp.timestamp()))
            if len(lags) >= 5:
                break
        spread = lags[-1][1] - lags[0][1] if lags else 0.0
        say(f"PYTHONUNBUFFERED={unbuffered}: 5 lines over {spread:.1f} s (4 s means unbuffered)")
        await call.cancel.aio()
        await app.stop.aio()


async def patience_of_cancel(volume: Any) -> None:
    """6. How long may a cancelled input go on saving?"""
    app, (function,) = app_with(save_slowly, volume=volume)
    call = await launched(app, function, 90.0)
    async for entry in app.logs.stream.aio(timeout=120):
        if "working" in entry.message:
            break
    await call.cancel.aio()
    await asyncio.sleep(110)
    try:
        text = b"".join([block async for block in volume.read_file.aio("saved.txt")]).decode()
        say(f"it was told by {text.split()[0]} and saved for {text.split()[1]} s of the 90 it wanted")
    except FileNotFoundError:
        say("nothing was saved after the cancellation")
    await app.stop.aio()


async def calls_of_containers() -> None:
    """7. Does a call that a container made go on after that container's own call has ended?"""
    app, (talker, spawner) = app_with(talk, spawn_and_leave)
    async with app.run.aio(detach=True):
        call = await spawner.spawn.aio(talker.object_id)
    second = await call.get.aio(timeout=300)
    try:
        answer = await modal.FunctionCall.from_id(second).get.aio(timeout=120)
        say(f"yes: it returned {answer!r}")
    except Exception as error:
        say(f"no: {type(error).__name__}: {error}; with sample.where async the trainer must wait for them")
    await app.stop.aio()


async def main() -> int:
    """Run the experiments that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", nargs="*", type=int, help="which; all without any")
    wanted = parser.parse_args().numbers or list(range(1, 8))
    volume = modal.Volume.from_name(NAME, create_if_missing=True, version=2)
    experiments: dict[int, Callable[[], Awaitable[None]]] = {
        1: history_of_a_stream,
        2: end_of_a_detached_app,
        3: billing_permissions,
        4: lambda: background_commits(volume),
        5: buffering,
        6: lambda: patience_of_cancel(volume),
        7: calls_of_containers,
    }
    questions = (
        history_of_a_stream,
        end_of_a_detached_app,
        billing_permissions,
        background_commits,
        buffering,
        patience_of_cancel,
        calls_of_containers,
    )
    failed = 0
    try:
        for number in wanted:
            print(questions[number - 1].__doc__, flush=True)
            began = time.time()
            try:
                await experiments[number]()
            except Exception as error:
                failed += 1
                say(f"did not work: {type(error).__name__}: {error}")
            say(f"({time.time() - began:.0f} s)")
    finally:
        try:
            await modal.Volume.objects.delete.aio(NAME, allow_missing=True)
        except Exception as error:
            print(f"the volume {NAME} could not be deleted: {error}", file=sys.stderr)
    print("log retention is not asked here: run `modal app logs` on an app of last week")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
