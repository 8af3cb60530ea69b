"""The face of the loopback Modal for tests: `LoopbackCloud`, a server in a thread of this process.

Everything may be called from the test's thread while the server runs. Times are seconds.

    with LoopbackCloud() as cloud:
        subprocess.run([...], env=cloud.environ())
        cloud.preempt(cloud.tasks()[0].task_id)
"""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modal_proto import api_pb2

from .server import Server
from .state import Knobs, World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import TracebackType

    from .state import App, FunctionCall, LogEntry, Rpc, Task

T = TypeVar("T")
TOKEN_ID = "ak-loopback0000000000000000"
TOKEN_SECRET = "as-loopback-secret-000000000"
LIMIT = 60.0
SOURCES = {
    "": 0,
    "stdout": api_pb2.FILE_DESCRIPTOR_STDOUT,
    "stderr": api_pb2.FILE_DESCRIPTOR_STDERR,
    "system": api_pb2.FILE_DESCRIPTOR_INFO,
}


def _is_neutral(name: str) -> bool:
    """No Modal of the user's, and no proxy on the way to 127.0.0.1."""
    return not name.startswith("MODAL_") and name.upper() not in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class LoopbackCloud:
    """A Modal of its own on 127.0.0.1. `knobs` are fields of `state.Knobs`, to be set now or later."""

    def __init__(
        self,
        *,
        port: int = 0,
        state: Path | None = None,
        token: tuple[str, str] = (TOKEN_ID, TOKEN_SECRET),
        **knobs: Any,
    ) -> None:
        self.token_id, self.token_secret = token
        self._port = port
        self._keep = state is not None
        self.root = state or Path(tempfile.mkdtemp(prefix="loopback-modal-"))
        self.root.mkdir(parents=True, exist_ok=True)
        self.world = World(root=self.root, knobs=Knobs(**knobs), tokens={self.token_id: self.token_secret})
        self._server = Server(self.world, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="loopback-modal", daemon=True)
        self._stopped = False

    # Life

    def __enter__(self) -> LoopbackCloud:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._thread.start()
        try:
            self._call(self._server.start())
        except BaseException:  # a port that is taken, a service that broke: leave no thread behind
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise

    def stop(self) -> None:
        """End all containers and the server, and remove its files unless `state` was given."""
        if self._stopped:
            return
        self._stopped = True
        self._call(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        if not self._keep:
            shutil.rmtree(self.root, ignore_errors=True)

    # How to reach it

    @property
    def url(self) -> str:
        return self.world.url

    @property
    def workspace(self) -> str:
        return self.world.workspace

    def environ(self, **extra: str) -> dict[str, str]:
        """The environment for a process that shall use this Modal; no profile of the user's counts."""
        environment = {name: value for name, value in os.environ.items() if _is_neutral(name)}
        return environment | self.settings() | extra

    def settings(self) -> dict[str, str]:
        """Only the variables that point at this Modal."""
        return {
            "MODAL_SERVER_URL": self.url,
            "MODAL_TOKEN_ID": self.token_id,
            "MODAL_TOKEN_SECRET": self.token_secret,
            "MODAL_CONFIG_PATH": str(self.root / "modal.toml"),
        }

    # What is there

    @property
    def unimplemented(self) -> list[str]:
        """Calls that no service knows, in the order in which they came."""
        return list(self.world.unimplemented)

    @property
    def failures(self) -> list[str]:
        """Tracebacks of defects of the loopback itself."""
        return list(self.world.failures)

    @property
    def knobs(self) -> Knobs:
        """Plain values that the server reads when it needs them: assign at will."""
        return self.world.knobs

    def apps(self) -> list[App]:
        return list(self.world.apps.values())

    def app(self, app_id: str = "") -> App:
        """The app with this id, or the newest."""
        return self.world.apps[app_id] if app_id else self.apps()[-1]

    def tasks(self, *, running: bool = False) -> list[Task]:
        return [task for task in list(self.world.tasks.values()) if task.running or not running]

    def calls(self) -> list[FunctionCall]:
        return list(self.world.calls.values())

    def logs(self, app_id: str = "") -> list[LogEntry]:
        return [entry for entry in list(self.app(app_id).logs) if entry.data]

    def text(self, app_id: str = "", source: str = "") -> str:
        """What an app's containers printed, in the order of arrival.

        `source`: "stdout", "stderr" or "system" (the cloud's own lines). Without it they come mixed, as they
        arrived, and one may stand in the middle of another's line.
        """
        wanted = SOURCES[source]
        return "".join(e.data for e in self.logs(app_id) if not wanted or e.file_descriptor == wanted)

    def outcome(self, call_id: str, seconds: float = 60.0) -> Any:
        """What a spawned call returned, or its `GenericResult` if it did not succeed. Waits; asks no SDK."""
        [input_id] = self.world.calls[call_id].input_ids
        entry = self.world.inputs[input_id]
        result = self.wait(lambda: entry.result, seconds, f"the end of {call_id}")
        if result.status != api_pb2.GenericResult.GENERIC_STATUS_SUCCESS:
            return result
        return pickle.loads(result.data)

    def rpcs(self, name: str | None = None) -> list[Rpc]:
        return [rpc for rpc in list(self.world.journal) if name in (None, rpc.name)]

    def volume(self, name: str, environment: str = "") -> Any:
        """A view of the committed state: `.files()`, `.read(path)`, `.write(path, data)` (see volumes.py)."""
        return self.world.services["volumes"].view(name, environment)

    def wait(self, condition: Callable[[], T], seconds: float = 60.0, what: str = "the condition") -> T:
        """Wait until `condition()` is truthy and return it. Raises TimeoutError with the logs so far."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > deadline:
                seen = "\n".join(f"--- {app.app_id}\n{self.text(app.app_id)}" for app in self.apps())
                raise TimeoutError(f"{what} did not come true within {seconds} s\n{seen}")
            time.sleep(0.01)
        return value

    def wait_for_text(self, text: str, seconds: float = 60.0, app_id: str = "") -> None:
        """Wait until the newest app (or the one named) has printed this on stdout."""
        condition = f"{text!r} in the logs"
        self.wait(lambda: bool(self.apps()) and text in self.text(app_id, "stdout"), seconds, condition)

    # What can go wrong

    def preempt(self, which: str = "") -> None:
        """SIGINT to the containers of an app, or to one (by id), SIGKILL after `knobs.preemption_grace`."""
        for task in self._chosen(which):
            self._do(
                self.world.services["execution"].interrupt, task, "preempted", self.knobs.preemption_grace
            )

    def kill(self, which: str = "") -> None:
        """The machine is gone: SIGKILL, nothing uncommitted survives, the input starts again elsewhere."""
        for task in self._chosen(which):
            self._do(self.world.services["execution"].kill, task, "lost")

    def oom(self, which: str = "") -> None:
        """Killed for its memory: exit code 137, a retry if the function has one left."""
        for task in self._chosen(which):
            self._do(self.world.services["execution"].kill, task, "oom")

    def stop_app(self, app_id: str = "") -> None:
        """Somebody stops the app on the web page. Returns at once."""
        self._do(self.world.services["apps"].end, self.app(app_id), 3)

    def drop_connections(self, seconds: float | None = None, *, refuse: bool = True) -> None:
        """Cut all connections of clients, for some time or until `restore_connections`.

        New ones are refused (ConnectionRefusedError, which ends the SDK's log streams at once) or, without
        `refuse`, accepted and reset (StreamTerminatedError, which it retries for some seconds). Containers
        notice nothing: they go on, log and commit.
        """
        self._call(self._server.cut(refuse=refuse))
        self._restore_after(seconds)

    def hang_connections(self, seconds: float | None = None) -> None:
        """The other kind of outage: connections stay open, and nothing comes through."""
        self._call(self._server.hang())
        self._restore_after(seconds)

    def restore_connections(self) -> None:
        self._call(self._server.restore())

    def restart(self, seconds: float = 0.2) -> None:
        """The server goes away and comes back at the same address with its state; containers survive."""
        self.drop_connections()
        time.sleep(seconds)
        self.restore_connections()

    def latency(self, seconds: float) -> None:
        self.knobs.latency = seconds

    def queue_delay(self, seconds: float) -> None:
        self.knobs.queue_delay = seconds

    def no_gpu(self, names: Iterable[str]) -> None:
        """These GPU types get no capacity from now on; `[]` gives it back."""
        self.knobs.no_gpu = {name.upper() for name in names}

    def build_delay(self, seconds: float) -> None:
        self.knobs.build_delay = seconds

    def build_failure(self, error: str) -> None:
        self.knobs.build_failure = error

    def expire_outputs(self) -> None:
        """What seven days do: results of finished calls are gone."""

        def expire() -> None:
            for call in self.world.calls.values():
                call.expired = len(call.outputs) == len(call.input_ids)
            self.world.changed.notify()

        self._do(expire)

    def expire_logs(self) -> None:
        """What the plan's retention does: lines so far are gone."""

        def expire() -> None:
            for app in self.world.apps.values():
                app.logs.clear()

        self._do(expire)

    def revoke_token(self) -> None:
        self._do(self.world.tokens.pop, self.token_id, None)

    # The server's thread

    def _restore_after(self, seconds: float | None) -> None:
        if seconds is not None:
            self._do(self._loop.call_later, seconds, lambda: self._loop.create_task(self._server.restore()))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _call(self, job: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(LIMIT)

    def _do(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a plain function on the server's loop."""

        async def run() -> T:
            return function(*arguments)

        return self._call(run())

    def _chosen(self, which: str) -> list[Task]:
        """Running containers: all, those of an app, or one."""
        chosen = [t for t in self.tasks(running=True) if which in ("", t.app_id, t.task_id)]
        if not chosen:
            raise LookupError(f"no container of {which or 'any app'} is running")
        return chosen
