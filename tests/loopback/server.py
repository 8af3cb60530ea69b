"""The gRPC server of the loopback Modal: sockets, tokens, dispatch and the journal of calls.

How a service plugs in
----------------------
A service is a module of this package with one class, both named in `SERVICES` ("volumes:Volumes"). The class
is made once with the `World`, kept as `world.services["volumes"]`, and may have

* `def handlers(self) -> dict[str, Callable]`: RPC name -> handler. Needed.
* `async def start(self) -> None` / `async def stop(self) -> None`: called on the server's event loop, in the
  order of `SERVICES` and the reverse; `world.url` is set before `start`.
* `async def cut(self) -> None` / `async def restore(self) -> None`: the client network goes away and comes
  back (for a service with its own TCP port, such as blobs: close and reopen the same port).

Handlers:

* unary: `async def VolumeGetOrCreate(ctx: Context, request) -> response`
* server streams: `async def ImageJoinStreaming(ctx: Context, request) -> AsyncIterator[response]`, an async
  generator. It is closed (CancelledError / GeneratorExit) when the client goes away.

Errors are `raise GRPCError(Status.NOT_FOUND, "Volume 'x' not found")`; any other exception is a defect of the
loopback: it goes to `world.failures` (which fails the test) and the caller gets INTERNAL. An RPC that no
service handles answers UNIMPLEMENTED and is noted in `world.unimplemented`. A service may call another
through `world.services`, and what execution needs of it is written down as a Protocol in `state.py`.

`ctx.task` is the container that calls (each has its own unix socket, so its identity is sure), None for a
client. Unary calls of clients are idempotent as on Modal: a retry with the same `x-idempotency-key` gets the
first one's answer, also when the connection was cut in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import time
import traceback
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import grpclib.const
import grpclib.exceptions
import grpclib.server
from grpclib import GRPCError, Status
from modal_proto import api_grpc

from .state import Rpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.protobuf.message import Message
    from grpclib.protocol import H2Protocol

    from .state import Task, World

SERVICES = (
    "accounts:Accounts",
    "blobs:Blobs",
    "mounts:Mounts",
    "images:Images",
    "volumes:Volumes",
    "apps:Apps",
    "logs:Logs",
    "functions:Functions",
    "calls:Calls",
    "execution:Execution",
)
# Without a token only these can be called.
ANONYMOUS = frozenset({"TokenFlowCreate", "TokenFlowWait"})
# Held open on purpose: not finished in the background for a client that has gone, nor remembered for retries.
LONG_POLLS = frozenset(
    ("ContainerHeartbeat", "FunctionGetInputs", "FunctionGetOutputs", "ImageJoinStreaming", "TokenFlowWait")
)
REMEMBERED = 2000


@dataclass
class Context:
    """Who calls."""

    world: World
    task: Task | None
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return self.task.task_id if self.task else "client"


@cache
def _methods() -> dict[str, grpclib.const.Handler]:
    """Every method of the ModalClient service by its path."""
    nothing = dict.fromkeys(api_grpc.ModalClientBase.__abstractmethods__)
    return type("Everything", (api_grpc.ModalClientBase,), nothing)().__mapping__()


class _Endpoint(grpclib.server.Server):
    """One listening socket, which knows its connections so that they can be cut."""

    def __init__(self, mapping: dict[str, grpclib.const.Handler]) -> None:
        super().__init__([])
        self._mapping = mapping
        self._protocols: list[H2Protocol] = []
        self._resetting = False

    def _protocol_factory(self) -> H2Protocol:
        if self._resetting:
            return _Reset()  # type: ignore[return-value]
        protocol = super()._protocol_factory()
        self._protocols = [p for p in self._protocols if not p.handler.closing]
        self._protocols.append(protocol)
        return protocol

    def abort(self, *, refuse: bool = True) -> None:
        """Cut every connection at once. New ones are refused, else accepted and reset."""
        if refuse:
            self.close()
        else:
            self._resetting = True
        for protocol in self._protocols:
            # grpclib deletes the attribute when it has closed the connection itself.
            transport = getattr(getattr(protocol, "connection", None), "_transport", None)
            if transport is not None:
                transport.abort()
        self._protocols = []

    def resume(self) -> None:
        """New connections are served again."""
        self._resetting = False


class _Reset(asyncio.Protocol):
    """Hangs up on whoever connects."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class Server:
    """Listens on 127.0.0.1 for clients and on a unix socket for each container."""

    def __init__(self, world: World, port: int = 0) -> None:
        self.world = world
        self.port = port
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._clients: _Endpoint | None = None
        self._containers: dict[str, _Endpoint] = {}
        self._flowing = asyncio.Event()  # cleared while the network swallows everything
        self._flowing.set()
        self._answers: OrderedDict[tuple[str, str], asyncio.Task[Message]] = OrderedDict()

    async def start(self) -> None:
        for entry in SERVICES:
            module_name, class_name = entry.split(":")
            service = getattr(importlib.import_module(f"{__package__}.{module_name}"), class_name)(self.world)
            self.world.services[module_name] = service
            self._handlers.update(service.handlers())
        self.world.services["server"] = self
        await self._listen()
        self.world.url = f"http://127.0.0.1:{self.port}"
        for service in self._services():
            if hasattr(service, "start"):
                await service.start()

    async def stop(self) -> None:
        for service in reversed(self._services()):
            if hasattr(service, "stop"):
                await service.stop()
        if self._clients is not None:
            self._clients.abort()
            self._clients = None
        for task_id in list(self._containers):
            self.close_container(task_id)
        for answer in self._answers.values():
            answer.cancel()

    async def cut(self, *, refuse: bool = True) -> None:
        """Cut all connections of clients; new ones are refused, else reset. Containers notice nothing."""
        if self._clients is not None:
            self._clients.abort(refuse=refuse)
            if refuse:
                self._clients = None
        for service in self._services():
            if hasattr(service, "cut"):
                await service.cut()

    async def restore(self) -> None:
        """Listen again, on the same port."""
        self._flowing.set()
        clients = self._clients or await self._listen()
        clients.resume()
        for service in self._services():
            if hasattr(service, "restore"):
                await service.restore()

    async def hang(self) -> None:
        """Connections stay open, and nothing comes through until `restore`: neither requests nor answers."""
        self._flowing.clear()

    async def open_container(self, task: Task, path: Path) -> None:
        """Listen on a unix socket at `path`: whoever calls there is `task`."""
        endpoint = _Endpoint(self._mapping(task))
        await endpoint.start(path=str(path))
        self._containers[task.task_id] = endpoint

    def close_container(self, task_id: str) -> None:
        endpoint = self._containers.pop(task_id, None)
        if endpoint is not None:
            endpoint.abort()

    def _services(self) -> list[Any]:
        names = [entry.split(":")[0] for entry in SERVICES]
        return [self.world.services[name] for name in names if name in self.world.services]

    async def _listen(self) -> _Endpoint:
        endpoint = _Endpoint(self._mapping(None))
        await endpoint.start("127.0.0.1", self.port, reuse_address=True)
        assert endpoint._server is not None
        self.port = endpoint._server.sockets[0].getsockname()[1]
        self._clients = endpoint
        return endpoint

    def _mapping(self, task: Task | None) -> dict[str, grpclib.const.Handler]:
        return {
            path: method._replace(func=partial(self._dispatch, path.rpartition("/")[2], task))
            for path, method in _methods().items()
        }

    async def _dispatch(self, name: str, task: Task | None, stream: grpclib.server.Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        assert request is not None
        metadata = {key: value for key, value in (stream.metadata or {}).items() if isinstance(value, str)}
        context = Context(self.world, task, metadata)
        # The secret itself has no place in a journal that tests search for leaks.
        noted = {key: value for key, value in metadata.items() if key != "x-modal-token-secret"}
        rpc = Rpc(name, time.time(), context.identity, request, metadata=noted)
        self.world.journal.append(rpc)
        started = time.monotonic()
        try:
            if task is None:
                await self._flowing.wait()
                if self.world.knobs.latency:
                    await asyncio.sleep(self.world.knobs.latency)
                self._check_token(name, metadata)
            handler = self._handlers.get(name)
            if handler is None:
                self.world.unimplemented.append(name)
                raise GRPCError(Status.UNIMPLEMENTED, f"the loopback Modal does not know {name}")
            if inspect.isasyncgenfunction(handler):
                async with contextlib.aclosing(handler(context, request)) as messages:
                    async for message in messages:
                        if task is None:
                            await self._flowing.wait()
                        await stream.send_message(message)
            else:
                rpc.response = await self._answer(name, handler, context, request)
                if task is None:
                    await self._flowing.wait()
                await stream.send_message(rpc.response)
            rpc.status = "OK"
        except GRPCError as error:
            rpc.status = error.status.name
            raise
        except asyncio.CancelledError:
            rpc.status = "CANCELLED"
            raise
        except (grpclib.exceptions.StreamTerminatedError, ConnectionError):
            rpc.status = "CUT"
            raise
        except Exception as error:
            rpc.status = "INTERNAL"
            self.world.failures.append(f"{name}: {traceback.format_exc()}")
            raise GRPCError(Status.INTERNAL, f"defect of the loopback Modal in {name}: {error!r}") from None
        finally:
            rpc.duration = time.monotonic() - started

    async def _answer(
        self, name: str, handler: Callable[..., Any], context: Context, request: Message
    ) -> Message:
        key = context.metadata.get("x-idempotency-key")
        if context.task is not None or not key or name in LONG_POLLS:
            return await handler(context, request)
        answer = self._answers.get((name, key))
        if answer is None:
            answer = self._answers[name, key] = asyncio.create_task(handler(context, request))
            answer.add_done_callback(partial(self._forget_failure, (name, key)))
            while len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        return await asyncio.shield(answer)

    def _forget_failure(self, key: tuple[str, str], answer: asyncio.Task[Message]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            self._answers.pop(key, None)

    def _check_token(self, name: str, metadata: dict[str, str]) -> None:
        token_id, secret = metadata.get("x-modal-token-id", ""), metadata.get("x-modal-token-secret", "")
        if name in ANONYMOUS or (token_id and self.world.tokens.get(token_id) == secret):
            return
        if not token_id:
            raise GRPCError(Status.UNAUTHENTICATED, "Token missing. Could not authenticate client.")
        raise GRPCError(Status.UNAUTHENTICATED, "Token ID not found or token secret does not match.")
