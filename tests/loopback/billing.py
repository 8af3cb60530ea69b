"""What the workspace costs: rates, the report by app and time, and the month's summary.

The report has a row for each app that ran containers, priced from their run times and the rates, with the
app's tags; rows that a test puts into `account.billing_items` come first. With the knob `billing` off, every
call answers PERMISSION_DENIED, as plans without the billing API do. The names of the rates are invented: the
real ones are not known.
"""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from .store import BillingItem, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .server import Context
    from .state import Task, World

# Dollars a second, as of 2026-07-01 (shared/spec/modal.md); memory by the GiB, CPU by the core.
DEFAULT_RATES = {
    "gpu_b200": "0.001736",
    "gpu_h200": "0.001261",
    "gpu_h100": "0.001097",
    "gpu_rtx_pro_6000": "0.000842",
    "gpu_a100_80gb": "0.000694",
    "gpu_a100_40gb": "0.000583",
    "gpu_l40s": "0.000542",
    "gpu_a10": "0.000306",
    "gpu_l4": "0.000222",
    "gpu_t4": "0.000164",
    "cpu": "0.0000131",
    "memory": "0.00000222",
}
_SPAN = {"d": 86400, "h": 3600}


class Billing:
    """The part of the accounts service that answers what things cost."""

    def __init__(self, world: World, store: Store) -> None:
        self.world = world
        self.store = store

    def handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "WorkspaceBillingRates": self.rates,
            "WorkspaceBillingReport": self.report,
            "WorkspaceBillingSummary": self.summary,
        }

    def _allowed(self) -> None:
        if not self.world.knobs.billing:
            raise GRPCError(Status.PERMISSION_DENIED, "Billing reports are not available on this plan")

    def _rates(self) -> dict[str, str]:
        return self.store.account.rates or DEFAULT_RATES

    async def rates(
        self, ctx: Context, request: api_pb2.WorkspaceBillingRatesRequest
    ) -> api_pb2.WorkspaceBillingRatesResponse:
        self._allowed()
        rates = self._rates()
        text = "\n".join(f"{name}: ${rate} a second" for name, rate in rates.items())
        return api_pb2.WorkspaceBillingRatesResponse(rates=rates, formatted=text)

    async def report(
        self, ctx: Context, request: api_pb2.WorkspaceBillingReportRequest
    ) -> AsyncIterator[api_pb2.WorkspaceBillingReportItem]:
        self._allowed()
        span = _SPAN.get(request.resolution)
        if span is None:
            raise GRPCError(
                Status.INVALID_ARGUMENT, f"resolution must be 'd' or 'h', not {request.resolution!r}"
            )
        start = request.start_timestamp.seconds // span * span
        end = request.end_timestamp.seconds or int(time.time())
        for item in [*self.store.account.billing_items, *self._usage(span)]:
            if not start <= item.interval_start < end:
                continue
            if request.app_ids and item.object_id not in request.app_ids:
                continue
            row = api_pb2.WorkspaceBillingReportItem(
                object_id=item.object_id,
                description=item.description,
                environment_name=item.environment,
                cost=item.cost,
                cost_by_resource=item.cost_by_resource,
                tags={
                    name: value
                    for name, value in item.tags.items()
                    if name in request.tag_names or "*" in request.tag_names
                },
            )
            row.interval.FromNanoseconds(int(item.interval_start * 1e9))
            yield row

    async def summary(
        self, ctx: Context, request: api_pb2.WorkspaceBillingSummaryRequest
    ) -> api_pb2.WorkspaceBillingSummaryResponse:
        self._allowed()
        start = request.start_timestamp.ToDatetime(tzinfo=UTC)
        end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        metered, resources = Decimal(0), defaultdict[str, Decimal](Decimal)
        for item in [*self.store.account.billing_items, *self._usage(_SPAN["h"])]:
            if start <= datetime.fromtimestamp(item.interval_start, UTC) < end:
                metered += Decimal(item.cost)
                for name, cost in item.cost_by_resource.items():
                    resources[name] += Decimal(cost)
        adjustments = self.store.account.adjustments
        billed = metered + sum((Decimal(value) for value in adjustments.values()), Decimal(0))
        response = api_pb2.WorkspaceBillingSummaryResponse(
            metered_cost=str(metered),
            billed_cost=str(max(billed, Decimal(0))),
            metered_cost_breakdown={name: str(cost) for name, cost in resources.items()},
            adjustments=adjustments,
        )
        response.start_timestamp.FromDatetime(start)
        response.end_timestamp.FromDatetime(end)
        return response

    def _usage(self, span: int) -> list[BillingItem]:
        """What the containers so far cost, a row for each app and interval in which they started."""
        rows: dict[tuple[str, int], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for task in self.world.tasks.values():
            if not task.started_at:
                continue
            seconds = Decimal(str(round((task.finished_at or time.time()) - task.started_at, 3)))
            for name, amount in self._resources(task).items():
                cost = Decimal(self._rates().get(name, "0")) * amount * seconds
                rows[task.app_id, int(task.started_at) // span * span][name] += cost
        items = []
        for (app_id, interval), costs in rows.items():
            app = self.world.apps[app_id]
            items.append(
                BillingItem(
                    object_id=app_id,
                    description=app.description,
                    environment=app.environment,
                    interval_start=interval,
                    cost=str(sum(costs.values(), Decimal(0))),
                    cost_by_resource={name: str(cost) for name, cost in costs.items()},
                    tags=dict(app.tags),
                )
            )
        return items

    def _resources(self, task: Task) -> dict[str, Decimal]:
        """How much of what a container holds: GPUs, cores, GiB."""
        held = {"cpu": Decimal("0.125"), "memory": Decimal("0.125")}
        function = self.world.functions.get(task.function_id)
        if function is not None:
            resources = function.definition.resources
            held["cpu"] = max(held["cpu"], Decimal(resources.milli_cpu) / 1000)
            held["memory"] = max(held["memory"], Decimal(resources.memory_mb) / 1024)
        if task.gpu:
            kind, _, count = task.gpu.partition(":")
            held["gpu_" + kind.lower().strip("!+").replace("-", "_")] = Decimal(count or 1)
        return held
