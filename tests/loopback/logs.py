"""What containers print, per app in the order of arrival: followed, fetched and counted."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .state import LogEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from .server import Context
    from .state import App, Task, World

MAX_ITEMS = 500  # of one batch on the wire
MAX_FETCH = 20_000


class Logs:
    def __init__(self, world: World) -> None:
        self.world = world

    def handlers(self) -> dict[str, Callable]:
        return {
            "AppGetLogs": self.follow,
            "AppFetchLogs": self.fetch,
            "AppCountLogs": self.count,
        }

    def output(
        self, task: Task, data: str, file_descriptor: int, call_id: str = "", input_id: str = ""
    ) -> None:
        """Keep what a container wrote. `data` is as the pipe gave it: part of a line, or many."""
        pieces = {"chunk": _whole, "line": _lines, "write": _writes}[self.world.knobs.split_logs](data)
        app = self.world.apps[task.app_id]
        now = time.time_ns()
        for piece in pieces:
            self._append(
                app,
                LogEntry(
                    sequence=0,
                    timestamp_ns=now,
                    data=piece,
                    file_descriptor=file_descriptor,
                    task_id=task.task_id,
                    function_id=task.function_id,
                    function_call_id=call_id,
                    input_id=input_id,
                ),
            )
        app.log_changed.notify()

    def system(self, task: Task, text: str) -> None:
        """A line of the cloud's own about a container."""
        self.output(task, text + "\n", api_pb2.FILE_DESCRIPTOR_INFO)

    def task_state(self, task: Task, state: int) -> None:
        """Tell followers of a container's state. No text: only the SDK's spinner shows it."""
        app = self.world.apps[task.app_id]
        entry = LogEntry(
            0, time.time_ns(), "", api_pb2.FILE_DESCRIPTOR_INFO, state, task.task_id, task.function_id
        )
        self._append(app, entry)
        app.log_changed.notify()

    async def follow(
        self, ctx: Context, request: api_pb2.AppGetLogsRequest
    ) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        app = self._app(request.app_id)
        deadline = time.monotonic() + request.timeout
        if request.last_entry_id:
            seen = int(request.last_entry_id.rpartition("-")[2])
        else:
            seen = 0 if self.world.knobs.replay_logs else app.log_sequence
        wanted = _filter(request, request.file_descriptor)
        while True:
            done = app.logs_done  # before the entries are read: what comes later is not promised
            position = bisect_right(app.logs, seen, key=lambda entry: entry.sequence)
            fresh = app.logs[position:]
            seen = max(seen, app.log_sequence)
            for batch in _batches(entry for entry in fresh if wanted(entry)):
                yield batch
            if done:
                yield api_pb2.TaskLogsBatch(app_done=True, entry_id=f"0-{seen}")
                return
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if seen == app.log_sequence and not app.logs_done:
                await app.log_changed.wait(left)

    async def fetch(self, ctx: Context, request: api_pb2.AppFetchLogsRequest) -> api_pb2.AppFetchLogsResponse:
        app = self._app(request.app_id)
        wanted = _filter(request, request.source, request.search_text)
        entries = [
            entry
            for entry in self._between(app, request.since, request.until)
            if entry.data and wanted(entry)
        ]
        limit = min(request.limit or MAX_FETCH, MAX_FETCH)
        return api_pb2.AppFetchLogsResponse(batches=_batches(entries[-limit:]))

    async def count(self, ctx: Context, request: api_pb2.AppCountLogsRequest) -> api_pb2.AppCountLogsResponse:
        app = self._app(request.app_id)
        wanted = _filter(request, request.source, request.search_text)
        width = request.bucket_secs or 60
        first = request.since.seconds // width * width
        last = request.until.seconds // width * width
        buckets: dict[int, api_pb2.AppCountLogsResponse.LogBucket] = {}
        for start in range(first, last + 1, width):
            bucket = api_pb2.AppCountLogsResponse.LogBucket(bucket_start_at=Timestamp(seconds=start))
            buckets[start] = bucket
        for entry in self._between(app, request.since, request.until):
            if not entry.data or not wanted(entry):
                continue
            bucket = buckets[entry.timestamp_ns // 1_000_000_000 // width * width]
            if entry.file_descriptor == api_pb2.FILE_DESCRIPTOR_STDOUT:
                bucket.stdout_logs += 1
            elif entry.file_descriptor == api_pb2.FILE_DESCRIPTOR_STDERR:
                bucket.stderr_logs += 1
            else:
                bucket.system_logs += 1
        return api_pb2.AppCountLogsResponse(app_id=app.app_id, buckets=buckets.values())

    def _append(self, app: App, entry: LogEntry) -> None:
        app.log_sequence += 1
        entry.sequence = app.log_sequence
        if app.logs and entry.timestamp_ns < app.logs[-1].timestamp_ns:
            entry.timestamp_ns = app.logs[-1].timestamp_ns
        app.logs.append(entry)

    def _app(self, app_id: str) -> App:
        app = self.world.apps.get(app_id) or self.world.services["images"].builder_app(app_id)
        if app is None:
            raise GRPCError(Status.NOT_FOUND, f"App '{app_id}' not found.")
        return app

    @staticmethod
    def _between(app: App, since: Timestamp, until: Timestamp) -> list[LogEntry]:
        start = bisect_left(app.logs, since.ToNanoseconds(), key=lambda entry: entry.timestamp_ns)
        end = bisect_left(app.logs, until.ToNanoseconds(), key=lambda entry: entry.timestamp_ns)
        return app.logs[start:end]


def _whole(data: str) -> list[str]:
    return [data]


def _lines(data: str) -> list[str]:
    return data.splitlines(keepends=True)


def _writes(data: str) -> Iterator[str]:
    """A line and its end apart, as `print` on an unbuffered stream writes them."""
    for line in data.splitlines(keepends=True):
        text = line.removesuffix("\n")
        if text:
            yield text
        if text != line:
            yield "\n"


def _filter(request: object, file_descriptor: int, search_text: str = "") -> Callable[[LogEntry], bool]:
    function_id = getattr(request, "function_id", "")
    call_id = getattr(request, "function_call_id", "")
    task_id = getattr(request, "task_id", "")

    def wanted(entry: LogEntry) -> bool:
        return (
            (not function_id or entry.function_id == function_id)
            and (not call_id or entry.function_call_id == call_id)
            and (not task_id or entry.task_id == task_id)
            and (not file_descriptor or entry.file_descriptor == file_descriptor)
            and (not search_text or search_text in entry.data)
        )

    return wanted


def _batches(entries: Iterable[LogEntry]) -> Iterator[api_pb2.TaskLogsBatch]:
    """Entries of one container go together, at most MAX_ITEMS a batch."""
    batch: api_pb2.TaskLogsBatch | None = None
    for entry in entries:
        if batch is None or batch.task_id != entry.task_id or len(batch.items) == MAX_ITEMS:
            if batch is not None:
                yield batch
            batch = api_pb2.TaskLogsBatch(task_id=entry.task_id, function_id=entry.function_id)
        batch.entry_id = entry.entry_id
        batch.items.add(
            data=entry.data,
            task_state=entry.task_state,
            timestamp=entry.timestamp_ns / 1e9,
            timestamp_ns=entry.timestamp_ns,
            file_descriptor=entry.file_descriptor,
            function_call_id=entry.function_call_id,
            input_id=entry.input_id,
            container_id=entry.task_id,
        )
    if batch is not None:
        yield batch
