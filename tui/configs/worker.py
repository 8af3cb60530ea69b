"""Checks of long configs in a process of their own, so that no check holds up a keystroke.

YAML is parsed in Python: in a thread, a check of 5,000 lines takes half of every moment from the screen for
seconds. The child is started with the first long text and ends with the editor. It answers one request after
the other; a request that a newer one has overtaken is never sent. A child that dies (a kill, too little
memory) is replaced and asked again; where none can be started, or one dies again and again, threads do it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, ParamSpec, TypeVar

from tui.configs import text as config_text

_SIZE = struct.Struct(">Q")
_DEATHS = 3  # children that may die before threads take over; an answer starts the count anew
_ASKED = ("look", "reckon", "form_of")  # functions of tui.configs.text

P = ParamSpec("P")
T = TypeVar("T")


class Overtaken(Exception):  # noqa: N818 - nothing went wrong
    """A newer request of the same function came before this one's turn."""


class CheckProcess:
    """Runs functions of :mod:`tui.configs.text` in a child process, or in a thread if that is not possible.

    Args:
        command: What starts the child; another one in tests.
    """

    COMMAND = (sys.executable, "-P", "-m", "tui.configs.worker")

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self._command = command
        self._child: asyncio.subprocess.Process | None = None
        self._usable = True
        self._deaths = 0
        self._turn = asyncio.Lock()
        self._newest: dict[str, int] = {}
        self._exchanges: set[asyncio.Task[Any]] = set()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._child.pid if self._child is not None else None

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result.

        Raises:
            Overtaken: If the same function was asked for again before this request's turn.
        """
        name = function.__name__
        number = self._newest[name] = self._newest.get(name, 0) + 1
        # A task of its own: whoever waits may be cancelled, but an answer that is under way must be read.
        task = asyncio.create_task(self._in_turn(name, number, args, kwargs))
        self._exchanges.add(task)
        task.add_done_callback(self._ended)
        result: T = await asyncio.shield(task)
        return result

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._exchanges.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone

    async def _in_turn(self, name: str, number: int, args: Any, kwargs: Any) -> Any:
        async with self._turn:
            if number != self._newest[name]:
                raise Overtaken
            while self._usable:
                try:
                    failed, result = await self._exchange((name, args, kwargs))
                except (OSError, EOFError, pickle.PickleError):  # it cannot be started, or it died
                    self._deaths += 1
                    self._usable = self._usable and self._child is not None and self._deaths < _DEATHS
                    await self._end()
                else:
                    self._deaths = 0
                    if failed:
                        raise result
                    return result
            return await asyncio.to_thread(getattr(config_text, name), *args, **kwargs)

    async def _exchange(self, request: Any) -> tuple[bool, Any]:
        if self._child is None:
            self._child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # the screen is the app's
            )
        sink, source = self._child.stdin, self._child.stdout
        assert sink is not None
        assert source is not None
        data = pickle.dumps(request)
        sink.write(_SIZE.pack(len(data)) + data)
        await sink.drain()
        (size,) = _SIZE.unpack(await source.readexactly(_SIZE.size))
        answer: tuple[bool, Any] = pickle.loads(await source.readexactly(size))
        return answer

    async def close(self) -> None:
        """End the child; what is under way comes to nothing."""
        self._usable = False
        for task in tuple(self._exchanges):
            task.cancel()
        await self._end()

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        # With its pipes, or they outlive the event loop; a request half written breaks with the child.
        assert child.stdin is not None
        child.stdin.close()
        with contextlib.suppress(OSError):
            await child.stdin.wait_closed()
        await child.wait()


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests, ``(function, args, kwargs)`` with the size before it, until there are no more.

    An answer is ``(whether it failed, result or exception)``.
    """
    while head := source.read(_SIZE.size):
        name, args, kwargs = pickle.loads(source.read(*_SIZE.unpack(head)))
        if name not in _ASKED:
            raise ValueError(f"{name} is not among {', '.join(_ASKED)}")
        try:
            answer = (False, getattr(config_text, name)(*args, **kwargs))
            data = pickle.dumps(answer)
        except Exception as error:  # whoever asked says so
            data = pickle.dumps((True, RuntimeError(f"{type(error).__name__}: {error}")))
        sink.write(_SIZE.pack(len(data)) + data)
        sink.flush()


def main() -> None:
    """Serve on the standard streams; what anybody prints goes nowhere."""
    if hasattr(os, "nice"):
        os.nice(5)  # the app's own process comes first
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr
    serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
