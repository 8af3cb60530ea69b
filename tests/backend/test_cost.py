from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.cost import (
    Costs,
    Machine,
    Rate,
    cost_of,
    costs,
    credit_warning,
    dearest_rate,
    dollars,
    rate_of,
    rate_text,
    seconds_for_budget,
)
from backend.prices import PRICES, load_prices, split_gpu, with_rates
from config.gpus import GPUS

TODAY = datetime.date(2026, 11, 1)


def test_every_gpu_that_a_config_may_name_has_a_price() -> None:
    assert set(PRICES.gpu) == set(GPUS)


def test_the_table_is_the_published_one() -> None:
    hourly = {name: round(price, 2) for name, price in PRICES.gpu.items()}
    assert hourly == {
        "T4": 0.59, "L4": 0.80, "A10": 1.10, "L40S": 1.95, "A100-40GB": 2.10, "A100-80GB": 2.50,
        "RTX-PRO-6000": 3.03, "H100": 3.95, "H200": 4.54, "B200": 6.25,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "name", "count"),
    [("h100!", "H100", 1), ("B200+:2", "B200", 2), ("A100", "A100-40GB", 1), ("nonsense", "nonsense", 1)],
)
def test_requests(request_: str, name: str, count: int) -> None:
    assert split_gpu(request_) == (name, count)
    price = PRICES.of_gpu(request_)
    assert price == (PRICES.gpu[name] * count if name in PRICES.gpu else None)


def test_the_rate_of_a_machine() -> None:
    rate = rate_of(Machine(("H100", "A100-80GB"), 4, 32), PRICES)
    assert rate is not None
    rest = 4 * 0.0000131 * 3600 + 32 * 0.00000222 * 3600
    assert rate.most == pytest.approx(3.9492 + rest)
    assert rate.least == pytest.approx(2.4984 + rest)
    assert not rate.is_fixed
    assert dearest_rate(["H100", "A100-80GB"], cpu=4, memory=32, prices=PRICES) == rate.most
    cpu = rate_of(Machine((), 0.01, 0), PRICES)
    assert cpu == Rate(0.125 * PRICES.core, 0.125 * PRICES.core)
    assert rate_of(Machine(("H100", "X9000")), PRICES) is None
    with pytest.raises(ValueError, match="no price"):
        dearest_rate(["X9000"], cpu=1, memory=1, prices=PRICES)


def test_costs() -> None:
    assert costs(3.6, 100) == Costs(pytest.approx(0.1), None, None)
    assert costs(3.6, 100, remaining=900, limit=5000) == Costs(
        pytest.approx(0.1), pytest.approx(1.0), pytest.approx(5.0)
    )
    assert costs(3.6, 100, remaining=9000, limit=5000).projected == pytest.approx(5.0)
    # A run that is over its limit already is not made cheaper by it.
    assert costs(3.6, 6000, remaining=10, limit=5000).projected == pytest.approx(6.0)


@given(
    budget=st.floats(0.01, 10_000),
    rate=st.floats(0.01, 100),
    spent=st.floats(0, 20_000),
)
def test_a_budget_is_never_exceeded(budget: float, rate: float, spent: float) -> None:
    seconds = seconds_for_budget(budget, rate, spent=spent)
    assert seconds >= 0
    if seconds:
        assert spent + cost_of(seconds, rate) <= budget * (1 + 1e-9) + 1e-9
    if spent < budget:
        assert spent + cost_of(seconds + 1, rate) > budget * (1 - 1e-9) - 1e-9


def test_exact_budgets() -> None:
    assert seconds_for_budget(1.0, 3.6) == 1000
    assert seconds_for_budget(1.0, 3.6, spent=0.5) == 500
    assert seconds_for_budget(1.0, 3.6, spent=2) == 0
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="limits nothing"):
            seconds_for_budget(1.0, rate)


def test_the_credit() -> None:
    assert credit_warning(29.99, PRICES) is None
    assert credit_warning(31, PRICES) == (
        "this run may cost $31.00, more than is left of the monthly credit of $30.00"
    )
    assert credit_warning(5, PRICES, spent_this_month=24.5, running=[3]) == (
        "this run may cost $5.00, more than is left of the monthly credit of $30.00 "
        "($24.50 is spent, other runs may take $3.00)"
    )


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (0.0001, "under $0.01"),
        (0.84, "$0.84"),
        (0.005, "$0.01"),
        (1234.5, "$1,234.50"),
        (-2, "-$2.00"),
        (-0.001, "$0.00"),
    ],
)
def test_dollars(amount: float, text: str) -> None:
    assert dollars(amount) == text


def test_rate_text() -> None:
    assert rate_text(Rate(4.2, 4.2)) == "$4.20/h"
    assert rate_text(Rate(2.5, 4.2)) == "$2.50-$4.20/h"


# -- where prices come from ----------------------------------------------------------------------


def test_no_file_is_the_table(tmp_path: Path) -> None:
    assert load_prices(tmp_path / "prices.toml").prices is PRICES


def test_the_users_own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path))
    (tmp_path / "prices.toml").write_text(
        "as_of = 2026-10-30\ncore = 0.05\n[gpu]\nh100 = 3.0\n", encoding="utf-8"
    )
    found = load_prices()
    assert found.problem is None
    assert found.prices.gpu["H100"] == 3.0
    assert found.prices.gpu["L4"] == PRICES.gpu["L4"]
    assert found.prices.core == 0.05
    assert found.prices.as_of == datetime.date(2026, 10, 30)
    assert found.prices.source == str(tmp_path / "prices.toml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gpu = 3", "gpu is no price"),
        ("[gpu]\nH10 = 3", "did you mean"),
        ("[gpu]\nH100 = -3", "must be dollars"),
        ("core = true", "must be dollars"),
        ("core = nan", "must be dollars"),
        ("as_of = 'yesterday'", "as_of is no price"),
        ("=", "not valid TOML"),
    ],
)
def test_a_bad_file_is_said_and_not_used(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text, encoding="utf-8")
    found = load_prices(file)
    assert found.prices is PRICES
    assert found.problem is not None
    assert problem in found.problem
    assert "\n" not in found.problem


def test_rates_of_the_workspace_replace_the_table() -> None:
    prices = with_rates(
        PRICES,
        {
            "gpu_h100": 0.0012,  # a second
            "GPU A100 80GB": 2.75,  # an hour
            "a100": 0.0006,
            "RTX_PRO_6000": 0.0009,
            "cpu_core": 0.000014,
            "memory-gib": 0.0000025,
            "volume_storage": 0.09,
            "gpu_h200": 900.0,  # nobody's price
        },
        TODAY,
    )
    assert prices.gpu["H100"] == pytest.approx(4.32)
    assert prices.gpu["A100-80GB"] == 2.75
    assert prices.gpu["A100-40GB"] == pytest.approx(2.16)
    assert prices.gpu["RTX-PRO-6000"] == pytest.approx(3.24)
    assert prices.gpu["H200"] == PRICES.gpu["H200"]
    assert prices.core == pytest.approx(0.0504)
    assert prices.memory == pytest.approx(0.009)
    assert (prices.as_of, prices.source) == (TODAY, "your workspace's rates")


def test_rates_that_say_nothing_leave_the_table() -> None:
    assert with_rates(PRICES, {"network_egress": 0.1, "gpu_a100_sxm_80gb": 0.0007}, TODAY) is PRICES
