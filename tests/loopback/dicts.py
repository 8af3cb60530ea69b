"""`modal.Dict`: named and ephemeral dictionaries of serialized keys and values."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .state import new_id
from .store import NamedDict, Store
from .volumes import newest_first

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .server import Context


class Dicts:
    """The part of the accounts service that keeps dictionaries."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "DictGetOrCreate": self.get_or_create,
            "DictGetById": self.get_by_id,
            "DictList": self.list_dicts,
            "DictDelete": self.delete,
            "DictHeartbeat": self.heartbeat,
            "DictGet": self.get,
            "DictContains": self.contains,
            "DictUpdate": self.update,
            "DictPop": self.pop,
            "DictLen": self.len,
            "DictClear": self.clear,
            "DictContents": self.contents,
        }

    def _dict(self, dict_id: str) -> NamedDict:
        found = self.store.dicts.get(dict_id)
        if found is None:
            raise GRPCError(Status.NOT_FOUND, f"Dict {dict_id!r} not found")
        return found

    async def get_or_create(
        self, ctx: Context, request: api_pb2.DictGetOrCreateRequest
    ) -> api_pb2.DictGetOrCreateResponse:
        kind, name = request.object_creation_type, request.deployment_name
        space = self.store.environment(request.environment_name).name
        found = self.store.named(self.store.dicts, name, space)
        if found is not None and kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"Dict {name!r} already exists")
        if found is None:
            if kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise GRPCError(Status.NOT_FOUND, f"Dict {name!r} not found in environment {space!r}")
            found = NamedDict(new_id("di"), name, space, time.time())
            found.entries.update((entry.key, entry.value) for entry in request.data)
            self.store.dicts[found.dict_id] = found
        return api_pb2.DictGetOrCreateResponse(dict_id=found.dict_id, metadata=self._metadata(found))

    async def get_by_id(
        self, ctx: Context, request: api_pb2.DictGetByIdRequest
    ) -> api_pb2.DictGetByIdResponse:
        found = self._dict(request.dict_id)
        return api_pb2.DictGetByIdResponse(dict_id=found.dict_id, metadata=self._metadata(found))

    async def list_dicts(self, ctx: Context, request: api_pb2.DictListRequest) -> api_pb2.DictListResponse:
        space = self.store.environment(request.environment_name).name
        named = [d for d in self.store.dicts.values() if d.name and d.environment == space]
        return api_pb2.DictListResponse(
            environment_name=space,
            dicts=[
                api_pb2.DictListResponse.DictInfo(
                    name=d.name, created_at=d.created_at, dict_id=d.dict_id, metadata=self._metadata(d)
                )
                for d in newest_first(named, request.pagination)
            ],
        )

    async def delete(self, ctx: Context, request: api_pb2.DictDeleteRequest) -> Empty:
        del self.store.dicts[self._dict(request.dict_id).dict_id]
        return Empty()

    async def heartbeat(self, ctx: Context, request: api_pb2.DictHeartbeatRequest) -> Empty:
        self._dict(request.dict_id)
        return Empty()

    async def get(self, ctx: Context, request: api_pb2.DictGetRequest) -> api_pb2.DictGetResponse:
        value = self._dict(request.dict_id).entries.get(request.key)
        return api_pb2.DictGetResponse(found=value is not None, value=value)

    async def contains(
        self, ctx: Context, request: api_pb2.DictContainsRequest
    ) -> api_pb2.DictContainsResponse:
        return api_pb2.DictContainsResponse(found=request.key in self._dict(request.dict_id).entries)

    async def update(self, ctx: Context, request: api_pb2.DictUpdateRequest) -> api_pb2.DictUpdateResponse:
        entries = self._dict(request.dict_id).entries
        if request.if_not_exists and any(entry.key in entries for entry in request.updates):
            return api_pb2.DictUpdateResponse(created=False)
        entries.update((entry.key, entry.value) for entry in request.updates)
        return api_pb2.DictUpdateResponse(created=True)

    async def pop(self, ctx: Context, request: api_pb2.DictPopRequest) -> api_pb2.DictPopResponse:
        value = self._dict(request.dict_id).entries.pop(request.key, None)
        return api_pb2.DictPopResponse(found=value is not None, value=value)

    async def len(self, ctx: Context, request: api_pb2.DictLenRequest) -> api_pb2.DictLenResponse:
        return api_pb2.DictLenResponse(len=len(self._dict(request.dict_id).entries))

    async def clear(self, ctx: Context, request: api_pb2.DictClearRequest) -> Empty:
        self._dict(request.dict_id).entries.clear()
        return Empty()

    async def contents(
        self, ctx: Context, request: api_pb2.DictContentsRequest
    ) -> AsyncIterator[api_pb2.DictEntry]:
        for key, value in list(self._dict(request.dict_id).entries.items()):
            yield api_pb2.DictEntry(key=key if request.keys else b"", value=value if request.values else b"")

    def _metadata(self, found: NamedDict) -> api_pb2.DictMetadata:
        created = api_pb2.CreationInfo(created_at=found.created_at, created_by=self.store.account.username)
        return api_pb2.DictMetadata(name=found.name, creation_info=created)
