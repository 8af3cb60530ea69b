"""Functions: made when an app is published, looked up, varied (`with_options`), counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .state import Function, environment_name, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from .server import Context
    from .state import World

OPTIONS = ("retry_policy", "concurrency_limit", "timeout_secs", "task_idle_timeout_secs", "warm_pool_size")


class Functions:
    def __init__(self, world: World) -> None:
        self.world = world

    def handlers(self) -> dict[str, Callable]:
        return {
            "FunctionPrecreate": self.precreate,
            "FunctionCreate": self.create,
            "FunctionGet": self.get,
            "FunctionGetById": self.get_by_id,
            "FunctionBindParams": self.bind_params,
            "FunctionGetCurrentStats": self.current_stats,
            "FunctionGetSchedulingParams": self.scheduling_params,
            "FunctionUpdateSchedulingParams": self.update_scheduling_params,
        }

    async def precreate(
        self, ctx: Context, request: api_pb2.FunctionPrecreateRequest
    ) -> api_pb2.FunctionPrecreateResponse:
        function = self.world.functions.get(request.existing_function_id)
        if function is None:
            function = Function(
                request.existing_function_id or new_id("fu"), request.app_id, request.function_name
            )
            self.world.functions[function.function_id] = function
        function.metadata = api_pb2.FunctionHandleMetadata(
            function_name=request.function_name,
            function_type=request.function_type,
            function_schema=request.function_schema,
            definition_id=new_id("de"),
            supported_input_formats=request.supported_input_formats or [api_pb2.DATA_FORMAT_PICKLE],
            supported_output_formats=request.supported_output_formats or [api_pb2.DATA_FORMAT_PICKLE],
            app_id=request.app_id,
        )
        return api_pb2.FunctionPrecreateResponse(
            function_id=function.function_id, handle_metadata=function.metadata
        )

    async def create(
        self, ctx: Context, request: api_pb2.FunctionCreateRequest
    ) -> api_pb2.FunctionCreateResponse:
        ranked = [entry.function for entry in request.function_data.ranked_functions] or [request.function]
        first = ranked[0]
        function = self.world.functions.get(request.existing_function_id)
        if function is None:
            function = Function(new_id("fu"), request.app_id, first.function_name)
            function.metadata.app_id = request.app_id
            function.metadata.function_name = first.function_name
            function.metadata.function_type = first.function_type
            function.metadata.definition_id = new_id("de")
            function.metadata.supported_input_formats.extend(first.supported_input_formats)
            function.metadata.supported_output_formats.extend(first.supported_output_formats)
            self.world.functions[function.function_id] = function
        function.ranked = ranked
        if request.HasField("function_data"):
            function.data = request.function_data
        else:
            function.data = _data_of(first)
        return api_pb2.FunctionCreateResponse(
            function_id=function.function_id,
            function=first,
            handle_metadata=function.metadata,
            function_data=function.data,
        )

    async def get(self, ctx: Context, request: api_pb2.FunctionGetRequest) -> api_pb2.FunctionGetResponse:
        environment = environment_name(request.environment_name)
        for app in self.world.apps.values():
            deployed = app.state == api_pb2.APP_STATE_DEPLOYED
            if deployed and app.name == request.app_name and app.environment == environment:
                function_id = app.function_ids.get(request.object_tag)
                if function_id is None:
                    raise GRPCError(Status.NOT_FOUND, f"App has no function '{request.object_tag}'")
                function = self.world.functions[function_id]
                return api_pb2.FunctionGetResponse(
                    function_id=function_id, handle_metadata=function.metadata, function=function.data
                )
        raise GRPCError(
            Status.NOT_FOUND, f"App '{request.app_name}' not found in environment '{environment}'"
        )

    async def get_by_id(
        self, ctx: Context, request: api_pb2.FunctionGetByIdRequest
    ) -> api_pb2.FunctionGetByIdResponse:
        function = self.find(request.function_id)
        return api_pb2.FunctionGetByIdResponse(function=function.data, handle_metadata=function.metadata)

    async def bind_params(
        self, ctx: Context, request: api_pb2.FunctionBindParamsRequest
    ) -> api_pb2.FunctionBindParamsResponse:
        """A variant of a function with other options, what `with_options` makes."""
        base, options = self.find(request.function_id), request.function_options
        bound = Function(new_id("fu"), base.app_id, base.name)
        bound.metadata.CopyFrom(base.metadata)
        bound.metadata.base_function_id = base.function_id
        definition = api_pb2.Function()
        definition.CopyFrom(base.definition)
        for name in OPTIONS:
            if options.HasField(name):
                value = getattr(options, name)
                if name == "retry_policy":
                    definition.retry_policy.CopyFrom(value)
                else:
                    setattr(definition, name, value)
        if options.HasField("concurrency_limit"):
            definition.autoscaler_settings.max_containers = options.concurrency_limit
        if options.HasField("resources"):
            definition.resources.MergeFrom(options.resources)
        if options.replace_volume_mounts:
            del definition.volume_mounts[:]
        definition.volume_mounts.extend(options.volume_mounts)
        if options.replace_secret_ids:
            del definition.secret_ids[:]
        definition.secret_ids.extend(options.secret_ids)
        bound.ranked = [definition]
        bound.data = _data_of(definition)
        self.world.functions[bound.function_id] = bound
        return api_pb2.FunctionBindParamsResponse(
            bound_function_id=bound.function_id, handle_metadata=bound.metadata
        )

    async def current_stats(
        self, ctx: Context, request: api_pb2.FunctionGetCurrentStatsRequest
    ) -> api_pb2.FunctionStats:
        function = self.find(request.function_id)
        open_inputs = [
            entry
            for entry in self.world.inputs.values()
            if entry.function_id == function.function_id and not entry.finished
        ]
        running = sum(bool(entry.task_id) for entry in open_inputs)
        tasks = [t for t in self.world.tasks.values() if t.running and t.function_id == function.function_id]
        return api_pb2.FunctionStats(
            backlog=len(open_inputs) - running, num_total_tasks=len(tasks), num_running_inputs=running
        )

    async def scheduling_params(
        self, ctx: Context, request: api_pb2.FunctionGetSchedulingParamsRequest
    ) -> api_pb2.FunctionGetSchedulingParamsResponse:
        settings = self.find(request.function_id).definition.autoscaler_settings
        configuration = api_pb2.AutoscalerConfiguration(settings=settings)
        return api_pb2.FunctionGetSchedulingParamsResponse(autoscaler_configuration=configuration)

    async def update_scheduling_params(
        self, ctx: Context, request: api_pb2.FunctionUpdateSchedulingParamsRequest
    ) -> api_pb2.FunctionUpdateSchedulingParamsResponse:
        settings = self.find(request.function_id).definition.autoscaler_settings
        settings.MergeFrom(request.settings)
        self.world.changed.notify()
        return api_pb2.FunctionUpdateSchedulingParamsResponse(current_settings=settings)

    def find(self, function_id: str) -> Function:
        function = self.world.functions.get(function_id)
        if function is None:
            raise GRPCError(Status.NOT_FOUND, f"Function '{function_id}' not found.")
        return function


def _data_of(definition: api_pb2.Function) -> api_pb2.FunctionData:
    """The wrapper around a function with one GPU type: the fields that both have, and the function."""
    data = api_pb2.FunctionData()
    for field, value in definition.ListFields():
        twin = data.DESCRIPTOR.fields_by_name.get(field.name)
        if twin is None or twin.type != field.type or twin.message_type != field.message_type:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is None:
                getattr(data, field.name).update(value)
            else:
                for key, entry in value.items():
                    getattr(data, field.name)[key].CopyFrom(entry)
        elif field.is_repeated:
            getattr(data, field.name).extend(value)
        elif field.message_type is not None:
            getattr(data, field.name).CopyFrom(value)
        else:
            setattr(data, field.name, value)
    data.ranked_functions.add(rank=0, function=definition)
    return data


def gpu_of(definition: api_pb2.Function) -> str:
    """`H100`, `A100-80GB:2`, or "" without one."""
    config = definition.resources.gpu_config
    if not config.count:
        return ""
    return config.gpu_type.upper() + (f":{config.count}" if config.count > 1 else "")
