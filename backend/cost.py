"""What a run on Modal costs: so far, in the end, and at the most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from backend.prices import Prices, load_prices

MIN_CORES = 0.125
"""CPU cores that Modal charges for at least."""


@dataclass(frozen=True)
class Machine:
    """What a container asks for.

    Attributes:
        gpus: GPU requests, the preferred one first (``H100!``, ``A100-80GB:2``); none for a CPU container.
        cores: Physical CPU cores.
        memory: GiB of memory.
    """

    gpus: tuple[str, ...] = ()
    cores: float = MIN_CORES
    memory: float = 0.0


@dataclass(frozen=True)
class Rate:
    """Dollars an hour: ``least`` and ``most`` differ where GPUs of several prices may serve."""

    least: float
    most: float

    @property
    def is_fixed(self) -> bool:
        """Whether it is known before the container starts."""
        return self.least == self.most


@dataclass(frozen=True)
class Costs:
    """A run's costs in dollars.

    Attributes:
        so_far: Of the time that has passed.
        projected: Of the whole run at its present pace; None while that is unknown. Never above ``cap``.
        cap: What it cannot exceed; None without a limit.
    """

    so_far: float
    projected: float | None = None
    cap: float | None = None


def rate_of(machine: Machine, prices: Prices) -> Rate | None:
    """What an hour of a machine costs; None if the price of one of its GPUs is unknown."""
    gpus = [prices.of_gpu(request) for request in machine.gpus] or [0.0]
    known = [price for price in gpus if price is not None]
    if len(known) < len(gpus):
        return None
    rest = max(machine.cores, MIN_CORES) * prices.core + machine.memory * prices.memory
    return Rate(min(known) + rest, max(known) + rest)


def dearest_rate(gpus: Sequence[str], *, cpu: float, memory: float, prices: Prices | None = None) -> float:
    """Dollars an hour at the most, whichever of the GPUs a container gets: what a budget is reckoned with.

    Args:
        gpus: Requests, in any order.
        cpu: Cores.
        memory: GiB.
        prices: The user's if None.

    Raises:
        ValueError: One of the GPUs has no price.
    """
    rate = rate_of(Machine(tuple(gpus), cpu, memory), prices or load_prices().prices)
    if rate is None:
        raise ValueError(f"there is no price for one of {', '.join(gpus)}; put it into prices.toml")
    return rate.most


def cost_of(seconds: float, rate: float) -> float:
    """Dollars for so many seconds at a rate in dollars an hour."""
    return max(seconds, 0.0) * rate / 3600


def costs(
    rate: float,
    seconds: float,
    *,
    remaining: float | None = None,
    limit: float | None = None,
) -> Costs:
    """A run's costs now.

    Args:
        rate: Dollars an hour of the container that runs.
        seconds: How long containers have run for it, all attempts together.
        remaining: Seconds that it still needs, if that is known.
        limit: Seconds after which it is stopped, counted as ``seconds``.
    """
    cap = None if limit is None else cost_of(limit, rate)
    projected = None if remaining is None else cost_of(seconds + max(remaining, 0.0), rate)
    if projected is not None and cap is not None:
        projected = max(min(projected, cap), cost_of(seconds, rate))
    return Costs(cost_of(seconds, rate), projected, cap)


def seconds_for_budget(budget: float, rate: float, *, spent: float = 0.0) -> int:
    """Whole seconds that a budget pays for at a rate in dollars an hour; never more than it can pay.

    Args:
        budget: Dollars for the whole run.
        rate: Dollars an hour, at most (:attr:`Rate.most`).
        spent: Dollars of it that are gone.

    Raises:
        ValueError: The rate is not a price, so that no time follows from it.
    """
    if not rate > 0:
        raise ValueError(f"a rate of {rate} dollars an hour limits nothing")
    return max(0, math.floor((budget - spent) * 3600 / rate + 1e-9))


def credit_warning(
    planned: float, prices: Prices, *, spent_this_month: float | None = None, running: Sequence[float] = ()
) -> str | None:
    """A sentence if a run may cost more than what is left of the month's credit; None if it fits.

    Args:
        planned: Dollars that the run may cost.
        prices: With the credit.
        spent_this_month: Dollars spent so far; None if Modal does not say.
        running: Dollars that other runs may still cost.
    """
    if prices.credit <= 0:
        return None
    others = sum(running)
    left = prices.credit - (spent_this_month or 0.0) - others
    if planned <= left:
        return None
    of_what = f"the monthly credit of {dollars(prices.credit)}"
    gone = [f"{dollars(spent_this_month)} is spent"] if spent_this_month else []
    gone += [f"other runs may take {dollars(others)}"] if others else []
    because = f" ({', '.join(gone)})" if gone else ""
    return f"this run may cost {dollars(planned)}, more than is left of {of_what}{because}"


def dollars(amount: float) -> str:
    """``$0.84``, ``$1,204.50``; what is more than nothing never shows as nothing."""
    if 0 < amount < 0.005:
        return "under $0.01"
    sign = "-" if round(amount, 2) < 0 else ""
    return f"{sign}${abs(amount):,.2f}"


def rate_text(rate: Rate) -> str:
    """``$4.21/h``, or ``$2.10-$4.21/h`` where several GPUs may serve."""
    most = f"{dollars(rate.most)}/h"
    return most if dollars(rate.least) == dollars(rate.most) else f"{dollars(rate.least)}-{most}"
