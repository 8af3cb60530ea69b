"""One ephemeral, detached app a launch: created, given its single call, and left alone.

Modal keeps a detached app alive once its call exists; until then whatever breaks off must stop it, so the
caller learns of the app's id the moment there is one, and of the call's before anything else happens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from backend.launchers.modal.faults import explain
from backend.launchers.modal.gateway import Gateway, ModalVolume, load_sdk
from backend.launchers.modal.image import build_image
from backend.launchers.modal.remote import RemoteError

RUN_TAG = "lora-run"
"""Tag of every app of ours: the id of its run."""

LAUNCH_TAG, TOOL_TAG, TOOL = "lora-launch", "tool", "fluxlora-tui"

_STARTUP_SECONDS = 1800  # pulling an image of several GB onto a fresh machine takes minutes
_MAX_SECONDS = 86_400  # Modal's limit for one attempt
_LOOK = 0.02


@dataclass(frozen=True, kw_only=True)
class AppPlan:
    """What to run where.

    Attributes:
        run_id: Whose app it is.
        launch: Number of the launch.
        gpu: GPUs in the order in which they are tried; none for a CPU container.
        volumes: Volumes by the path at which they are mounted.
        secrets: Variables that only the container may know.
        cpu: Cores.
        memory: GiB.
        seconds: Time limit of one attempt.
        retries: How often a failed attempt is repeated.
        packages: What the image has beside the ``train`` extra.
        sampler_gpu: GPUs of a second function that draws samples; none if there is no such function.
    """

    run_id: str
    launch: int
    gpu: tuple[str, ...]
    volumes: Mapping[str, ModalVolume]
    secrets: Mapping[str, str] = field(default_factory=dict)
    cpu: float = 4.0
    memory: int = 32
    seconds: float = _MAX_SECONDS
    retries: int = 3
    packages: tuple[str, ...] = ()
    sampler_gpu: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spawned:
    """A call that goes on by itself."""

    app_id: str
    call_id: str
    function_id: str


class BuildLog:
    """Takes the lines of image builds from the SDK and passes them on."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._rest = ""

    def feed(self, text: str) -> None:
        """Take a piece of output."""
        *lines, self._rest = (self._rest + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            if line.strip():
                self._line(line)


async def launch_app(
    gateway: Gateway,
    plan: AppPlan,
    worker: Callable[[dict[str, Any]], dict[str, Any]],
    argument: Mapping[str, Any],
    *,
    sampler: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    on_app: Callable[[str], None],
    on_spawn: Callable[[Spawned], None],
    on_build: Callable[[str], None],
) -> Spawned:
    """Create the app, build its image if need be, and make its one call.

    Args:
        gateway: The connection.
        plan: What to run where.
        worker: The global function that the container calls; it takes and returns plain data.
        argument: Its argument, small and without secrets; ``sample_function_id`` is added.
        sampler: Function for a second, cheaper kind of container.
        on_app: Told the app's id as soon as there is an app: write it down.
        on_spawn: Told of the call before anything else is done: write it down.
        on_build: Told each line of an image that is being built.

    Raises:
        RemoteError: It did not come to a call; the app, if there was one, was asked to stop.
    """
    modal, client = await load_sdk(), await gateway.client()
    app = modal.App(
        f"lora-{plan.run_id}",
        tags={RUN_TAG: plan.run_id, LAUNCH_TAG: str(plan.launch), TOOL_TAG: TOOL},
        include_source=False,
    )
    image = build_image(modal, plan.packages)
    shared: dict[str, Any] = {
        "image": image,
        "volumes": {path: volume.handle for path, volume in plan.volumes.items()},
        "secrets": [modal.Secret.from_dict(dict(plan.secrets))] if plan.secrets else [],
        "timeout": int(min(_MAX_SECONDS, max(60, plan.seconds))),
        "startup_timeout": _STARTUP_SECONDS,
        "cpu": plan.cpu,
        "memory": plan.memory * 1024,
        "single_use_containers": True,
    }
    function = app.function(
        **shared,
        gpu=list(plan.gpu) or None,
        max_containers=1,
        retries=modal.Retries(max_retries=plan.retries, initial_delay=10.0, backoff_coefficient=1.0),
    )(worker)
    second = (
        app.function(**shared, gpu=list(plan.sampler_gpu) or None, max_containers=1)(sampler)
        if sampler is not None
        else None
    )
    watcher = asyncio.create_task(_tell_app_id(app, on_app))
    try:
        with _build_lines(BuildLog(on_build)):
            async with app.run.aio(detach=True, client=client, environment_name=gateway.environment):
                on_app(str(app.app_id))
                full = {**argument, "sample_function_id": second.object_id if second is not None else None}
                call = await function.spawn.aio(full)
                spawned = Spawned(str(app.app_id), str(call.object_id), str(function.object_id))
                on_spawn(spawned)
        return spawned
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if app.app_id:  # the SDK takes an app with it that fails; this makes sure of it
            with contextlib.suppress(RemoteError):
                await gateway.stop_app(str(app.app_id))
        raise explain(error, "launching on Modal") from error
    finally:
        watcher.cancel()


async def _tell_app_id(app: Any, on_app: Callable[[str], None]) -> None:
    """Tell the app's id while its image may still be building for minutes."""
    while True:
        if app.app_id:
            on_app(str(app.app_id))
            return
        await asyncio.sleep(_LOOK)


@contextlib.contextmanager
def _build_lines(log: BuildLog) -> Any:
    """Have the SDK's image build lines come to ``log``.

    The SDK offers them only to its own terminal output, whose manager is private; without it the build
    simply goes on unseen.
    """
    try:
        from modal._output import manager

        class Listener(manager.DisabledOutputManager):  # type: ignore[misc]
            async def put_streaming_log(self, entry: Any, prefix: str = "") -> None:
                log.feed(str(entry.data))

        before = manager.OutputManager.get()
        manager.OutputManager._set(Listener())
    except (ImportError, AttributeError, TypeError):
        yield
        return
    try:
        yield
    finally:
        manager.OutputManager._set(before)
