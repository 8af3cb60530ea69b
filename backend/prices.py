"""What Modal charges: a dated table, which the user's own file or the workspace's rates replace.

GPUs are named as in a config (:mod:`config.gpus`): ``H100!`` (no upgrade), ``B200+`` (or better),
``A100-80GB:2`` (two). What :mod:`config.gpus` does not know has no price.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from backend.home import home
from config.gpus import parse_gpu

FILE = "prices.toml"
"""The user's own prices, in the app's data folder."""

_SHORT = ("A100-80", "A100-40", "A100")  # names that rates may have instead of Modal's own
_ANYWHERE = 3.0  # by what factor a rate may differ from the table and still be believed


@dataclass(frozen=True)
class Prices:
    """Prices in US dollars.

    Attributes:
        gpu: Of one GPU for an hour, by Modal's name.
        core: Of a physical CPU core for an hour.
        memory: Of a GiB of memory for an hour.
        storage: Of a GiB on a volume for a month, beyond ``storage_free``.
        storage_free: GiB on volumes that cost nothing.
        credit: What a workspace of the Starter plan is given every month.
        as_of: The day when they held.
        source: Where they are from.
    """

    gpu: Mapping[str, float]
    core: float
    memory: float
    storage: float
    storage_free: float
    credit: float
    as_of: datetime.date
    source: str

    def of_gpu(self, request: str) -> float | None:
        """Dollars an hour for a request such as ``H100!`` or ``L40S:2``; None if unknown."""
        name, count = split_gpu(request)
        price = self.gpu.get(name)
        return None if price is None else price * count


@dataclass(frozen=True)
class LoadedPrices:
    """Prices, and what was wrong with the user's file, if it could not be used."""

    prices: Prices
    problem: str | None = None


_HOUR = 3600

# Per second, as Modal publishes them, from a copy of modal.com/pricing:
# github.com/api-evangelist/modal-labs, plans/modal-labs-plans-pricing.yml.
# A100-80GB, H100, L40S and A10 were seen unchanged in October 2026.
PRICES = Prices(
    gpu={
        "T4": 0.000164 * _HOUR,
        "L4": 0.000222 * _HOUR,
        "A10": 0.000306 * _HOUR,
        "L40S": 0.000542 * _HOUR,
        "A100-40GB": 0.000583 * _HOUR,
        "A100-80GB": 0.000694 * _HOUR,
        "RTX-PRO-6000": 0.000842 * _HOUR,
        "H100": 0.001097 * _HOUR,
        "H200": 0.001261 * _HOUR,
        "B200": 0.001736 * _HOUR,
    },
    core=0.0000131 * _HOUR,
    memory=0.00000222 * _HOUR,
    storage=0.09,
    storage_free=1024.0,
    credit=30.0,
    as_of=datetime.date(2026, 7, 1),
    source="modal.com/pricing",
)


def split_gpu(request: str) -> tuple[str, int]:
    """The GPU's name without marks, and how many; a text that names none comes back as it is."""
    try:
        choice = parse_gpu(request)
    except ValueError:
        return request, 1
    return choice.gpu.name, choice.count


def load_prices(file: Path | None = None) -> LoadedPrices:
    """The table, with the user's own prices over it.

    They stand in ``prices.toml`` of the app's data folder: ``core``, ``memory``, ``storage``,
    ``storage_free``, ``credit``, ``as_of``, and a table ``[gpu]`` with dollars an hour by name.

    Args:
        file: Another file.
    """
    import tomllib

    file = file or home() / FILE
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return LoadedPrices(PRICES)
    except OSError as error:
        return LoadedPrices(PRICES, f"{file} cannot be read: {(error.strerror or str(error)).lower()}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return LoadedPrices(PRICES, f"{file} is not valid TOML: {error}; the built-in prices are used")
    try:
        return LoadedPrices(_overridden(data, str(file)))
    except ValueError as error:
        return LoadedPrices(PRICES, f"{file}: {error}; the built-in prices are used")


def _overridden(data: Mapping[str, object], source: str) -> Prices:
    """The table with a file's values; raises ValueError for what does not belong there."""
    numbers: dict[str, float] = {}
    gpu: dict[str, float] = {}
    as_of = PRICES.as_of
    for key, value in data.items():
        if key == "gpu" and isinstance(value, dict):
            gpu = {
                parse_gpu(str(name)).gpu.name: _price(f"gpu.{name}", price) for name, price in value.items()
            }
        elif key in ("core", "memory", "storage", "storage_free", "credit"):
            numbers[key] = _price(key, value)
        elif key == "as_of" and isinstance(value, datetime.date):
            as_of = value.date() if isinstance(value, datetime.datetime) else value
        else:
            raise ValueError(
                f"{key} is no price; it may hold [gpu], core, memory, storage, storage_free, credit and "
                "as_of (a date)"
            )
    if not numbers and not gpu:
        return PRICES
    return replace(
        PRICES,
        gpu={**PRICES.gpu, **gpu},
        core=numbers.get("core", PRICES.core),
        memory=numbers.get("memory", PRICES.memory),
        storage=numbers.get("storage", PRICES.storage),
        storage_free=numbers.get("storage_free", PRICES.storage_free),
        credit=numbers.get("credit", PRICES.credit),
        as_of=as_of,
        source=source,
    )


def _price(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 100_000:
        raise ValueError(f"{key} must be dollars, not {value!r}")
    return float(value)


# -- the workspace's own rates -------------------------------------------------------------------


@dataclass
class _Match:
    """Which rate speaks of what; the SDK does not say how rates are named."""

    gpu: dict[str, float] = field(default_factory=dict)
    core: float | None = None
    memory: float | None = None


def with_rates(prices: Prices, rates: Mapping[str, Decimal | float], today: datetime.date) -> Prices:
    """Prices with those that the workspace's API gives in place of the table's.

    Neither names nor units of the rates are documented. A name is taken for a GPU's, a core's or
    memory's if it contains that name, and its unit (a second or an hour) for the one in which it is
    nearest to the table; what is not within a factor of three of the table is not believed.

    Args:
        prices: The table.
        rates: What ``Workspace.billing.rates()`` returned.
        today: Becomes the date of the prices.
    """
    match = _Match()
    for name, rate in rates.items():
        words = re.sub(r"[^A-Z0-9]+", "-", name.upper()).strip("-")
        gpu = _gpu_in(words, prices)
        if gpu is not None:
            hourly = _hourly(float(rate), prices.gpu[gpu])
            if hourly is not None:
                match.gpu[gpu] = hourly
        elif _has(words, "CPU"):
            match.core = _hourly(float(rate), prices.core) or match.core
        elif _has(words, "MEMORY") or _has(words, "RAM"):
            match.memory = _hourly(float(rate), prices.memory) or match.memory
    if not match.gpu and match.core is None and match.memory is None:
        return prices
    return replace(
        prices,
        gpu={**prices.gpu, **match.gpu},
        core=match.core if match.core is not None else prices.core,
        memory=match.memory if match.memory is not None else prices.memory,
        as_of=today,
        source="your workspace's rates",
    )


def _gpu_in(words: str, prices: Prices) -> str | None:
    # The longest name first: A100-80GB is no A100, and RTX-PRO-6000 no other RTX.
    for name in sorted({*prices.gpu, *_SHORT}, key=len, reverse=True):
        if _has(words, name) and not (name == "A100" and "80" in words):
            return parse_gpu(name).gpu.name
    return None


def _has(words: str, name: str) -> bool:
    return f"-{name}-" in f"-{words}-"


def _hourly(rate: float, expected: float) -> float | None:
    for hourly in (rate * _HOUR, rate):
        if expected > 0 and 1 / _ANYWHERE < hourly / expected < _ANYWHERE:
            return hourly
    return None
