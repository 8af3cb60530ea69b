"""Volumes, version 1 and 2: naming, listing, reading, uploading, and the commit and reload of containers.

`checkout`, `commit` and `finish` are for execution.py; what they promise is told in copies.py. Clients always
see the last commit. Reads go through `VolumeGetFile2`: one URL for each 8 MiB block of the wanted range
(blobs.py serves them).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .copies import WorkingCopies, node_of_file, read_node
from .state import new_id
from .store import BLOCK_BYTES, EMPTY_SHA256, Store, Volume, store_of
from .trees import FileNode, FolderNode, Node, TreeError, clean_path
from .volume_view import VolumeView

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from .server import Context
    from .state import World

ENTRIES_A_MESSAGE = 500
INLINE_BYTES = 2 * 1024 * 1024
_STATUS = {
    "missing": Status.NOT_FOUND,
    "exists": Status.ALREADY_EXISTS,
    "invalid": Status.INVALID_ARGUMENT,
    "full": Status.RESOURCE_EXHAUSTED,
}


@contextlib.contextmanager
def _tree_errors() -> Iterator[None]:
    """Turns what a tree refuses into the gRPC status for it."""
    try:
        yield
    except TreeError as error:
        raise GRPCError(_STATUS[error.kind], str(error)) from None


def volume_metadata(volume: Volume) -> api_pb2.VolumeMetadata:
    """What the SDK keeps of a volume (also the handle metadata in an app's layout)."""
    created = api_pb2.CreationInfo(created_at=volume.created_at, created_by=volume.created_by)
    return api_pb2.VolumeMetadata(version=volume.version, name=volume.name, creation_info=created)


class Volumes:
    """The service; see server.py for how it is plugged in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store: Store = store_of(world)
        self.copies = WorkingCopies(self.store)

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "VolumeGetOrCreate": self.get_or_create,
            "VolumeGetById": self.get_by_id,
            "VolumeList": self.list_volumes,
            "VolumeRename": self.rename,
            "VolumeDelete": self.delete,
            "VolumeHeartbeat": self.heartbeat,
            "VolumeListFiles": self.list_files,
            "VolumeListFiles2": self.list_files2,
            "VolumeGetFile": self.get_file,
            "VolumeGetFile2": self.get_file2,
            "VolumePutFiles": self.put_files,
            "VolumePutFiles2": self.put_files2,
            "VolumeRemoveFile": self.remove_file,
            "VolumeRemoveFile2": self.remove_file,
            "VolumeCopyFiles": self.copy_files,
            "VolumeCopyFiles2": self.copy_files,
            "VolumeCommit": self.volume_commit,
            "VolumeReload": self.volume_reload,
        }

    # For execution.py.

    async def checkout(
        self, volume_id: str, task_id: str, *, sub_path: str = "", read_only: bool = False
    ) -> Path:
        """A private working copy of the volume's last commit; background commits run until `finish`.

        `sub_path`: give that folder of it (made if missing). `read_only`: never commit it.
        """
        return await self.copies.checkout(volume_id, task_id, sub_path=sub_path, read_only=read_only)

    async def commit(self, task_id: str, volume_id: str) -> None:
        """Publish what the task changed. Raises GRPCError when the volume is full, deleted or not mounted."""
        await self.copies.commit(task_id, volume_id)

    async def finish(self, task_id: str, *, commit: bool) -> list[str]:
        """The container has ended: last commit (if `commit`), then the working copies go away. Never raises.

        Returns a sentence for each volume that could not be committed, for the app's log.
        """
        return await self.copies.close(task_id, commit=commit)

    async def stop(self) -> None:
        """The server goes away: no commit is left running."""
        await self.copies.stop()

    # Names.

    async def get_or_create(
        self, ctx: Context, request: api_pb2.VolumeGetOrCreateRequest
    ) -> api_pb2.VolumeGetOrCreateResponse:
        store, kind, name = self.store, request.object_creation_type, request.deployment_name
        environment = store.environment(request.environment_name).name
        anonymous = kind in (
            api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL,
            api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP,
        )
        with store.lock:
            volume = None if anonymous else store.named(store.volumes, name, environment)
            if volume is not None and kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
                raise GRPCError(
                    Status.ALREADY_EXISTS, f"Volume {name!r} already exists in environment {environment!r}"
                )
            if volume is None:
                if kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                    volume = store.volume_by_name(name, environment)  # says NOT_FOUND
                else:
                    volume = self.create("" if anonymous else name, environment, request.version)
        return api_pb2.VolumeGetOrCreateResponse(
            volume_id=volume.volume_id, version=volume.version, metadata=volume_metadata(volume)
        )

    def create(self, name: str, environment: str = "", version: int = 0) -> Volume:
        """A new, empty volume (version 0: the default, 1)."""
        volume = Volume(
            volume_id=new_id("vo"),
            name=name,
            environment=self.store.environment(environment).name,
            version=version or api_pb2.VOLUME_FS_VERSION_V1,
            created_at=time.time(),
            created_by=self.store.account.username,
        )
        with self.store.lock:
            self.store.volumes[volume.volume_id] = volume
        return volume

    async def get_by_id(
        self, ctx: Context, request: api_pb2.VolumeGetByIdRequest
    ) -> api_pb2.VolumeGetByIdResponse:
        volume = self.store.volume(request.volume_id)
        return api_pb2.VolumeGetByIdResponse(volume_id=volume.volume_id, metadata=volume_metadata(volume))

    async def list_volumes(
        self, ctx: Context, request: api_pb2.VolumeListRequest
    ) -> api_pb2.VolumeListResponse:
        environment = self.store.environment(request.environment_name).name
        with self.store.lock:
            named = [v for v in self.store.volumes.values() if v.name and v.environment == environment]
        return api_pb2.VolumeListResponse(
            environment_name=environment,
            items=[
                api_pb2.VolumeListItem(
                    label=volume.name,
                    volume_id=volume.volume_id,
                    created_at=volume.created_at,
                    metadata=volume_metadata(volume),
                )
                for volume in newest_first(named, request.pagination)
            ],
        )

    async def rename(self, ctx: Context, request: api_pb2.VolumeRenameRequest) -> Empty:
        with self.store.lock:
            volume = self.store.volume(request.volume_id)
            other = self.store.named(self.store.volumes, request.name, volume.environment)
            if other is not None and other is not volume:
                raise GRPCError(Status.ALREADY_EXISTS, f"Volume {request.name!r} already exists")
            volume.name = request.name
        return Empty()

    async def delete(self, ctx: Context, request: api_pb2.VolumeDeleteRequest) -> Empty:
        with self.store.lock:
            del self.store.volumes[self.store.volume(request.volume_id).volume_id]
        return Empty()

    async def heartbeat(self, ctx: Context, request: api_pb2.VolumeHeartbeatRequest) -> Empty:
        self.store.volume(request.volume_id).heartbeat_at = time.time()
        return Empty()

    # Reading.

    async def list_files(
        self, ctx: Context, request: api_pb2.VolumeListFilesRequest
    ) -> AsyncIterator[api_pb2.VolumeListFilesResponse]:
        for entries in self._entries(request):
            yield api_pb2.VolumeListFilesResponse(entries=entries)

    async def list_files2(
        self, ctx: Context, request: api_pb2.VolumeListFiles2Request
    ) -> AsyncIterator[api_pb2.VolumeListFiles2Response]:
        for entries in self._entries(request):
            yield api_pb2.VolumeListFiles2Response(entries=entries)

    def _entries(
        self, request: api_pb2.VolumeListFilesRequest | api_pb2.VolumeListFiles2Request
    ) -> Iterator[list[api_pb2.FileEntry]]:
        volume = self.store.volume(request.volume_id)
        with _tree_errors(), self.store.lock:
            found = list(volume.tree.list(request.path, recursive=request.recursive))
        if request.HasField("max_entries"):
            found = found[: request.max_entries]
        for at in range(0, len(found), ENTRIES_A_MESSAGE):
            yield [_file_entry(path, node) for path, node in found[at : at + ENTRIES_A_MESSAGE]]

    def _file(
        self, request: api_pb2.VolumeGetFileRequest | api_pb2.VolumeGetFile2Request
    ) -> tuple[FileNode, int, int]:
        """The file that is asked for, and the range of it: start and length."""
        with _tree_errors(), self.store.lock:
            node = self.store.volume(request.volume_id).tree.file(request.path)
        if request.start > node.size:
            raise GRPCError(
                Status.OUT_OF_RANGE, f"{request.path!r} has {node.size} bytes, not {request.start}"
            )
        return node, request.start, min(request.len or node.size, node.size - request.start)

    async def get_file(
        self, ctx: Context, request: api_pb2.VolumeGetFileRequest
    ) -> api_pb2.VolumeGetFileResponse:
        node, start, length = self._file(request)
        data = await asyncio.to_thread(read_node, self.store, node, start, length)
        response = api_pb2.VolumeGetFileResponse(size=node.size, start=start, len=length)
        if length <= INLINE_BYTES:
            response.data = data
        else:
            response.data_blob_id = self.world.services["blobs"].keep(data)
        return response

    async def get_file2(
        self, ctx: Context, request: api_pb2.VolumeGetFile2Request
    ) -> api_pb2.VolumeGetFile2Response:
        node, start, length = self._file(request)
        urls = []
        for index in range(start // BLOCK_BYTES, -(-(start + length) // BLOCK_BYTES) if length else 0):
            first = index * BLOCK_BYTES
            begin, end = max(start, first) - first, min(start + length, first + BLOCK_BYTES) - first
            urls.append(
                self.world.services["blobs"].block_url(
                    ctx, node.blocks[index], begin, end, pad=not request.client_pads_blocks
                )
            )
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=node.size, start=start, len=length)

    # Writing from outside.

    def _put(self, volume: Volume, nodes: dict[str, Node], *, overwrite: bool) -> None:
        """Put uploaded files, all or none, where others see them at once."""
        with _tree_errors(), self.store.lock:
            if not overwrite:
                _refuse_existing(volume, nodes)
            volume.tree.apply(nodes, limit_bytes=self.store.limit(volume))

    async def put_files(self, ctx: Context, request: api_pb2.VolumePutFilesRequest) -> Empty:
        volume = self.store.volume(request.volume_id)
        missing = [file.filename for file in request.files if not self.store.files.has(file.sha256_hex)]
        if missing:
            raise GRPCError(Status.FAILED_PRECONDITION, f"{missing[0]!r} has not been uploaded")

        def read() -> dict[str, Node]:
            return {
                clean_path(file.filename): node_of_file(
                    self.store, self.store.files.path(file.sha256_hex), file.mode or 0o644
                )
                for file in request.files
            }

        with _tree_errors():
            nodes = await asyncio.to_thread(read)
        self._put(volume, nodes, overwrite=not request.disallow_overwrite_existing_files)
        return Empty()

    async def put_files2(
        self, ctx: Context, request: api_pb2.VolumePutFiles2Request
    ) -> api_pb2.VolumePutFiles2Response:
        volume = self.store.volume(request.volume_id)
        nodes: dict[str, Node] = {}
        missing: dict[str, api_pb2.VolumePutFiles2Response.MissingBlock] = {}
        now = time.time_ns()
        with _tree_errors():
            for file_index, file in enumerate(request.files):
                if len(file.blocks) != -(-file.size // BLOCK_BYTES):
                    raise TreeError(
                        "invalid", f"{file.path!r}: {len(file.blocks)} blocks for {file.size} bytes"
                    )
                digests = tuple(block.contents_sha256.hex() for block in file.blocks)
                nodes[clean_path(file.path)] = FileNode(file.size, now, file.mode or 0o644, digests)
                for block_index, digest in enumerate(digests):
                    if digest not in missing and not self._has_block(digest):
                        missing[digest] = api_pb2.VolumePutFiles2Response.MissingBlock(
                            file_index=file_index,
                            block_index=block_index,
                            put_url=self.world.services["blobs"].block_url(ctx, digest),
                        )
            if request.disallow_overwrite_existing_files:
                _refuse_existing(volume, nodes)  # before a byte is sent
        if not missing:
            self._put(volume, nodes, overwrite=not request.disallow_overwrite_existing_files)
        return api_pb2.VolumePutFiles2Response(missing_blocks=missing.values())

    def _has_block(self, digest: str) -> bool:
        if digest == EMPTY_SHA256:
            self.store.blocks.put(b"")
        return self.store.blocks.has(digest)

    async def remove_file(
        self, ctx: Context, request: api_pb2.VolumeRemoveFileRequest | api_pb2.VolumeRemoveFile2Request
    ) -> Empty:
        with _tree_errors(), self.store.lock:
            self.store.volume(request.volume_id).tree.remove(request.path, recursive=request.recursive)
        return Empty()

    async def copy_files(
        self, ctx: Context, request: api_pb2.VolumeCopyFilesRequest | api_pb2.VolumeCopyFiles2Request
    ) -> Empty:
        with _tree_errors(), self.store.lock:
            volume = self.store.volume(request.volume_id)
            volume.tree.copy(
                request.src_paths,
                request.dst_path,
                recursive=request.recursive,
                limit_bytes=self.store.limit(volume),
            )
        return Empty()

    # From containers.

    async def volume_commit(
        self, ctx: Context, request: api_pb2.VolumeCommitRequest
    ) -> api_pb2.VolumeCommitResponse:
        await self.copies.commit(_task_id(ctx), request.volume_id)
        return api_pb2.VolumeCommitResponse(skip_reload=not self.store.commit_reloads)

    async def volume_reload(self, ctx: Context, request: api_pb2.VolumeReloadRequest) -> Empty:
        await self.copies.reload(_task_id(ctx), request.volume_id)
        return Empty()

    # For tests (`cloud.volume(name)`); from any thread.

    def view(self, name: str, environment: str = "") -> VolumeView:
        """A look at the committed state of the volume called `name`. GRPCError NOT_FOUND if there is none."""
        return VolumeView(self.store, self.store.volume_by_name(name, environment))

    def plant(self, name: str, version: int = api_pb2.VOLUME_FS_VERSION_V2) -> VolumeView:
        """A new, empty volume in the main environment, as if somebody had made it on the web page."""
        return VolumeView(self.store, self.create(name, version=version))


def _refuse_existing(volume: Volume, nodes: dict[str, Node]) -> None:
    for path in nodes:
        if volume.tree.get(path) is not None:
            raise TreeError("exists", f"{path}: already exists (use force=True to overwrite)")


def newest_first(objects: list[Any], pagination: api_pb2.ListPagination) -> list[Any]:
    """One page of a listing: `created_before` (0: now) and at most `max_objects` (0: all), newest first."""
    before = pagination.created_before or float("inf")
    page = sorted((o for o in objects if o.created_at < before), key=lambda o: -o.created_at)
    return page[: pagination.max_objects or None]


def _file_entry(path: str, node: Node) -> api_pb2.FileEntry:
    kind, size = api_pb2.FileEntry.SYMLINK, 0
    if isinstance(node, FileNode):
        kind, size = api_pb2.FileEntry.FILE, node.size
    elif isinstance(node, FolderNode):
        kind = api_pb2.FileEntry.DIRECTORY
    return api_pb2.FileEntry(path=path, type=kind, mtime=node.mtime_ns // 1_000_000_000, size=size)


def _task_id(ctx: Context) -> str:
    if ctx.task is None:
        raise GRPCError(
            Status.FAILED_PRECONDITION, "volumes are committed and reloaded from inside a container"
        )
    return ctx.task.task_id
