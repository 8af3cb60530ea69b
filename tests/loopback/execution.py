"""Containers: when one starts, what it asks and is told while it runs, how it ends and what that means.

What an end means for the input is in `endings.py`.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import shutil
import signal
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from . import container
from .endings import container_ended
from .functions import gpu_of
from .state import Task, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .server import Context
    from .state import Function, Input, World

Result = api_pb2.GenericResult
CHUNK = 1 << 16
WATCH = 0.1
DRAIN = 5.0  # for what is left in the pipes after the process ended
STOP_LIMIT = 20.0


class Execution:
    def __init__(self, world: World) -> None:
        self.world = world
        self._background: set[asyncio.Task[Any]] = set()
        self._supervisors: dict[str, asyncio.Task[None]] = {}
        self._sockets = Path()

    def handlers(self) -> dict[str, Callable]:
        return {
            "ContainerHello": self.hello,
            "ContainerHeartbeat": self.heartbeat,
            "ContainerStop": self.stop_container,
            "FunctionGetInputs": self.get_inputs,
            "FunctionPutOutputs": self.put_outputs,
            "FunctionGetDynamicConcurrency": self.dynamic_concurrency,
            "TaskResult": self.task_result,
            "TaskList": self.task_list,
            "TaskGetInfo": self.task_info,
        }

    async def start(self) -> None:
        # Not below world.root: the path of a unix socket may have about 100 characters only.
        self._sockets = Path(tempfile.mkdtemp(prefix="modal-"))
        self._spawn(self._schedule())

    async def stop(self) -> None:
        for job in self._background:
            job.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for task in self.world.tasks.values():
            self.kill(task, "stopped")
        # Killed, they come to their end by themselves, which leaves no half-closed pipes behind.
        supervisors = list(self._supervisors.values())
        if supervisors:
            _, stuck = await asyncio.wait(supervisors, timeout=STOP_LIMIT)
            for job in stuck:
                job.cancel()
            await asyncio.gather(*stuck, return_exceptions=True)
        shutil.rmtree(self._sockets, ignore_errors=True)

    # What containers ask

    async def hello(self, ctx: Context, request: Empty) -> Empty:
        return Empty()

    async def heartbeat(
        self, ctx: Context, request: api_pb2.ContainerHeartbeatRequest
    ) -> api_pb2.ContainerHeartbeatResponse:
        task = _caller(ctx)
        await task.changed.wait_until(lambda: bool(task.cancellations), self.world.knobs.heartbeat_wait)
        response = api_pb2.ContainerHeartbeatResponse()
        if task.cancellations:
            response.cancel_input_event.input_ids.extend(task.cancellations)
            task.cancellations.clear()
        return response

    async def get_inputs(
        self, ctx: Context, request: api_pb2.FunctionGetInputsRequest
    ) -> api_pb2.FunctionGetInputsResponse:
        task = _caller(ctx)
        function = self.world.functions[task.function_id]
        idle = (
            function.definition.autoscaler_settings.scaledown_window
            or function.definition.task_idle_timeout_secs
        )
        deadline = time.monotonic() + (idle or self.world.knobs.idle_timeout)
        task.waiting = True
        try:
            while not task.stop_inputs and not task.end and time.monotonic() < deadline:
                pending = self._pending(function)
                if pending:
                    return self._claim(task, function, pending[0])
                await self.world.changed.wait(min(0.5, deadline - time.monotonic()))
        finally:
            task.waiting = False
        task.stop_inputs = True
        if not task.end and not task.taken:
            task.end = "idle"  # its input was cancelled before it came up: not a failed start
        return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])

    async def put_outputs(self, ctx: Context, request: api_pb2.FunctionPutOutputsRequest) -> Empty:
        task = _caller(ctx)
        for item in request.outputs:
            entry = self.world.inputs.get(item.input_id)
            if entry is None or item.input_id not in task.input_ids or item.retry_count != entry.retry_count:
                continue
            task.input_ids.remove(item.input_id)
            self._spawn(self._settle(entry, item))
        return Empty()

    async def dynamic_concurrency(
        self, ctx: Context, request: api_pb2.FunctionGetDynamicConcurrencyRequest
    ) -> api_pb2.FunctionGetDynamicConcurrencyResponse:
        return api_pb2.FunctionGetDynamicConcurrencyResponse(concurrency=request.target_concurrency)

    async def task_result(self, ctx: Context, request: api_pb2.TaskResultRequest) -> Empty:
        _caller(ctx).failed = request.result
        return Empty()

    # What clients ask about containers

    async def stop_container(
        self, ctx: Context, request: api_pb2.ContainerStopRequest
    ) -> api_pb2.ContainerStopResponse:
        task = self._task(request.task_id)
        if request.graceful:
            task.stop_inputs = True
            self.world.changed.notify()
        else:
            # Its inputs go to another container, as after a preemption.
            self.interrupt(task, "preempted", self.world.knobs.stop_grace)
        return api_pb2.ContainerStopResponse()

    async def task_list(self, ctx: Context, request: api_pb2.TaskListRequest) -> api_pb2.TaskListResponse:
        return api_pb2.TaskListResponse(
            tasks=[
                api_pb2.TaskStats(
                    task_id=task.task_id,
                    app_id=task.app_id,
                    app_description=self.world.apps[task.app_id].description,
                    started_at=task.started_at,
                    enqueued_at=task.created_at,
                )
                for task in self.world.tasks.values()
                if task.running and (not request.app_id or task.app_id == request.app_id)
            ]
        )

    async def task_info(
        self, ctx: Context, request: api_pb2.TaskGetInfoRequest
    ) -> api_pb2.TaskGetInfoResponse:
        task = self._task(request.task_id)
        info = api_pb2.TaskInfo(
            id=task.task_id,
            started_at=task.started_at,
            finished_at=task.finished_at,
            enqueued_at=task.created_at,
            gpu_type=task.gpu.partition(":")[0],
        )
        return api_pb2.TaskGetInfoResponse(app_id=task.app_id, info=info)

    # What the cloud does to containers

    def cancel_input(self, task: Task, input_id: str, *, terminate: bool) -> None:
        if terminate:
            self.interrupt(task, "cancelled", self.world.knobs.stop_grace)
        else:
            task.cancellations.append(input_id)
            task.changed.notify()

    def interrupt(self, task: Task, end: str, grace: float) -> None:
        """SIGINT, and SIGKILL when it still runs after `grace` seconds. `end` says why."""
        if task.end or not task.running:
            return
        task.end = end
        task.stop_inputs = True
        self.world.changed.notify()
        self._signal(task, signal.SIGINT, group=False)
        self._spawn(self._kill_after(task, grace))

    def kill(self, task: Task, end: str) -> None:
        """SIGKILL to all its processes at once."""
        if task.running:
            task.end = end
            task.stop_inputs = True
            self._signal(task, signal.SIGKILL)

    async def stop_tasks(self, app_id: str) -> None:
        """Stop all containers of an app and wait until they and their output are done."""
        for task in list(self.world.tasks.values()):
            if task.app_id != app_id or not task.running:
                continue
            if task.input_ids or not task.taken:
                self.interrupt(task, "stopped", self.world.knobs.stop_grace)
            else:  # it has no work: let it leave by itself, so that its last commit is its own
                task.stop_inputs = True
                self._spawn(self._kill_after(task, self.world.knobs.stop_grace))
        self.world.changed.notify()
        jobs = [
            job for task_id, job in self._supervisors.items() if self.world.tasks[task_id].app_id == app_id
        ]
        if jobs:
            await asyncio.wait(jobs)

    # Starting

    async def _schedule(self) -> None:
        while True:
            try:
                for function in list(self.world.functions.values()):
                    self._scale(function)
            except Exception:
                self.world.failures.append(f"scheduler: {traceback.format_exc()}")
            await self.world.changed.wait(WATCH)

    def _scale(self, function: Function) -> None:
        if not self.world.apps[function.app_id].running or not function.ranked:
            return
        pending = self._pending(function)
        if not pending:
            return
        tasks = [t for t in self.world.tasks.values() if t.running and t.function_id == function.function_id]
        free = sum(not t.stop_inputs and not t.end and (t.waiting or not t.taken) for t in tasks)
        definition = function.definition
        limit = definition.autoscaler_settings.max_containers or definition.concurrency_limit or 100
        gpu = self._capacity(function)
        if gpu is None:
            return
        for _ in range(min(len(pending) - free, limit - len(tasks))):
            task_id = new_id("ta")
            task = Task(
                task_id, function.app_id, function.function_id, self.world.root / "tasks" / task_id, gpu=gpu
            )
            self.world.tasks[task_id] = task
            self._supervisors[task_id] = asyncio.create_task(self._run(task, function))

    def _capacity(self, function: Function) -> str | None:
        """The first GPU of the function's list that can be had, "" if it needs none, None if none is left."""
        for definition in function.ranked:
            gpu = gpu_of(definition)
            if gpu.partition(":")[0].rstrip("!+") not in self.world.knobs.no_gpu:
                return gpu
        return None

    def _pending(self, function: Function) -> list[Input]:
        now = time.time()
        return [
            entry
            for entry in self.world.inputs.values()
            if entry.function_id == function.function_id
            and not entry.task_id
            and not entry.finished
            and entry.available_at <= now
        ]

    def _claim(self, task: Task, function: Function, entry: Input) -> api_pb2.FunctionGetInputsResponse:
        call = self.world.calls[entry.function_call_id]
        entry.task_id = task.task_id
        entry.attempts += 1
        entry.claimed_at = time.time()
        task.taken += 1
        task.input_ids.append(entry.input_id)
        task.current_call_id, task.current_input_id = call.function_call_id, entry.input_id
        task.stop_inputs = function.definition.single_use_containers or function.definition.max_inputs == 1
        function.failed_starts = 0
        self.world.services["logs"].task_state(task, api_pb2.TASK_STATE_ACTIVE)
        item = api_pb2.FunctionGetInputsItem(
            input_id=entry.input_id,
            input=entry.input,
            function_call_id=call.function_call_id,
            function_call_invocation_type=call.invocation_type,
            retry_count=entry.retry_count,
        )
        return api_pb2.FunctionGetInputsResponse(inputs=[item])

    # One container's life

    async def _run(self, task: Task, function: Function) -> None:
        logs = self.world.services["logs"]
        socket = self._sockets / f"{task.task_id[-8:]}.sock"
        process: asyncio.subprocess.Process | None = None
        try:
            logs.task_state(task, api_pb2.TASK_STATE_CREATING_CONTAINER)
            launch = await container.prepare(self.world, task, function, socket)
            task.environment = launch.environment
            await self.world.services["server"].open_container(task, socket)
            if not task.end:
                process = await asyncio.create_subprocess_exec(
                    *launch.argv,
                    env=launch.environment,
                    cwd=launch.directory,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                )
                task.pid, task.started_at = process.pid, time.time()
                assert process.stdout is not None
                assert process.stderr is not None
                readers = [
                    asyncio.create_task(self._read(task, process.stdout, api_pb2.FILE_DESCRIPTOR_STDOUT)),
                    asyncio.create_task(self._read(task, process.stderr, api_pb2.FILE_DESCRIPTOR_STDERR)),
                ]
                await self._watch(task, function, process)
                _, stuck = await asyncio.wait(readers, timeout=DRAIN)
                for reader in stuck:  # a process that left the group still holds the pipe
                    reader.cancel()
        except GRPCError as error:
            task.failed = Result(status=Result.GENERIC_STATUS_INIT_FAILURE, exception=str(error.message))
        except Exception as error:
            self.world.failures.append(f"container {task.task_id}: {traceback.format_exc()}")
            task.failed = Result(status=Result.GENERIC_STATUS_INIT_FAILURE, exception=repr(error))
        finally:
            self._signal(task, signal.SIGKILL)
        if process is not None and process.returncode is not None:
            task.exit_code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        # A lost machine takes along what was not committed.
        commit = self.world.knobs.commit_on_exit and task.end != "lost"
        for sentence in await self.world.volumes.finish(task.task_id, commit=commit):
            logs.system(task, sentence)
        self.world.services["server"].close_container(task.task_id)
        container_ended(self.world, task, function, self._pending(function))
        task.finished_at = time.time()
        logs.task_state(task, api_pb2.TASK_STATE_COMPLETED)
        self._supervisors.pop(task.task_id, None)
        self.world.changed.notify()
        await asyncio.to_thread(shutil.rmtree, task.directory, ignore_errors=True)

    async def _watch(self, task: Task, function: Function, process: asyncio.subprocess.Process) -> None:
        """Until the process is gone: its time limits."""
        definition = function.definition
        startup = definition.startup_timeout_secs or 300
        ended = asyncio.create_task(process.wait())
        if task.end:  # interrupted while it was being started
            self._signal(task, signal.SIGINT, group=False)
        while not ended.done():
            await asyncio.wait([ended], timeout=WATCH)
            now = time.time()
            if not task.taken and not task.waiting and now - task.started_at > startup:
                message = f"Container startup timed out after {startup} s."
                task.failed = Result(status=Result.GENERIC_STATUS_INIT_FAILURE, exception=message)
                self.kill(task, "startup")
            claimed = [self.world.inputs[input_id].claimed_at for input_id in task.input_ids]
            if definition.timeout_secs and claimed and now - min(claimed) > definition.timeout_secs:
                self.interrupt(task, "timeout", self.world.knobs.stop_grace)
        # The whole tree ends with its first process, and then the pipes have an end too.
        self._signal(task, signal.SIGKILL)

    async def _read(self, task: Task, pipe: asyncio.StreamReader, file_descriptor: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        held = ""  # of a line that is not complete yet, when entries are whole lines
        while True:
            chunk = await pipe.read(CHUNK)
            text = held + decoder.decode(chunk, final=not chunk)
            held = ""
            if self.world.knobs.split_logs == "line" and chunk:
                complete, newline, held = text.rpartition("\n")
                text = complete + newline
            if text:
                self.world.services["logs"].output(
                    task, text, file_descriptor, task.current_call_id, task.current_input_id
                )
            if not chunk:
                return
            # Let the pipe fill up: thousands of small entries a second are more than the SDK can take.
            await asyncio.sleep(self.world.knobs.read_interval)

    async def _settle(self, entry: Input, item: api_pb2.FunctionPutOutputsItem) -> None:
        # The last lines are still on their way through the pipe.
        await asyncio.sleep(self.world.knobs.output_delay)
        self.world.services["calls"].fail_or_retry(entry, item.result, item.data_format)

    async def _kill_after(self, task: Task, grace: float) -> None:
        await self.world.changed.wait_until(lambda: not task.running, grace)
        self._signal(task, signal.SIGKILL)

    @staticmethod
    def _signal(task: Task, number: int, *, group: bool = True) -> None:
        if task.pid and task.running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if group:
                    os.killpg(task.pid, number)
                else:
                    os.kill(task.pid, number)

    def _spawn(self, job: Coroutine[Any, Any, Any]) -> None:
        handle = asyncio.create_task(job)
        self._background.add(handle)
        handle.add_done_callback(self._background.discard)

    def _task(self, task_id: str) -> Task:
        task = self.world.tasks.get(task_id)
        if task is None:
            raise GRPCError(Status.NOT_FOUND, f"Container '{task_id}' not found.")
        return task


def _caller(ctx: Context) -> Task:
    if ctx.task is None:
        raise GRPCError(Status.PERMISSION_DENIED, "Only containers may call this.")
    return ctx.task
