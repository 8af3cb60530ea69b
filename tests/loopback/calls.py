"""Calls of functions: their inputs on the way through the queue, outputs, cancellation, retries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .state import FunctionCall, Input, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .server import Context
    from .state import Function, World

Result = api_pb2.GenericResult
RETRIED = (
    Result.GENERIC_STATUS_FAILURE,
    Result.GENERIC_STATUS_TIMEOUT,
    Result.GENERIC_STATUS_INTERNAL_FAILURE,
)


class Calls:
    def __init__(self, world: World) -> None:
        self.world = world

    def handlers(self) -> dict[str, Callable]:
        return {
            "FunctionMap": self.call,
            "FunctionPutInputs": self.put_inputs,
            "FunctionFinishInputs": self.finish_inputs,
            "FunctionGetOutputs": self.get_outputs,
            "FunctionCallFromId": self.from_id,
            "FunctionCallGetInfo": self.call_info,
            "FunctionCallList": self.list_calls,
            "FunctionCallCancel": self.cancel_call,
            "FunctionGetCallGraph": self.call_graph,
        }

    async def call(self, ctx: Context, request: api_pb2.FunctionMapRequest) -> api_pb2.FunctionMapResponse:
        function = self._function(request.function_id)
        app = self.world.apps[function.app_id]
        if not app.running:
            raise GRPCError(Status.FAILED_PRECONDITION, f"App '{app.app_id}' is stopped.")
        call = FunctionCall(
            function_call_id=new_id("fc"),
            function_id=function.function_id,
            app_id=function.app_id,
            invocation_type=request.function_call_invocation_type,
            call_type=request.function_call_type,
            parent_input_id=request.parent_input_id,
        )
        self.world.calls[call.function_call_id] = call
        return api_pb2.FunctionMapResponse(
            function_call_id=call.function_call_id,
            pipelined_inputs=self._add_inputs(call, request.pipelined_inputs),
            retry_policy=function.definition.retry_policy,
            function_call_jwt=call.function_call_id,
            sync_client_retries_enabled=False,  # retries are ours, for spawned and for waited calls alike
            max_inputs_outstanding=1000,
        )

    async def put_inputs(
        self, ctx: Context, request: api_pb2.FunctionPutInputsRequest
    ) -> api_pb2.FunctionPutInputsResponse:
        call = self._call(request.function_call_id)
        return api_pb2.FunctionPutInputsResponse(inputs=self._add_inputs(call, request.inputs))

    async def finish_inputs(self, ctx: Context, request: api_pb2.FunctionFinishInputsRequest) -> Empty:
        return Empty()

    async def get_outputs(
        self, ctx: Context, request: api_pb2.FunctionGetOutputsRequest
    ) -> api_pb2.FunctionGetOutputsResponse:
        call = self._call(request.function_call_id)
        position = 0
        if request.HasField("start_idx"):

            def ready() -> list[str]:
                wanted = range(request.start_idx, request.end_idx + 1)
                return [input_id for input_id in call.outputs if self.world.inputs[input_id].idx in wanted]
        else:
            position = int(request.last_entry_id.partition("-")[0] or 0)

            def ready() -> list[str]:
                return call.outputs[position : position + (request.max_values or 1000)]

        # Of an expired call nothing comes; it is waited for all the same, as the SDK asks without a pause.
        await self.world.changed.wait_until(lambda: bool(ready()) and not call.expired, request.timeout)
        finished = [] if call.expired else ready()
        return api_pb2.FunctionGetOutputsResponse(
            idxs=[self.world.inputs[input_id].idx for input_id in finished],
            outputs=[_output_item(self.world.inputs[input_id]) for input_id in finished],
            last_entry_id=f"{position + len(finished)}-0",
            num_unfinished_inputs=0 if call.expired else len(call.input_ids) - len(call.outputs),
        )

    async def from_id(
        self, ctx: Context, request: api_pb2.FunctionCallFromIdRequest
    ) -> api_pb2.FunctionCallFromIdResponse:
        call = self._call(request.function_call_id)
        return api_pb2.FunctionCallFromIdResponse(
            function_call_id=call.function_call_id,
            num_inputs=len(call.input_ids),
            metadata=api_pb2.FunctionCallHandleMetadata(app_id=call.app_id, function_id=call.function_id),
        )

    async def call_info(
        self, ctx: Context, request: api_pb2.FunctionCallGetInfoRequest
    ) -> api_pb2.FunctionCallGetInfoResponse:
        return api_pb2.FunctionCallGetInfoResponse(info=self._info(self._call(request.function_call_id)))

    async def list_calls(
        self, ctx: Context, request: api_pb2.FunctionCallListRequest
    ) -> api_pb2.FunctionCallListResponse:
        calls = [call for call in self.world.calls.values() if call.function_id == request.function_id]
        return api_pb2.FunctionCallListResponse(function_calls=[self._info(call) for call in calls])

    async def cancel_call(self, ctx: Context, request: api_pb2.FunctionCallCancelRequest) -> Empty:
        self.cancel(self._call(request.function_call_id), terminate=request.terminate_containers)
        return Empty()

    async def call_graph(
        self, ctx: Context, request: api_pb2.FunctionGetCallGraphRequest
    ) -> api_pb2.FunctionGetCallGraphResponse:
        call = self._call(request.function_call_id)
        calls = [other for other in self.world.calls.values() if other.app_id == call.app_id]
        return api_pb2.FunctionGetCallGraphResponse(
            inputs=[
                api_pb2.InputCallGraphInfo(
                    input_id=entry.input_id,
                    status=entry.result.status if entry.result else Result.GENERIC_STATUS_UNSPECIFIED,
                    function_call_id=entry.function_call_id,
                    task_id=entry.task_id,
                )
                for other in calls
                for entry in self._inputs(other)
            ],
            function_calls=[
                api_pb2.FunctionCallCallGraphInfo(
                    function_call_id=other.function_call_id,
                    parent_input_id=other.parent_input_id,
                    function_name=self._function(other.function_id).name,
                    module_name=self._function(other.function_id).definition.module_name,
                )
                for other in calls
            ],
        )

    # What becomes of an input; execution calls these too

    def finish(self, entry: Input, result: Result, data_format: int = 0) -> None:
        """The input's last result. A second one is ignored."""
        if entry.finished:
            return
        entry.result = result
        entry.data_format = data_format
        entry.finished_at = time.time()
        self.world.calls[entry.function_call_id].outputs.append(entry.input_id)
        self.world.changed.notify()

    def fail_or_retry(self, entry: Input, result: Result, data_format: int = 0) -> None:
        """An attempt ended with `result`: try again as the retry policy says, or finish with it."""
        policy = self._function(entry.function_id).definition.retry_policy
        if result.status not in RETRIED or entry.cancelled or entry.retry_count >= policy.retries:
            self.finish(entry, result, data_format)
            return
        delay = policy.initial_delay_ms / 1000 * (policy.backoff_coefficient or 1.0) ** entry.retry_count
        if policy.max_delay_ms:
            delay = min(delay, policy.max_delay_ms / 1000)
        entry.retry_count += 1
        self.requeue(entry, delay)

    def restart(self, entry: Input, why: str) -> None:
        """The container was lost by no fault of its own: the input goes to another, no retry is used up."""
        entry.cloud_restarts += 1
        if entry.cancelled:
            self.finish(entry, Result(status=Result.GENERIC_STATUS_TERMINATED))
        elif entry.cloud_restarts > self.world.knobs.max_restarts:
            self.finish(entry, Result(status=Result.GENERIC_STATUS_INTERNAL_FAILURE, exception=why))
        else:
            self.requeue(entry, self.world.knobs.queue_delay)

    def requeue(self, entry: Input, delay: float) -> None:
        entry.task_id = ""
        entry.available_at = time.time() + delay
        self.world.changed.notify()

    def cancel(self, call: FunctionCall, *, terminate: bool) -> None:
        """Pending inputs end now; running ones when their container says so, or now if it is terminated."""
        call.cancelled = True
        execution = self.world.services["execution"]
        for entry in self._inputs(call):
            if entry.finished:
                continue
            entry.cancelled = True
            task = self.world.tasks.get(entry.task_id)
            if task is None or terminate:
                self.finish(entry, Result(status=Result.GENERIC_STATUS_TERMINATED))
            if task is not None:
                execution.cancel_input(task, entry.input_id, terminate=terminate)
        self.world.changed.notify()

    def abandon(self, call: FunctionCall) -> None:
        """The app is stopped: what is not finished ends as terminated. Containers are stopped elsewhere."""
        for entry in self._inputs(call):
            entry.cancelled = True
            self.finish(entry, Result(status=Result.GENERIC_STATUS_TERMINATED))

    def _inputs(self, call: FunctionCall) -> list[Input]:
        return [self.world.inputs[input_id] for input_id in call.input_ids]

    def _add_inputs(
        self, call: FunctionCall, items: Iterable[api_pb2.FunctionPutInputsItem]
    ) -> list[api_pb2.FunctionPutInputsResponseItem]:
        added = []
        for item in items:
            entry = Input(
                input_id=new_id("in"),
                function_call_id=call.function_call_id,
                function_id=call.function_id,
                app_id=call.app_id,
                idx=item.idx,
                input=item.input,
                available_at=time.time() + self.world.knobs.queue_delay,
            )
            self.world.inputs[entry.input_id] = entry
            call.input_ids.append(entry.input_id)
            added.append(
                api_pb2.FunctionPutInputsResponseItem(
                    idx=item.idx, input_id=entry.input_id, input_jwt=entry.input_id
                )
            )
        self.world.changed.notify()
        return added

    def _call(self, call_id: str) -> FunctionCall:
        call = self.world.calls.get(call_id)
        if call is None:
            raise GRPCError(Status.NOT_FOUND, f"Function call '{call_id}' not found.")
        return call

    def _info(self, call: FunctionCall) -> api_pb2.FunctionCallInfo:
        def category(*statuses: int) -> api_pb2.InputCategoryInfo:
            chosen = [
                entry
                for entry in self._inputs(call)
                if (entry.result.status if entry.result else 0) in statuses
            ]
            latest = [
                api_pb2.InputInfo(
                    input_id=entry.input_id,
                    idx=entry.idx,
                    task_id=entry.task_id,
                    started_at=entry.claimed_at,
                    finished_at=entry.finished_at,
                )
                for entry in chosen[-10:]
            ]
            return api_pb2.InputCategoryInfo(total=len(chosen), latest=latest)

        return api_pb2.FunctionCallInfo(
            function_call_id=call.function_call_id,
            created_at=call.created_at,
            scheduled_at=call.created_at,
            pending_inputs=category(Result.GENERIC_STATUS_UNSPECIFIED),
            succeeded_inputs=category(Result.GENERIC_STATUS_SUCCESS),
            timeout_inputs=category(Result.GENERIC_STATUS_TIMEOUT),
            cancelled_inputs=category(Result.GENERIC_STATUS_TERMINATED),
            failed_inputs=category(
                Result.GENERIC_STATUS_FAILURE,
                Result.GENERIC_STATUS_INIT_FAILURE,
                Result.GENERIC_STATUS_INTERNAL_FAILURE,
            ),
            total_inputs=len(call.input_ids),
        )

    def _function(self, function_id: str) -> Function:
        return self.world.services["functions"].find(function_id)


def _output_item(entry: Input) -> api_pb2.FunctionGetOutputsItem:
    return api_pb2.FunctionGetOutputsItem(
        result=entry.result,
        idx=entry.idx,
        input_id=entry.input_id,
        data_format=entry.data_format,
        task_id=entry.task_id,
        input_started_at=entry.claimed_at,
        output_created_at=entry.finished_at,
        retry_count=entry.retry_count,
    )
