"""Bytes that do not go through gRPC: blocks of volumes and blobs, put and got over HTTP on 127.0.0.1.

Clients and containers have a port each, because `cut` takes the network away from clients only. What is
uploaded is checked against the hash it claims; the answer of a PUT carries the ETag (MD5) that the SDK
compares. Blobs longer than `multipart_bytes` are uploaded in parts.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .state import new_id
from .store import BLOCK_BYTES, Blob, Store, store_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .server import Context
    from .state import World

MULTIPART_BYTES = 1024**3
PART_BYTES = 64 * 1024 * 1024


@dataclass
class _Received:
    """An upload on disk, not yet among the contents."""

    file: Path
    size: int
    sha256: str
    md5: str


class Blobs:
    """The service; see server.py for how it is plugged in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store: Store = store_of(world)
        self.multipart_bytes = MULTIPART_BYTES
        self.part_bytes = PART_BYTES
        self.failing: list[int] = []
        """HTTP statuses that the next requests of clients answer instead of doing their work."""
        self._clients = _Port(self, slow=True)
        self._containers = _Port(self, slow=False)

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {"BlobCreate": self.create, "BlobGet": self.get, "FunctionBlobGet": self.get}

    async def start(self) -> None:
        await self._clients.open()
        await self._containers.open()

    async def stop(self) -> None:
        await self._clients.close()
        await self._containers.close()

    async def cut(self) -> None:
        await self._clients.close()

    async def restore(self) -> None:
        await self._clients.open()

    # For the other services.

    @property
    def url(self) -> str:
        """Base address of the clients' port."""
        return self._clients.url

    def block_url(
        self, ctx: Context, digest: str, begin: int = 0, end: int = BLOCK_BYTES, *, pad: bool = False
    ) -> str:
        """Where the caller puts a block, or gets its bytes from `begin` to `end`.

        A block is kept without its trailing zeros; with `pad` the answer has them again.
        """
        return f"{self._base(ctx)}/block/{digest}?begin={begin}&end={end}&pad={int(pad)}"

    def keep(self, data: bytes) -> str:
        """Make a blob of `data`; returns its id."""
        blob = Blob(new_id("bl"), len(data), self.store.files.put(data))
        self.store.blobs[blob.blob_id] = blob
        return blob.blob_id

    def read(self, blob_id: str) -> bytes:
        """Contents of a blob. GRPCError NOT_FOUND while its upload is not complete."""
        return self.store.files.get(self.digest(blob_id))

    def digest(self, blob_id: str) -> str:
        """SHA-256 under which a blob's contents are among `store.files`."""
        blob = self.store.blobs.get(blob_id)
        if blob is None or not blob.digest:
            raise GRPCError(Status.NOT_FOUND, f"Blob {blob_id!r} not found")
        return blob.digest

    # RPCs.

    async def create(self, ctx: Context, request: api_pb2.BlobCreateRequest) -> api_pb2.BlobCreateResponse:
        blob = Blob(new_id("bl"), request.content_length)
        self.store.blobs[blob.blob_id] = blob
        base = self._base(ctx)
        response = api_pb2.BlobCreateResponse(blob_id=blob.blob_id, blob_ids=[blob.blob_id])
        if request.content_length <= self.multipart_bytes:
            response.upload_urls.items.append(f"{base}/blob/{blob.blob_id}")
        else:
            count = -(-request.content_length // self.part_bytes)
            response.multiparts.items.add(
                part_length=self.part_bytes,
                upload_urls=[f"{base}/part/{blob.blob_id}/{number}" for number in range(count)],
                completion_url=f"{base}/complete/{blob.blob_id}",
            )
        return response

    async def get(self, ctx: Context, request: api_pb2.BlobGetRequest) -> api_pb2.BlobGetResponse:
        self.digest(request.blob_id)
        return api_pb2.BlobGetResponse(download_url=f"{self._base(ctx)}/blob/{request.blob_id}")

    def _base(self, ctx: Context) -> str:
        return self._clients.url if ctx.task is None else self._containers.url

    # HTTP.

    def routes(self) -> list[web.RouteDef]:
        return [
            web.put("/block/{digest}", self._put_block),
            web.get("/block/{digest}", self._get_block),
            web.put("/blob/{blob_id}", self._put_blob),
            web.get("/blob/{blob_id}", self._get_blob),
            web.put("/part/{blob_id}/{number}", self._put_part),
            web.post("/complete/{blob_id}", self._complete),
            web.get("/login/{flow_id}", self._page),
            web.get("/dashboard", self._page),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(
            text="This is a loopback Modal on your own machine: there is nothing to see or do here.\n"
        )

    async def _receive(self, request: web.Request) -> _Received:
        """Write the body to a file of its own. Its hashes are computed while it comes in."""
        file = self.store.root / f"upload-{secrets.token_hex(8)}"
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        try:
            with file.open("wb") as stream:
                async for chunk in request.content.iter_chunked(1024 * 1024):
                    size += len(chunk)
                    sha256.update(chunk)
                    md5.update(chunk)
                    await asyncio.to_thread(stream.write, chunk)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        return _Received(file, size, sha256.hexdigest(), md5.hexdigest())

    async def _put_block(self, request: web.Request) -> web.Response:
        wanted, got = request.match_info["digest"], await self._receive(request)
        if got.sha256 != wanted or got.size > BLOCK_BYTES:
            got.file.unlink()
            return web.Response(status=400, text=f"{got.size} bytes of {got.sha256}, not the block {wanted}")
        self.store.blocks.adopt(got.file, wanted)
        return web.Response(text=f"stored:{wanted}", headers={"ETag": f'"{got.md5}"'})

    async def _get_block(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        begin, end = int(request.query["begin"]), int(request.query["end"])
        if not self.store.blocks.has(digest):
            return web.Response(status=404, text=f"no block {digest}")
        data = (await asyncio.to_thread(self.store.blocks.get, digest))[begin:end]
        if request.query["pad"] == "1":
            data = data.ljust(end - begin, b"\0")
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")
        return web.Response(body=data, headers={"Repr-Digest": f"sha-256=:{checksum}:"})

    async def _put_blob(self, request: web.Request) -> web.Response:
        blob = self._blob(request)
        got = await self._receive(request)
        if got.size != blob.length:
            got.file.unlink()
            return web.Response(status=400, text=f"{got.size} bytes instead of {blob.length}")
        self.store.files.adopt(got.file, got.sha256)
        blob.digest = got.sha256
        return web.Response(headers={"ETag": f'"{got.md5}"'})

    async def _get_blob(self, request: web.Request) -> web.FileResponse:
        try:
            return web.FileResponse(self.store.files.path(self.digest(request.match_info["blob_id"])))
        except GRPCError as error:
            raise web.HTTPNotFound(text=error.message) from None

    async def _put_part(self, request: web.Request) -> web.Response:
        blob = self._blob(request)
        got = await self._receive(request)
        self.store.files.adopt(got.file, got.sha256)
        blob.parts[int(request.match_info["number"])] = (got.sha256, got.md5)
        return web.Response(headers={"ETag": f'"{got.md5}"'})

    async def _complete(self, request: web.Request) -> web.Response:
        blob = self._blob(request)
        parts = [blob.parts[number] for number in sorted(blob.parts)]
        blob.digest, size = await asyncio.to_thread(self._join, [sha256 for sha256, _ in parts])
        if size != blob.length:
            blob.digest = ""
            return web.Response(status=400, text=f"{size} bytes instead of {blob.length}")
        sums = b"".join(bytes.fromhex(md5) for _, md5 in parts)
        etag = f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(parts)}"
        return web.Response(text=f"<ETag>{etag}</ETag>")

    def _join(self, digests: list[str]) -> tuple[str, int]:
        whole, size = hashlib.sha256(), 0
        file = self.store.root / f"upload-{secrets.token_hex(8)}"
        with file.open("wb") as stream:
            for digest in digests:
                data = self.store.files.get(digest)
                size += stream.write(data)
                whole.update(data)
        self.store.files.adopt(file, whole.hexdigest())
        return whole.hexdigest(), size

    def _blob(self, request: web.Request) -> Blob:
        blob = self.store.blobs.get(request.match_info["blob_id"])
        if blob is None:
            raise web.HTTPNotFound(text="no such blob")
        return blob


class _Port:
    """One listening HTTP port, which keeps its number when it is closed and opened again."""

    def __init__(self, blobs: Blobs, *, slow: bool) -> None:
        self._blobs = blobs
        self._slow = slow
        self._number = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._number}"

    async def open(self) -> None:
        if self._runner is not None:
            return
        application = web.Application(middlewares=[self._middleware()], client_max_size=0)
        application.add_routes(self._blobs.routes())
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._number, reuse_address=True).start()
        self._number = self._runner.addresses[0][1]

    async def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        server = runner.server
        if server is not None:
            for connection in list(server.connections):
                if connection.transport is not None:
                    connection.transport.abort()
        await runner.cleanup()

    def _middleware(self) -> Any:
        @web.middleware
        async def middleware(request: web.Request, handler: Any) -> web.StreamResponse:
            if self._slow:
                if latency := self._blobs.world.knobs.latency:
                    await asyncio.sleep(latency)
                if self._blobs.failing:
                    return web.Response(status=self._blobs.failing.pop(0), text="as the test wanted")
            return await handler(request)

        return middleware
