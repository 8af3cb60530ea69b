"""Secrets: named and anonymous ones. Their values go into containers' environments and nowhere else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .state import new_id
from .store import Secret, Store
from .volumes import newest_first

if TYPE_CHECKING:
    from collections.abc import Callable

    from .server import Context

_ANONYMOUS = (api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP, api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL)


class Secrets:
    """The part of the accounts service that keeps secrets."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "SecretGetOrCreate": self.get_or_create,
            "SecretGetInfo": self.get_info,
            "SecretUpdate": self.update,
            "SecretList": self.list_secrets,
            "SecretDelete": self.delete,
        }

    def values(self, secret_id: str) -> dict[str, str]:
        """The variables of a secret, for a container that is about to start. GRPCError NOT_FOUND."""
        secret = self.secret(secret_id)
        secret.last_used_at = time.time()
        return dict(secret.values)

    def secret(self, secret_id: str) -> Secret:
        found = self.store.secrets.get(secret_id)
        if found is None:
            raise GRPCError(Status.NOT_FOUND, f"Secret {secret_id!r} not found")
        return found

    def named(self, name: str, environment: str = "") -> Secret | None:
        """The secret called `name`, or None: for assertions."""
        return self.store.named(self.store.secrets, name, environment)

    async def get_or_create(
        self, ctx: Context, request: api_pb2.SecretGetOrCreateRequest
    ) -> api_pb2.SecretGetOrCreateResponse:
        kind, name = request.object_creation_type, request.deployment_name
        space = self.store.environment(request.environment_name).name
        secret = None if kind in _ANONYMOUS else self.named(name, space)
        if kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
            if secret is None:
                raise GRPCError(Status.NOT_FOUND, f"Secret {name!r} not found in environment {space!r}")
            missing = [key for key in request.required_keys if key not in secret.values]
            if missing:
                keys = ", ".join(missing)
                raise GRPCError(Status.NOT_FOUND, f"Secret {name!r} is missing required key(s): {keys}")
        elif secret is not None and kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise GRPCError(Status.ALREADY_EXISTS, f"Secret {name!r} already exists in environment {space!r}")
        elif secret is not None and kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS:
            secret.values = dict(request.env_dict)
        elif secret is None:
            secret = Secret(
                secret_id=new_id("st"),
                name="" if kind in _ANONYMOUS else name,
                environment=space,
                created_at=time.time(),
                created_by=self.store.account.username,
                values=dict(request.env_dict),
                app_id=request.app_id,
            )
            self.store.secrets[secret.secret_id] = secret
        return api_pb2.SecretGetOrCreateResponse(secret_id=secret.secret_id, metadata=_metadata(secret))

    async def get_info(
        self, ctx: Context, request: api_pb2.SecretGetInfoRequest
    ) -> api_pb2.SecretGetInfoResponse:
        return api_pb2.SecretGetInfoResponse(metadata=_metadata(self.secret(request.secret_id)))

    async def update(self, ctx: Context, request: api_pb2.SecretUpdateRequest) -> Empty:
        secret = self.secret(request.secret_id)
        for change in request.updates:
            if change.HasField("value"):
                secret.values[change.key] = change.value
            else:
                secret.values.pop(change.key, None)
        return Empty()

    async def list_secrets(
        self, ctx: Context, request: api_pb2.SecretListRequest
    ) -> api_pb2.SecretListResponse:
        space = self.store.environment(request.environment_name).name
        named = [s for s in self.store.secrets.values() if s.name and s.environment == space]
        return api_pb2.SecretListResponse(
            environment_name=space,
            items=[
                api_pb2.SecretListItem(
                    label=secret.name,
                    secret_id=secret.secret_id,
                    created_at=secret.created_at,
                    last_used_at=secret.last_used_at,
                    environment_name=space,
                    metadata=_metadata(secret),
                )
                for secret in newest_first(named, request.pagination)
            ],
        )

    async def delete(self, ctx: Context, request: api_pb2.SecretDeleteRequest) -> Empty:
        del self.store.secrets[self.secret(request.secret_id).secret_id]
        return Empty()


def _metadata(secret: Secret) -> api_pb2.SecretMetadata:
    return api_pb2.SecretMetadata(
        name=secret.name,
        creation_info=api_pb2.CreationInfo(created_at=secret.created_at, created_by=secret.created_by),
        keys=sorted(secret.values),
        environment_name=secret.environment,
        last_used_at=secret.last_used_at,
    )
