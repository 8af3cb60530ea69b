"""Who calls: greeting, token, workspace, environments and the login through a browser.

Secrets (secret_store.py), costs (billing.py) and dictionaries (dicts.py) are served along with it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from google.protobuf.empty_pb2 import Empty
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .billing import Billing
from .dicts import Dicts
from .secret_store import Secrets
from .state import new_id
from .store import Environment, Store, TokenFlow, store_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .server import Context
    from .state import World

LOGIN_POLL_SECONDS = 0.05
JWT_SECONDS = 20 * 60


class Accounts:
    """The service; see server.py for how it is plugged in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store: Store = store_of(world)
        self.secrets = Secrets(self.store)
        self.billing = Billing(world, self.store)
        self.dicts = Dicts(self.store)

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "ClientHello": self.client_hello,
            "AuthTokenGet": self.auth_token_get,
            "TokenInfoGet": self.token_info,
            "TokenFlowCreate": self.token_flow_create,
            "TokenFlowWait": self.token_flow_wait,
            "TokenDelete": self.token_delete,
            "TokensList": self.tokens_list,
            "WorkspaceNameLookup": self.workspace_name,
            "WorkspaceSettings": self.workspace_settings,
            "WorkspaceMembersList": self.workspace_members,
            "WorkspaceDashboardUrlGet": self.dashboard_url,
            "EnvironmentGetOrCreate": self.environment_get_or_create,
            "EnvironmentList": self.environment_list,
            "EnvironmentCreate": self.environment_create,
            "EnvironmentDelete": self.environment_delete,
            **self.secrets.handlers(),
            **self.billing.handlers(),
            **self.dicts.handlers(),
        }

    async def stop(self) -> None:
        """The server ends; a later one on the same folder goes on with what is named there."""
        await asyncio.to_thread(self.store.save)

    # For execution.py.

    def values(self, secret_id: str) -> dict[str, str]:
        """The variables of a secret. Raises GRPCError NOT_FOUND."""
        return self.secrets.values(secret_id)

    # Tokens.

    async def client_hello(self, ctx: Context, request: Empty) -> api_pb2.ClientHelloResponse:
        account = self.store.account
        response = api_pb2.ClientHelloResponse(image_builder_version=account.image_builder_version)
        if account.server_warning:
            response.server_warnings.add(
                type=api_pb2.Warning.WARNING_TYPE_CLIENT_DEPRECATION, message=account.server_warning
            )
        return response

    async def auth_token_get(
        self, ctx: Context, request: api_pb2.AuthTokenGetRequest
    ) -> api_pb2.AuthTokenGetResponse:
        # Unsigned: nobody checks it, the SDK reads when it expires.
        parts = [{"alg": "none", "typ": "JWT"}, {"sub": ctx.identity, "exp": int(time.time()) + JWT_SECONDS}]
        words = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
        return api_pb2.AuthTokenGetResponse(token=".".join([*words, ""]))

    async def token_info(
        self, ctx: Context, request: api_pb2.TokenInfoGetRequest
    ) -> api_pb2.TokenInfoGetResponse:
        account = self.store.account
        response = api_pb2.TokenInfoGetResponse(
            token_id=ctx.metadata.get("x-modal-token-id", ""),
            token_name=account.token_name,
            workspace_id=account.workspace_id,
            workspace_name=self.world.workspace,
            user_identity=api_pb2.UserIdentity(user_id=account.user_id, username=account.username),
        )
        response.created_at.FromSeconds(int(account.token_created_at))
        if account.token_expires_at is not None:
            response.expires_at.FromSeconds(int(account.token_expires_at))
        return response

    async def tokens_list(self, ctx: Context, request: Empty) -> api_pb2.TokensListResponse:
        account = self.store.account
        return api_pb2.TokensListResponse(
            tokens=[
                api_pb2.TokensListResponse.Token(
                    token_id=token_id,
                    created_at=account.token_created_at,
                    workspace_id=account.workspace_id,
                    user_id=account.user_id,
                    member_displayname=account.username,
                    name=account.token_name,
                    expires_at=account.token_expires_at or 0.0,
                )
                for token_id in self.world.tokens
            ]
        )

    async def token_delete(self, ctx: Context, request: api_pb2.TokenDeleteRequest) -> Empty:
        if self.world.tokens.pop(request.token_id, None) is None:
            raise GRPCError(Status.NOT_FOUND, f"Token {request.token_id!r} not found")
        return Empty()

    # Login through a browser.

    async def token_flow_create(
        self, ctx: Context, request: api_pb2.TokenFlowCreateRequest
    ) -> api_pb2.TokenFlowCreateResponse:
        flow = TokenFlow(new_id("tf"), secrets.token_urlsafe(24), f"{secrets.randbelow(10**6):06d}")
        self.store.token_flows[flow.flow_id] = flow
        return api_pb2.TokenFlowCreateResponse(
            token_flow_id=flow.flow_id,
            web_url=f"{self.world.services['blobs'].url}/login/{flow.flow_id}",
            code=flow.code,
            wait_secret=flow.wait_secret,
        )

    async def token_flow_wait(
        self, ctx: Context, request: api_pb2.TokenFlowWaitRequest
    ) -> api_pb2.TokenFlowWaitResponse:
        flow = self.store.token_flows.get(request.token_flow_id)
        if flow is None or flow.wait_secret != request.wait_secret:
            raise GRPCError(Status.NOT_FOUND, f"Token flow {request.token_flow_id!r} not found")
        deadline = time.monotonic() + request.timeout
        # The knob may be turned from another thread while we wait, so that there is nothing to be notified
        # by.
        while self.world.knobs.login not in ("approve", "refuse"):
            if time.monotonic() >= deadline:
                return api_pb2.TokenFlowWaitResponse(timeout=True)
            await asyncio.sleep(LOGIN_POLL_SECONDS)
        if self.world.knobs.login == "refuse":
            raise GRPCError(Status.PERMISSION_DENIED, "The login was refused in the browser")
        if flow.token is None:
            flow.token = (new_id("ak"), new_id("as"))
            self.world.tokens[flow.token[0]] = flow.token[1]
        return api_pb2.TokenFlowWaitResponse(
            token_id=flow.token[0], token_secret=flow.token[1], workspace_username=self.world.workspace
        )

    # The workspace.

    async def workspace_name(self, ctx: Context, request: Empty) -> api_pb2.WorkspaceNameLookupResponse:
        return api_pb2.WorkspaceNameLookupResponse(
            workspace_name=self.world.workspace, username=self.world.workspace
        )

    async def workspace_settings(self, ctx: Context, request: Empty) -> api_pb2.WorkspaceSettingsResponse:
        return api_pb2.WorkspaceSettingsResponse(
            default_environment_name=self.store.environment("").name,
            image_builder_version=self.store.account.image_builder_version,
        )

    async def workspace_members(self, ctx: Context, request: Empty) -> api_pb2.WorkspaceMembersListResponse:
        account = self.store.account
        owner = api_pb2.WorkspaceMembersListItem(
            member_id="me-loopback",
            member_displayname=account.username,
            member_role=api_pb2.MEMBER_ROLE_OWNER,
            joined_at=account.token_created_at,
            user_id=account.user_id,
        )
        return api_pb2.WorkspaceMembersListResponse(members=[owner])

    async def dashboard_url(
        self, ctx: Context, request: api_pb2.WorkspaceDashboardUrlRequest
    ) -> api_pb2.WorkspaceDashboardUrlResponse:
        return api_pb2.WorkspaceDashboardUrlResponse(url=f"{self.world.services['blobs'].url}/dashboard")

    # Environments.

    async def environment_get_or_create(
        self, ctx: Context, request: api_pb2.EnvironmentGetOrCreateRequest
    ) -> api_pb2.EnvironmentGetOrCreateResponse:
        name, kind = request.deployment_name, request.object_creation_type
        if kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING and name not in self.store.environments:
            self.store.add_environment(name)
        environment = self.store.environment(name)
        settings = api_pb2.EnvironmentSettings(
            image_builder_version=self.store.account.image_builder_version,
            webhook_suffix=_suffix(environment),
        )
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id=environment.environment_id,
            metadata=api_pb2.EnvironmentMetadata(name=environment.name, settings=settings),
        )

    async def environment_list(self, ctx: Context, request: Empty) -> api_pb2.EnvironmentListResponse:
        default = self.store.environment("")
        return api_pb2.EnvironmentListResponse(
            items=[
                api_pb2.EnvironmentListItem(
                    name=environment.name,
                    webhook_suffix=_suffix(environment),
                    created_at=environment.created_at,
                    default=environment is default,
                    environment_id=environment.environment_id,
                    image_builder_version=self.store.account.image_builder_version,
                )
                for environment in self.store.environments.values()
            ]
        )

    async def environment_create(self, ctx: Context, request: api_pb2.EnvironmentCreateRequest) -> Empty:
        if request.name in self.store.environments:
            raise GRPCError(Status.ALREADY_EXISTS, f"Environment {request.name!r} already exists")
        self.store.add_environment(request.name)
        return Empty()

    async def environment_delete(self, ctx: Context, request: api_pb2.EnvironmentDeleteRequest) -> Empty:
        environment = self.store.environment(request.name)
        if environment is self.store.environment(""):
            raise GRPCError(
                Status.FAILED_PRECONDITION, f"Environment {environment.name!r} is the default one"
            )
        del self.store.environments[environment.name]
        return Empty()


def _suffix(environment: Environment) -> str:
    """What web addresses of an environment's apps end with: nothing for the main one."""
    return "" if environment.name == "main" else environment.name
