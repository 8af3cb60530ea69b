"""Tokens, login, workspace, environments, costs and dictionaries through the real SDK and CLI."""

from __future__ import annotations

import time
import tomllib
from typing import TYPE_CHECKING

import pytest
from modal_proto import api_pb2

from .sdk import run_sdk
from .state import App, Task
from .store import BillingItem

if TYPE_CHECKING:
    from .clients import Clients
    from .cloud import LoopbackCloud


def test_who_is_asking_and_for_which_workspace(modal_cloud: LoopbackCloud, clients: Clients) -> None:
    modal_cloud.world.workspace = "my-workspace"
    modal_cloud.world.store.account.token_expires_at = time.time() + 3600
    seen = run_sdk(
        modal_cloud,
        """
        workspace = modal.Workspace.from_context(client=client)
        await workspace.hydrate.aio()
        settings = await workspace.settings.list.aio()
        wrong = await modal.Client.from_credentials.aio("ak-wrong", "as-wrong")
        try:
            await wrong.hello.aio()
        except exception.AuthError as error:
            refused = str(error)
        members = await workspace.members.list.aio()
        return [workspace.name, settings.default_environment, refused, len(members)]
        """,
    )
    assert seen[:2] == ["my-workspace", "main"]
    assert "Token" in seen[2]
    assert seen[3] == 1
    info = clients.modal("token", "info")
    assert info.returncode == 0, info.stderr
    for text in (modal_cloud.token_id, "loopback token", "my-workspace", "loopback-user", "Expires at"):
        assert text in info.stdout
    assert modal_cloud.token_secret not in info.stdout


def test_a_token_given_by_hand_is_verified_and_named_after_the_workspace(
    modal_cloud: LoopbackCloud, clients: Clients
) -> None:
    pair = ("--token-id", modal_cloud.token_id, "--token-secret", modal_cloud.token_secret)
    done = clients.modal("token", "set", *pair, "--verify")
    assert done.returncode == 0, done.stderr
    written = tomllib.loads((modal_cloud.root / "modal.toml").read_text(encoding="utf-8"))
    assert written["loopback"]["token_id"] == modal_cloud.token_id
    assert written["loopback"]["server_url"] == modal_cloud.url


def test_a_login_in_the_browser_brings_a_token_that_works(modal_cloud: LoopbackCloud) -> None:
    login = """
        from modal.token_flow import TokenFlow
        async with modal.Client.anonymous(os.environ["MODAL_SERVER_URL"]) as anonymous:
            flow = TokenFlow(anonymous)
            async with flow.start() as (flow_id, url, code):
                try:
                    answer = await flow.finish.aio(timeout=arguments["timeout"])
                except exception.PermissionDeniedError as error:
                    return ["refused", str(error)]
                if answer is None:
                    return ["no answer", url]
        made = await modal.Client.from_credentials.aio(answer.token_id, answer.token_secret)
        await made.hello.aio()
        return [answer.workspace_username, url]
        """
    modal_cloud.knobs.login = "never"
    assert run_sdk(modal_cloud, login, timeout=0.2)[0] == "no answer"
    modal_cloud.knobs.login = "refuse"
    assert run_sdk(modal_cloud, login, timeout=10)[0] == "refused"
    modal_cloud.knobs.login = "approve"
    workspace, url = run_sdk(modal_cloud, login, timeout=10)
    assert workspace == "loopback"
    assert url.startswith("http://127.0.0.1:"), "never a page of the real Modal"


def test_environments_are_apart(modal_cloud: LoopbackCloud) -> None:
    seen = run_sdk(
        modal_cloud,
        """
        await modal.Environment.objects.create.aio("dev", client=client)
        names = [e.name for e in await modal.Environment.objects.list.aio(client=client)]
        await modal.Volume.objects.create.aio("data", environment_name="dev", client=client)
        listed = modal.Volume.objects.list
        both = [[v.name for v in await listed.aio(environment_name=name, client=client)]
                for name in ("", "main", "dev")]
        try:
            await modal.Volume.objects.list.aio(environment_name="nope", client=client)
        except exception.NotFoundError as error:
            return [names, both, str(error)]
        """,
    )
    assert sorted(seen[0]) == ["dev", "main"]
    assert seen[1] == [[], [], ["data"]]
    assert "nope" in seen[2]


BILLING = """
import datetime
workspace = modal.Workspace.from_context(client=client)
now = datetime.datetime.now(datetime.timezone.utc)
rates = await workspace.billing.rates.aio()
summary = await workspace.billing.summary.aio("this month")
day = datetime.timedelta(days=1)
report = await workspace.billing.report.aio(
    start=now - 2 * day, end=now + day, resolution="h", tag_names=["lora-run"]
)
return {
    "h100": str(rates["gpu_h100"]),
    "metered": str(summary.metered_cost),
    "billed": str(summary.billed_cost),
    "report": [[item.object_id, str(item.cost), item.tags, sorted(item.cost_by_resource)] for item in report],
}
"""


def test_costs_come_from_what_ran(modal_cloud: LoopbackCloud) -> None:
    world, now = modal_cloud.world, time.time()
    world.apps["ap-1"] = App(
        "ap-1", "lora", "main", api_pb2.APP_STATE_STOPPED, True, tags={"lora-run": "one", "more": "x"}
    )
    world.tasks["ta-1"] = Task(
        "ta-1", "ap-1", "fu-1", modal_cloud.root, gpu="H100", started_at=now - 100, finished_at=now
    )
    account = world.store.account
    account.adjustments = {"credits": "-30"}
    account.billing_items.append(BillingItem("ap-0", "older", "main", now - 60, "31.5", {"cpu": "31.5"}))
    seen = run_sdk(modal_cloud, BILLING)
    assert seen["h100"] == "0.001097"
    assert [row[0] for row in seen["report"]] == ["ap-0", "ap-1"]
    _, cost, tags, resources = seen["report"][1]
    assert tags == {"lora-run": "one"}
    assert resources == ["cpu", "gpu_h100", "memory"]
    assert float(cost) == pytest.approx(100 * (0.001097 + 0.125 * (0.0000131 + 0.00000222)), rel=1e-6)
    assert float(seen["metered"]) == pytest.approx(31.5 + float(cost))
    assert float(seen["billed"]) == pytest.approx(1.5 + float(cost))


def test_costs_are_refused_on_a_plan_without_them(modal_cloud: LoopbackCloud) -> None:
    modal_cloud.knobs.billing = False
    refused = run_sdk(
        modal_cloud,
        """
        try:
            await modal.Workspace.from_context(client=client).billing.rates.aio()
        except exception.PermissionDeniedError as error:
            return str(error)
        """,
    )
    assert "not available" in refused


def test_dictionaries_keep_what_is_put(modal_cloud: LoopbackCloud) -> None:
    seen = run_sdk(
        modal_cloud,
        """
        kept = modal.Dict.from_name("control", create_if_missing=True, client=client)
        await kept.put.aio("stop", {"save": True})
        first = await kept.put.aio("once", 1, skip_if_exists=True)
        second = await kept.put.aio("once", 2, skip_if_exists=True)
        result = [first, second, await kept.get.aio("stop"), await kept.get.aio("nope", "default"),
                  await kept.contains.aio("once"), await kept.len.aio(), await kept.pop.aio("once"),
                  [key async for key in kept.keys.aio()]]
        await kept.clear.aio()
        names = [d.name for d in await modal.Dict.objects.list.aio(client=client)]
        return [*result, await kept.len.aio(), names]
        """,
    )
    assert seen == [True, False, {"save": True}, "default", True, 2, 1, ["stop"], 0, ["control"]]
