"""Images: definitions, their builds (at once, or streamed line by line), and what they set for a container.

Nothing is installed: a container is a subprocess with the server's own interpreter and packages. What an
image decides are environment variables, the working folder and how long, and whether, its build succeeds.

The same definition is the same image. Layers of Modal's own (namespace GLOBAL) are always built already. Any
other layer takes the knob `build_delay` (seconds; 0: built at once) when it has a RUN command, and ends with
the knob `build_failure` as its last line when that is set; a failed build is not remembered, as on Modal.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shlex
import string
import time
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .state import App, LogEntry, Notifier, new_id
from .store import Image, Store, store_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .server import Context
    from .state import World

SUCCESS = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
JOIN_SECONDS = 55.0


class Images:
    """The service; see server.py for how it is plugged in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store: Store = store_of(world)
        self._grown = Notifier()
        self._builds: set[asyncio.Task[None]] = set()

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "ImageGetOrCreate": self.get_or_create,
            "ImageJoinStreaming": self.join_streaming,
            "ImageFromId": self.from_id,
            "ImageDelete": self.delete,
            "ImagePublish": self.publish,
            "ImageGetByTag": self.get_by_tag,
            "ImageBuildChainGet": self.build_chain,
        }

    async def stop(self) -> None:
        for build in self._builds:
            build.cancel()
        await asyncio.gather(*self._builds, return_exceptions=True)

    # For execution.py.

    def environment(self, image_id: str) -> dict[str, str]:
        """What the ENV lines of the image and its bases set; nothing for an empty id."""
        return dict(self.image(image_id).env) if image_id else {}

    def workdir(self, image_id: str) -> str:
        """The last WORKDIR of the image and its bases; "" when there is none."""
        return self.image(image_id).workdir if image_id else ""

    def image(self, image_id: str) -> Image:
        """The image with that id; NOT_FOUND else."""
        found = self.store.images.get(image_id)
        if found is None:
            raise GRPCError(Status.NOT_FOUND, f"Image {image_id!r} not found")
        return found

    def layers(self, image_id: str) -> list[Image]:
        """The image and all that it stands on, the lowest first."""
        image = self.image(image_id)
        return [layer for base in image.base_ids for layer in self.layers(base)] + [image]

    # RPCs.

    async def get_or_create(
        self, ctx: Context, request: api_pb2.ImageGetOrCreateRequest
    ) -> api_pb2.ImageGetOrCreateResponse:
        image = None
        if not (request.force_build or request.ignore_cache):
            key = _key(request)
            image = next((i for i in self.store.images.values() if i.key == key and not _failed(i)), None)
        if image is None:
            image = self._create(request)
            if request.namespace == api_pb2.DEPLOYMENT_NAMESPACE_GLOBAL or not self._takes_time(image):
                for line in _build_lines(image):
                    self._log(image, line)
                self._finish(image, SUCCESS)
            else:
                build = asyncio.create_task(self._build(image))
                self._builds.add(build)
                build.add_done_callback(self._builds.discard)
        return api_pb2.ImageGetOrCreateResponse(
            image_id=image.image_id, result=image.result, metadata=_metadata(image) if image.result else None
        )

    async def join_streaming(
        self, ctx: Context, request: api_pb2.ImageJoinStreamingRequest
    ) -> AsyncIterator[api_pb2.ImageJoinStreamingResponse]:
        image = self.image(request.image_id)
        deadline = time.monotonic() + (request.timeout or JOIN_SECONDS)
        # Entry ids are "<time>-<number>": the number is the place in the log.
        at = int(request.last_entry_id.rpartition("-")[2]) + 1 if request.last_entry_id else 0
        while True:
            finished = image.result is not None
            for entry_id, line in image.log[at:]:
                yield api_pb2.ImageJoinStreamingResponse(task_logs=[line], entry_id=entry_id)
                at += 1
            if finished:
                yield api_pb2.ImageJoinStreamingResponse(
                    result=image.result, metadata=_metadata(image), eof=True
                )
                return
            left = deadline - time.monotonic()
            if left <= 0 or not await self._grown.wait(left):
                return

    async def from_id(self, ctx: Context, request: api_pb2.ImageFromIdRequest) -> api_pb2.ImageFromIdResponse:
        image = self.image(request.image_id)
        return api_pb2.ImageFromIdResponse(image_id=image.image_id, metadata=_metadata(image))

    async def delete(self, ctx: Context, request: api_pb2.ImageDeleteRequest) -> Empty:
        del self.store.images[self.image(request.image_id).image_id]
        return Empty()

    async def publish(
        self, ctx: Context, request: api_pb2.ImagePublishRequest
    ) -> api_pb2.ImagePublishResponse:
        image = self.image(request.image_id)
        self.store.image_tags[request.tag] = image.image_id
        return api_pb2.ImagePublishResponse(image_id=image.image_id, revision_id=new_id("ir"))

    async def get_by_tag(
        self, ctx: Context, request: api_pb2.ImageGetByTagRequest
    ) -> api_pb2.ImageGetByTagResponse:
        image_id = self.store.image_tags.get(request.tag)
        if image_id is None:
            raise GRPCError(Status.NOT_FOUND, f"Image {request.tag!r} not found")
        return api_pb2.ImageGetByTagResponse(image_id=image_id)

    async def build_chain(
        self, ctx: Context, request: api_pb2.ImageBuildChainGetRequest
    ) -> api_pb2.ImageBuildChainGetResponse:
        response = api_pb2.ImageBuildChainGetResponse()
        for layer in self.layers(request.image_id):
            step = response.build_steps.add(
                image_id=layer.image_id,
                builder_app_id=_builder("ap", layer),
                builder_task_id=_builder("ta", layer),
            )
            step.started_at.FromNanoseconds(int(layer.created_at * 1e9))
            step.finished_at.FromNanoseconds(int((layer.finished_at or time.time()) * 1e9) + 1_000_000)
        return response

    # For logs.py.

    def builder_app(self, app_id: str) -> App | None:
        """The app that is said to have built an image, with the build's lines as its log; listed nowhere."""
        image = next((i for i in self.store.images.values() if _builder("ap", i) == app_id), None)
        if image is None:
            return None
        app = App(app_id, "image builder", "", api_pb2.APP_STATE_STOPPED, detached=False, logs_done=True)
        app.logs = [
            LogEntry(
                sequence=number,
                timestamp_ns=line.timestamp_ns,
                data=line.data,
                file_descriptor=line.file_descriptor,
                task_id=line.container_id,
            )
            for number, (_, line) in enumerate(image.log, 1)
        ]
        app.log_sequence = len(app.logs)
        return app

    # Building.

    def _create(self, request: api_pb2.ImageGetOrCreateRequest) -> Image:
        bases = [self.image(base.image_id) for base in request.image.base_images]
        image = Image(
            image_id=new_id("im"),
            key=_key(request),
            definition=request.image,
            builder_version=request.builder_version or self.store.account.image_builder_version,
            base_ids=[base.image_id for base in bases],
            env={},
            workdir=bases[0].workdir if bases else "",
            python=bases[0].python if bases else "",
            created_at=time.time(),
        )
        for base in bases:
            image.env.update(base.env)
        for command in request.image.dockerfile_commands:
            word, _, rest = command.strip().partition(" ")
            if word.upper() == "ENV":
                image.env.update(_env_line(rest, image.env))
            elif word.upper() == "WORKDIR":
                image.workdir = rest.strip()
            elif word.upper() == "FROM" and (version := re.search(r"python:(\d+(?:\.\d+)+)", rest)):
                image.python = version[1]
        self.store.images[image.image_id] = image
        return image

    def _takes_time(self, image: Image) -> bool:
        knobs = self.world.knobs
        return image.definition.HasField("build_function") or (
            bool(knobs.build_delay or knobs.build_failure)
            and any(
                command.lstrip().upper().startswith("RUN") for command in image.definition.dockerfile_commands
            )
        )

    async def _build(self, image: Image) -> None:
        lines = _build_lines(image)
        pause = self.world.knobs.build_delay / len(lines)
        for line in lines:
            self._log(image, line)
            await asyncio.sleep(pause)
        failure = self.world.knobs.build_failure
        if image.definition.HasField("build_function"):
            failure = (
                "the loopback Modal does not run functions while it builds an image (Image.run_function)"
            )
        if not failure:
            self._finish(image, SUCCESS)
            return
        # As on Modal: the reason is in the log only, the result just says that it failed.
        self._log(image, f"{failure}\n", api_pb2.FILE_DESCRIPTOR_STDERR)
        self._log(image, "Terminating task due to error: failed to run builder command\n")
        failed = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_FAILURE, exitcode=1)
        self._finish(image, failed)

    def _log(self, image: Image, line: str, descriptor: int = api_pb2.FILE_DESCRIPTOR_STDOUT) -> None:
        now = time.time_ns()
        entry = api_pb2.TaskLogs(
            data=line,
            timestamp=now / 1e9,
            timestamp_ns=now,
            file_descriptor=descriptor,
            container_id=_builder("ta", image),
        )
        image.log.append((f"{now // 1_000_000}-{len(image.log)}", entry))
        self._grown.notify()

    def _finish(self, image: Image, result: api_pb2.GenericResult) -> None:
        image.finished_at = time.time()
        image.result = result
        self._grown.notify()


def _key(request: api_pb2.ImageGetOrCreateRequest) -> str:
    """What makes two requests ask for the same image."""
    definition = request.image.SerializeToString(deterministic=True)
    return hashlib.sha256(definition + request.builder_version.encode("utf-8")).hexdigest()


def _failed(image: Image) -> bool:
    return image.result is not None and image.result.status != api_pb2.GenericResult.GENERIC_STATUS_SUCCESS


def _builder(prefix: str, image: Image) -> str:
    """The id of the app or task that is said to have built the image."""
    return f"{prefix}-{image.image_id.partition('-')[2]}"


def _metadata(image: Image) -> api_pb2.ImageMetadata:
    return api_pb2.ImageMetadata(
        python_version_info=f"Python {image.python}" if image.python else None,
        workdir=image.workdir or None,
        image_builder_version=image.builder_version,
    )


def _build_lines(image: Image) -> list[str]:
    lines = [
        f"=> Step {number}: {command}\n"
        for number, command in enumerate(image.definition.dockerfile_commands)
    ]
    return [f"Building image {image.image_id}\n", *lines, "Saving image...\n"]


def _env_line(rest: str, before: dict[str, str]) -> dict[str, str]:
    """Variables of one ENV line: `A=1 B="2 3"`, or the old form `A 1`. `$NAME` refers to the lines before."""
    words = shlex.split(rest)
    if words and "=" not in words[0]:
        pairs = [(words[0], rest.strip()[len(words[0]) :].strip())]
    else:
        pairs = [(name, value) for name, _, value in (word.partition("=") for word in words)]
    return {name: string.Template(value).safe_substitute(before) for name, value in pairs}
