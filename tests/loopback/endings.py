"""What a container's end means for the input that it had, and for those that wait.

| how it ended | what becomes of its input |
|---|---|
| output sent | settled by `FunctionPutOutputs` |
| preempted, or its machine lost (`kill`) | goes to another container, no retry used up |
| timeout | TIMEOUT, or a retry |
| out of memory (`oom`) | a retry, then INTERNAL_FAILURE |
| exit without an output | FAILURE "Runner terminated …", or a retry |
| three in a row before they took an input | INIT_FAILURE for all that waits |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

if TYPE_CHECKING:
    from .state import Function, Input, Task, World

Result = api_pb2.GenericResult
LOST = ("preempted", "lost")


def container_ended(world: World, task: Task, function: Function, waiting: list[Input]) -> None:
    """Say it in the log and settle the inputs that the container still had; `waiting` has none yet."""
    calls, logs = world.services["calls"], world.services["logs"]
    if task.end == "preempted":
        logs.task_state(task, api_pb2.TASK_STATE_PREEMPTED)
        logs.system(task, "Container was preempted; its input will be restarted on another one.")
    elif task.end == "oom":
        logs.system(task, "Container was killed: out of memory (exit code 137).")
    elif task.end == "timeout":
        limit = function.definition.timeout_secs
        logs.system(task, f"Task's current input hit its timeout of {limit}s")
    elif task.exit_code and not task.end:
        logs.system(task, f"Runner terminated with exit code {task.exit_code}.")
    left, task.input_ids = task.input_ids, []
    for input_id in left:
        entry = world.inputs[input_id]
        if task.end in LOST:
            calls.restart(entry, f"Container {task.task_id} was lost.")
        elif task.end in ("cancelled", "stopped"):
            if entry.cancelled:
                calls.finish(entry, Result(status=Result.GENERIC_STATUS_TERMINATED))
            else:  # it only shared the container
                calls.restart(entry, f"Container {task.task_id} was stopped.")
        else:
            calls.fail_or_retry(entry, _result_of(task, function))
    if not task.taken and task.end in ("", "startup"):
        function.failed_starts += 1
        if function.failed_starts >= world.knobs.max_start_failures:
            function.failed_starts = 0
            result = task.failed or Result(exception=f"Runner failed with exit code: {task.exit_code}")
            result.status = Result.GENERIC_STATUS_INIT_FAILURE
            for entry in waiting:
                calls.finish(entry, result)


def _result_of(task: Task, function: Function) -> Result:
    if task.end == "timeout":
        message = f"Task's current input hit its timeout of {function.definition.timeout_secs}s"
        return Result(status=Result.GENERIC_STATUS_TIMEOUT, exception=message)
    if task.end == "oom":
        message = "Container was killed: out of memory (exit code 137)."
        return Result(status=Result.GENERIC_STATUS_INTERNAL_FAILURE, exception=message, exitcode=137)
    message = f"Runner terminated with exit code {task.exit_code}."
    return Result(status=Result.GENERIC_STATUS_FAILURE, exception=message, exitcode=task.exit_code or 0)
