"""The world of the loopback Modal: apps, functions, calls, inputs, tasks, logs, knobs and ids.

Everything here lives on the server's event loop: change it only there (`LoopbackCloud` hands calls over).
After a change that somebody may be waiting for, call `world.changed.notify()` (or the notifier of the app
whose logs grew). Volumes, images, mounts, secrets and accounts keep their own state in their services (see
`server.py`).
"""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from modal_proto import api_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from google.protobuf.message import Message

_ID_ALPHABET = string.ascii_letters + string.digits
DEFAULT_ENVIRONMENT = "main"


def new_id(prefix: str) -> str:
    """A new id as Modal makes them: `ap-` and 22 letters or digits; also fu fc in ta vo im st mo …"""
    return f"{prefix}-" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(22))


def environment_name(name: str) -> str:
    """The environment that a request means: a client sends "", a container "main", both are the same."""
    return name or DEFAULT_ENVIRONMENT


class Notifier:
    """Wakes all who wait for a change. Use from the server's event loop only."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109
        """Wait for the next change; False when `timeout` seconds passed without one."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            done, _ = await asyncio.wait([waiter], timeout=timeout)
            return bool(done)
        finally:
            self._waiters.discard(waiter)

    async def wait_until(
        self,
        condition: Callable[[], bool],
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> bool:
        """Wait until `condition()` holds; False when it did not within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            await self.wait(left)
        return True


@dataclass
class LogEntry:
    """One piece of output as the pipe delivered it, or one line, as the knob `split_logs` says."""

    sequence: int
    timestamp_ns: int
    data: str  # "" for a change of a task's state
    file_descriptor: int  # api_pb2.FILE_DESCRIPTOR_STDOUT, _STDERR or _INFO (the system's own lines)
    task_state: int = 0  # api_pb2.TaskState
    task_id: str = ""
    function_id: str = ""
    function_call_id: str = ""
    input_id: str = ""

    @property
    def entry_id(self) -> str:
        return f"{self.timestamp_ns // 1_000_000}-{self.sequence}"


@dataclass
class App:
    app_id: str
    description: str
    environment: str
    state: int  # api_pb2.AppState
    detached: bool
    name: str = ""  # of a deployed app
    tags: dict[str, str] = field(default_factory=dict)
    function_ids: dict[str, str] = field(default_factory=dict)
    class_ids: dict[str, str] = field(default_factory=dict)
    created_at: float = field(default_factory=time.time)
    stopped_at: float = 0.0
    deployed_at: float = 0.0
    version: int = 0
    client_connected: bool = True  # between AppCreate and AppClientDisconnect
    last_heartbeat: float = field(default_factory=time.time)
    stop_source: int = 0
    disconnect_reason: int = 0
    logs: list[LogEntry] = field(default_factory=list)
    log_sequence: int = 0
    logs_done: bool = False  # stopped, and everything that its containers wrote is in `logs`
    log_changed: Notifier = field(default_factory=Notifier)

    @property
    def running(self) -> bool:
        return self.state not in (api_pb2.APP_STATE_STOPPED, api_pb2.APP_STATE_STOPPING)


@dataclass
class Function:
    function_id: str
    app_id: str
    name: str
    metadata: api_pb2.FunctionHandleMetadata = field(default_factory=api_pb2.FunctionHandleMetadata)
    ranked: list[api_pb2.Function] = field(default_factory=list)  # alternatives by GPU, the best first
    data: api_pb2.FunctionData = field(default_factory=api_pb2.FunctionData)
    failed_starts: int = 0  # containers in a row that ended before they took an input
    last_start_failure: api_pb2.GenericResult | None = None

    @property
    def definition(self) -> api_pb2.Function:
        """The first alternative; all but the GPU is the same in the others."""
        return self.ranked[0]


@dataclass
class Input:
    """One call's argument list on its way through the queue."""

    input_id: str
    function_call_id: str
    function_id: str
    app_id: str
    idx: int
    input: api_pb2.FunctionInput
    retry_count: int = 0
    attempts: int = 0  # times that a container took it, preemptions and retries together
    task_id: str = ""  # who has it now
    created_at: float = field(default_factory=time.time)
    claimed_at: float = 0.0
    available_at: float = field(default_factory=time.time)  # not before: retry delay, knob queue_delay
    cancelled: bool = False
    terminate: bool = False
    cloud_restarts: int = 0  # times that its container was lost by no fault of its own
    result: api_pb2.GenericResult | None = None
    data_format: int = 0
    finished_at: float = 0.0

    @property
    def finished(self) -> bool:
        return self.result is not None


@dataclass
class FunctionCall:
    function_call_id: str
    function_id: str
    app_id: str
    invocation_type: int
    call_type: int
    input_ids: list[str] = field(default_factory=list)
    created_at: float = field(default_factory=time.time)
    outputs: list[str] = field(default_factory=list)  # input ids in the order in which they finished
    cancelled: bool = False
    expired: bool = False
    parent_input_id: str = ""


@dataclass
class Task:
    """One container: a subprocess with its own socket, working copies of volumes and output pipes."""

    task_id: str
    app_id: str
    function_id: str
    directory: Path
    gpu: str = ""
    pid: int = 0
    created_at: float = field(default_factory=time.time)
    started_at: float = 0.0
    finished_at: float = 0.0
    input_ids: list[str] = field(default_factory=list)  # what it works on now
    taken: int = 0
    waiting: bool = False  # for an input, right now
    current_call_id: str = ""  # whose output its lines are: the last input that it took
    current_input_id: str = ""
    environment: dict[str, str] = field(default_factory=dict)  # of the process, with the secrets' values
    exit_code: int | None = None
    end: str = ""  # why the cloud ended it: preempted stopped timeout startup oom lost idle cancelled
    failed: api_pb2.GenericResult | None = None  # what TaskResult said
    cancellations: list[str] = field(default_factory=list)  # input ids for the next heartbeat response
    stop_inputs: bool = False  # give it no further input
    changed: Notifier = field(default_factory=Notifier)

    @property
    def running(self) -> bool:
        return self.finished_at == 0.0


@dataclass
class Rpc:
    """One call in the journal. `identity` is "client" or the id of the container's task."""

    name: str
    at: float
    identity: str
    request: Message
    response: Message | None = None  # of unary calls that succeeded
    status: str = ""  # "OK", or the name of the gRPC status; "" while it runs
    duration: float = 0.0
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass
class Knobs:
    """What a test may turn. Seconds unless it says otherwise."""

    latency: float = 0.0  # added to every call of a client (not of a container)
    queue_delay: float = 0.0  # between an input's arrival and the first chance of a container for it
    no_gpu: set[str] = field(default_factory=set)  # GPU types without capacity
    preemption_grace: float = 30.0  # between SIGINT and SIGKILL
    stop_grace: float = 30.0  # the same for app stop and cancel with termination
    idle_timeout: float = 60.0  # a container without inputs ends after this (scaledown_window wins if set)
    read_interval: float = 0.01  # between two reads of a container's output; 0: as fast as it comes
    output_delay: float = 0.05  # an output waits this long so that the last lines come before it
    heartbeat_wait: float = 10.0  # how long a heartbeat is held when there is nothing to tell
    detached_apps_stop: bool = True  # does a detached app stop by itself after its last call?
    detached_linger: float = 0.2  # and how long after it
    heartbeat_timeout: float = (
        40.0  # an app's client that sent none this long is gone; the SDK sends one in 15
    )
    replay_logs: bool = True  # does AppGetLogs with an empty last_entry_id start with the history?
    split_logs: str = (
        "chunk"  # "chunk": as read from the pipe; "line": an entry a line; "write": text and "\n" apart
    )
    max_start_failures: int = 3  # containers in a row that ended before they took an input
    max_restarts: int = 8  # of an input whose containers were preempted or lost, then INTERNAL_FAILURE
    commit_interval: float = 3.0  # background commits of volumes
    commit_on_exit: bool = True
    volume_limit: int | None = None  # bytes that a volume can hold
    build_delay: float = 0.0  # > 0: images are built with streamed lines over this time; 0: at once
    build_failure: str = ""  # the error that every build which is not cached ends with
    billing: bool = True  # False: billing calls answer PERMISSION_DENIED
    login: str = "approve"  # browser login: "approve", "never" or "refuse"
    environment: dict[str, str] = field(default_factory=dict)  # of all containers, as if the image had it
    mounts: str = "auto"  # how containers see volumes: "namespace", "prefix", or the first if it works


class VolumesApi(Protocol):
    """What execution needs of volumes.py (helper B)."""

    async def checkout(
        self, volume_id: str, task_id: str, *, sub_path: str = "", read_only: bool = False
    ) -> Path:
        """A private working copy of the volume's last commit; background commits run until `finish`."""

    async def commit(self, task_id: str, volume_id: str) -> None:
        """Publish what the task changed. Raises GRPCError when the volume is full."""

    async def finish(self, task_id: str, *, commit: bool) -> list[str]:
        """The container has ended: last commit (if `commit`), working copies go away. Never raises.

        Returns a sentence for each volume that could not be committed.
        """


class MountsApi(Protocol):
    """What execution needs of mounts.py (helper B)."""

    async def materialise(self, mount_ids: Iterable[str], dest: Path) -> None:
        """Lay the files below `dest` at their paths in the container: /root/a.py -> dest/root/a.py."""


class ImagesApi(Protocol):
    """What execution needs of images.py (helper B)."""

    def environment(self, image_id: str) -> dict[str, str]:
        """What the ENV lines of the image and its bases set."""


class AccountsApi(Protocol):
    """What execution needs of accounts.py (helper B)."""

    def values(self, secret_id: str) -> dict[str, str]:
        """The variables of a secret. Raises GRPCError NOT_FOUND."""


@dataclass
class World:
    root: Path  # everything on disk is below it: tasks/ (execution), volumes/, blobs/, …
    knobs: Knobs = field(default_factory=Knobs)
    tokens: dict[str, str] = field(default_factory=dict)  # id -> secret of the valid ones
    workspace: str = "loopback"
    url: str = ""
    apps: dict[str, App] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    calls: dict[str, FunctionCall] = field(default_factory=dict)
    inputs: dict[str, Input] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    journal: list[Rpc] = field(default_factory=list)
    unimplemented: list[str] = field(default_factory=list)
    failures: list[str] = field(
        default_factory=list
    )  # tracebacks of handlers that broke: defects of the loopback
    services: dict[str, Any] = field(default_factory=dict)  # by module name: services["volumes"].checkout(…)
    store: Any = None  # store.Store, made by the accounts service (helper B's modules)
    changed: Notifier = field(default_factory=Notifier)

    @property
    def volumes(self) -> VolumesApi:
        return self.services["volumes"]

    @property
    def mounts(self) -> MountsApi:
        return self.services["mounts"]

    @property
    def images(self) -> ImagesApi:
        return self.services["images"]

    @property
    def accounts(self) -> AccountsApi:
        return self.services["accounts"]
