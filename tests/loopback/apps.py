"""Apps: created, published, looked up, listed, tagged, stopped; and when one ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .state import App, environment_name, new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from .server import Context
    from .state import World

TICK = 0.1
FAILED_LOCALLY = (
    api_pb2.APP_DISCONNECT_REASON_LOCAL_EXCEPTION,
    api_pb2.APP_DISCONNECT_REASON_DEPLOYMENT_EXCEPTION,
)


class Apps:
    def __init__(self, world: World) -> None:
        self.world = world
        self._watcher: asyncio.Task[None] | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._history: dict[str, list[api_pb2.AppDeploymentHistory]] = {}

    def handlers(self) -> dict[str, Callable]:
        return {
            "AppCreate": self.create,
            "AppHeartbeat": self.heartbeat,
            "AppPublish": self.publish,
            "AppClientDisconnect": self.disconnect,
            "AppStop": self.stop_app,
            "AppList": self.list_apps,
            "AppGetOrCreate": self.get_or_create,
            "AppLookup": self.lookup,
            "AppGetByDeploymentName": self.by_deployment_name,
            "AppGetInfo": self.info,
            "AppGetLifecycle": self.lifecycle,
            "AppGetLayout": self.get_layout,
            "AppSetTags": self.set_tags,
            "AppGetTags": self.get_tags,
            "AppDeploymentHistory": self.history,
            "ObjectSuggest": self.suggest,
        }

    async def start(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        for task in [self._watcher, *self._stopping]:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def create(self, ctx: Context, request: api_pb2.AppCreateRequest) -> api_pb2.AppCreateResponse:
        app = App(
            app_id=new_id("ap"),
            description=request.description,
            environment=environment_name(request.environment_name),
            state=request.app_state or api_pb2.APP_STATE_EPHEMERAL,
            detached=request.app_state == api_pb2.APP_STATE_DETACHED,
            tags=dict(request.tags),
        )
        self.world.apps[app.app_id] = app
        self.world.changed.notify()
        url = f"{self.world.url}/apps/{app.app_id}"
        return api_pb2.AppCreateResponse(app_id=app.app_id, app_page_url=url, app_logs_url=f"{url}/logs")

    async def heartbeat(self, ctx: Context, request: api_pb2.AppHeartbeatRequest) -> Empty:
        self._app(request.app_id).last_heartbeat = time.time()
        return Empty()

    async def publish(self, ctx: Context, request: api_pb2.AppPublishRequest) -> api_pb2.AppPublishResponse:
        app = self._app(request.app_id)
        app.function_ids = dict(request.function_ids)
        app.class_ids = dict(request.class_ids)
        app.tags.update(request.tags)
        if request.app_state == api_pb2.APP_STATE_DEPLOYED:
            app.name = request.name or app.name
            app.deployed_at = time.time()
            app.version += 1
            self._history.setdefault(app.app_id, []).append(
                api_pb2.AppDeploymentHistory(
                    app_id=app.app_id,
                    version=app.version,
                    client_version=request.client_version,
                    deployed_at=app.deployed_at,
                    deployed_by=self.world.workspace,
                    tag=request.deployment_tag,
                )
            )
        if request.app_state:
            app.state = request.app_state
        self.world.changed.notify()
        url = f"{self.world.url}/apps/{app.app_id}"
        return api_pb2.AppPublishResponse(url=url, deployed_at=app.deployed_at)

    async def disconnect(self, ctx: Context, request: api_pb2.AppClientDisconnectRequest) -> Empty:
        app = self._app(request.app_id)
        app.disconnect_reason = request.reason
        self._client_gone(app, failed=request.reason in FAILED_LOCALLY)
        return Empty()

    async def stop_app(self, ctx: Context, request: api_pb2.AppStopRequest) -> Empty:
        self.end(self._app(request.app_id), request.source)
        return Empty()

    def end(self, app: App, source: int = 0) -> None:
        """Stop all in the app, for good. Returns at once; it is STOPPED when its containers are gone."""
        if not app.running:
            return
        app.state = api_pb2.APP_STATE_STOPPING
        app.stop_source = source
        task = asyncio.create_task(self._end(app))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def list_apps(self, ctx: Context, request: api_pb2.AppListRequest) -> api_pb2.AppListResponse:
        environment = environment_name(request.environment_name)
        items = [
            api_pb2.AppListResponse.AppListItem(
                app_id=app.app_id,
                description=app.description,
                state=app.state,
                created_at=app.created_at,
                stopped_at=app.stopped_at,
                n_running_tasks=sum(t.running and t.app_id == app.app_id for t in self.world.tasks.values()),
                name=app.name,
                metadata=self._metadata(app),
            )
            for app in self.world.apps.values()
            if app.environment == environment
        ]
        return api_pb2.AppListResponse(apps=items)

    async def get_or_create(
        self, ctx: Context, request: api_pb2.AppGetOrCreateRequest
    ) -> api_pb2.AppGetOrCreateResponse:
        environment = environment_name(request.environment_name)
        app = self.world.apps.get(request.app_name) or self._deployed(request.app_name, environment)
        if app is None:
            if request.object_creation_type != api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING:
                raise GRPCError(
                    Status.NOT_FOUND, f"App '{request.app_name}' not found in environment '{environment}'."
                )
            app = App(
                app_id=new_id("ap"),
                description=request.app_name,
                environment=environment,
                state=api_pb2.APP_STATE_DEPLOYED,
                detached=False,
                name=request.app_name,
                deployed_at=time.time(),
            )
            self.world.apps[app.app_id] = app
        return api_pb2.AppGetOrCreateResponse(app_id=app.app_id, handle_metadata=self._metadata(app))

    async def lookup(self, ctx: Context, request: api_pb2.AppLookupRequest) -> api_pb2.AppLookupResponse:
        app = self._deployed(request.app_name, environment_name(request.environment_name))
        if app is None:
            raise GRPCError(Status.NOT_FOUND, f"App '{request.app_name}' not found.")
        return api_pb2.AppLookupResponse(app_id=app.app_id)

    async def by_deployment_name(
        self, ctx: Context, request: api_pb2.AppGetByDeploymentNameRequest
    ) -> api_pb2.AppGetByDeploymentNameResponse:
        environment = environment_name(request.environment_name)
        response = api_pb2.AppGetByDeploymentNameResponse(environment_name=environment)
        app = self._deployed(request.name, environment)
        if app is not None:
            response.app_id = app.app_id
        else:
            for app in self.world.apps.values():
                if app.name == request.name and app.environment == environment:
                    response.previous_app_id = app.app_id
                    break
        if app is not None:
            response.lifecycle.CopyFrom(self._lifecycle(app))
        return response

    async def info(self, ctx: Context, request: api_pb2.AppGetInfoRequest) -> api_pb2.AppGetInfoResponse:
        return api_pb2.AppGetInfoResponse(info=self._metadata(self._app(request.app_id)))

    async def lifecycle(
        self, ctx: Context, request: api_pb2.AppGetLifecycleRequest
    ) -> api_pb2.AppGetLifecycleResponse:
        return api_pb2.AppGetLifecycleResponse(lifecycle=self._lifecycle(self._app(request.app_id)))

    async def get_layout(
        self, ctx: Context, request: api_pb2.AppGetLayoutRequest
    ) -> api_pb2.AppGetLayoutResponse:
        return api_pb2.AppGetLayoutResponse(app_layout=self.layout(self._app(request.app_id)))

    async def set_tags(self, ctx: Context, request: api_pb2.AppSetTagsRequest) -> Empty:
        self._app(request.app_id).tags = dict(request.tags)
        return Empty()

    async def get_tags(self, ctx: Context, request: api_pb2.AppGetTagsRequest) -> api_pb2.AppGetTagsResponse:
        return api_pb2.AppGetTagsResponse(tags=self._app(request.app_id).tags)

    async def history(
        self, ctx: Context, request: api_pb2.AppDeploymentHistoryRequest
    ) -> api_pb2.AppDeploymentHistoryResponse:
        app = self._app(request.app_id)
        return api_pb2.AppDeploymentHistoryResponse(
            app_deployment_histories=self._history.get(app.app_id, []), production_app_version=app.version
        )

    async def suggest(
        self, ctx: Context, request: api_pb2.ObjectSuggestRequest
    ) -> api_pb2.ObjectSuggestResponse:
        """The CLI's "did you mean …?": nothing comes to mind."""
        return api_pb2.ObjectSuggestResponse()

    def layout(self, app: App) -> api_pb2.AppLayout:
        """The app's functions with what a container needs to make handles of them."""
        layout = api_pb2.AppLayout(function_ids=app.function_ids, class_ids=app.class_ids)
        for function_id in app.function_ids.values():
            function = self.world.functions.get(function_id)
            if function is not None:
                layout.objects.add(object_id=function_id, function_handle_metadata=function.metadata)
        return layout

    def _app(self, app_id: str) -> App:
        app = self.world.apps.get(app_id)
        if app is None:
            raise GRPCError(Status.NOT_FOUND, f"App '{app_id}' not found.")
        return app

    def _deployed(self, name: str, environment: str) -> App | None:
        for app in self.world.apps.values():
            if (
                app.state == api_pb2.APP_STATE_DEPLOYED
                and app.name == name
                and app.environment == environment
            ):
                return app
        return None

    def _lifecycle(self, app: App) -> api_pb2.AppLifecycle:
        stopped_by = self.world.workspace if app.stop_source else ""
        return api_pb2.AppLifecycle(
            app_state=app.state,
            created_at=app.created_at,
            created_by=self.world.workspace,
            deployed_at=app.deployed_at,
            deployed_by=self.world.workspace if app.deployed_at else "",
            version=app.version,
            stopped_at=app.stopped_at,
            stopped_by=stopped_by,
        )

    def _metadata(self, app: App) -> api_pb2.AppHandleMetadata:
        return api_pb2.AppHandleMetadata(
            description=app.description,
            app_id=app.app_id,
            environment_name=app.environment,
            lifecycle=self._lifecycle(app),
            functions=app.function_ids,
        )

    def _client_gone(self, app: App, *, failed: bool) -> None:
        app.client_connected = False
        if app.state == api_pb2.APP_STATE_DEPLOYED or not app.running:
            return
        if not app.detached or failed:
            self.end(app)
            return
        app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED
        # Modal keeps only the call that the client made last.
        calls = [
            call
            for call in self.world.calls.values()
            if call.app_id == app.app_id and not call.parent_input_id
        ]
        for call in calls[:-1]:
            self.world.services["calls"].cancel(call, terminate=False)
        self.world.changed.notify()

    async def _end(self, app: App) -> None:
        calls, execution = self.world.services["calls"], self.world.services["execution"]
        for call in list(self.world.calls.values()):
            if call.app_id == app.app_id:
                calls.abandon(call)
        self.world.changed.notify()
        await execution.stop_tasks(app.app_id)
        app.state = api_pb2.APP_STATE_STOPPED
        app.stopped_at = time.time()
        app.logs_done = True
        app.log_changed.notify()
        self.world.changed.notify()

    def _idle(self, app: App) -> bool:
        """Has the app had a call, and is nothing left to do?"""
        calls = [call for call in self.world.calls.values() if call.app_id == app.app_id]
        if not calls:
            return False
        inputs = (self.world.inputs[input_id] for call in calls for input_id in call.input_ids)
        return all(entry.finished for entry in inputs)

    async def _watch(self) -> None:
        """Notice clients that died, and detached apps that have nothing left to do."""
        idle_since: dict[str, float] = {}
        while True:
            await asyncio.sleep(TICK)
            knobs = self.world.knobs
            for app in list(self.world.apps.values()):
                if not app.running or app.state == api_pb2.APP_STATE_DEPLOYED:
                    continue
                silent = time.time() - app.last_heartbeat
                if app.client_connected and knobs.heartbeat_timeout and silent > knobs.heartbeat_timeout:
                    self._client_gone(app, failed=False)
                if not (
                    app.detached and knobs.detached_apps_stop and not app.client_connected and self._idle(app)
                ):
                    idle_since.pop(app.app_id, None)
                elif (
                    time.monotonic() - idle_since.setdefault(app.app_id, time.monotonic())
                    > knobs.detached_linger
                ):
                    self.end(app)
