from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch

from backend.trainer.ema import Ema
from backend.trainer.errors import TrainingError
from backend.trainer.optimizer import Schedule, build_optimizer, choose_optimizer, schedule_factor
from backend.trainer.report import Reporter
from config.schema import TrainConfig

CPU = torch.device("cpu")


def make(**settings: Any) -> tuple[torch.optim.Optimizer, str]:
    log = io.StringIO()
    train = TrainConfig(**settings)
    kind = choose_optimizer(train, CPU, Reporter(None, log))
    return build_optimizer(kind, [torch.nn.Parameter(torch.zeros(3))], train, CPU), log.getvalue()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", torch.optim.AdamW),
        ("AdamW", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("adagrad", torch.optim.Adagrad),
        ("sgd", torch.optim.SGD),
    ],
)
def test_names(name: str, kind: type) -> None:
    optimizer, log = make(optimizer=name, lr=0.5)
    assert type(optimizer) is kind
    assert optimizer.defaults["lr"] == 0.5
    assert not log


def test_adams_have_ai_toolkits_eps_unless_told_otherwise() -> None:
    assert make(optimizer="adamw")[0].defaults["eps"] == 1e-6
    assert make(optimizer="adam")[0].defaults["eps"] == 1e-6
    assert make(optimizer="adagrad")[0].defaults["eps"] == 1e-10
    given = make(optimizer="adamw", optimizer_params={"eps": 1e-8, "betas": [0.8, 0.9], "weight_decay": 0.2})[
        0
    ]
    assert given.defaults["eps"] == 1e-8
    assert given.defaults["betas"] == (0.8, 0.9)
    assert given.defaults["weight_decay"] == 0.2


def test_eight_bit_falls_back_on_the_cpu_with_a_warning() -> None:
    optimizer, log = make(optimizer="adamw8bit")
    assert type(optimizer) is torch.optim.AdamW
    assert "adamw8bit" in log
    assert "WARNING" in log


@pytest.mark.parametrize("params", [{"wight_decay": 0.1}, {"lr": 1.0}, {"betas": [2.0, 0.9]}])
def test_impossible_arguments_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=r"train\.optimizer_params") as caught:
        make(optimizer="adamw", optimizer_params=params)
    assert caught.value.bad_input


def factors(name: str, steps: int = 100, lr: float = 1.0, **params: Any) -> list[float]:
    train = TrainConfig(lr=lr, steps=steps, lr_scheduler=name, lr_scheduler_params=params)
    factor = schedule_factor(train)
    return [factor(done) for done in range(steps)]


def test_constant() -> None:
    assert factors("constant") == [1.0] * 100


def test_warmup_reaches_the_full_rate_at_its_last_step() -> None:
    values = factors("constant_with_warmup", num_warmup_steps=10)
    assert values[:11] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0])
    assert factors("constant_with_warmup", warmup_steps=10) == values
    assert factors("constant_with_warmup")[0] == pytest.approx(1e-3)  # 1000 by default


def test_linear_decays_to_zero() -> None:
    values = factors("linear")
    assert values[0] == 1.0
    assert values[50] == pytest.approx(0.5)
    assert values[-1] == pytest.approx(0.01)
    warm = factors("linear", num_warmup_steps=20)
    assert warm[:20] == sorted(warm[:20])
    assert warm[20:] == sorted(warm[20:], reverse=True)
    assert max(warm) == 1.0


def test_cosine_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.01)
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert [0.1 * f for f in factors("cosine", lr=0.1, eta_min=0.01)] == pytest.approx(expected)


def test_restarts_are_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=20, T_mult=2)
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert [0.1 * f for f in factors("cosine_with_restarts", lr=0.1, T_0=20, T_mult=2)] == pytest.approx(
        expected
    )
    four = factors("cosine_with_restarts", num_cycles=4)
    assert [i for i, value in enumerate(four) if value == 1.0] == [0, 25, 50, 75]


@pytest.mark.parametrize("params", [{"warm_up": 3}, {"num_warmup_steps": -1}, {"num_warmup_steps": "x"}])
def test_impossible_schedules_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=r"train\.lr_scheduler_params"):
        factors("linear", **params)


def test_the_schedule_sets_the_rate() -> None:
    train = TrainConfig(lr=0.5, steps=10, lr_scheduler="linear")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=9.0)
    assert Schedule(optimizer, train).apply(5) == pytest.approx(0.25)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25)


def test_ema_is_the_formula() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    ema = Ema({"p": parameter}, 0.9)
    shadow = parameter.detach().clone().double()
    for step in range(20):
        with torch.no_grad():
            parameter += 0.1 * math.sin(step)
        ema.update()
        shadow -= (1 - 0.9) * (shadow - parameter.detach().double())
    assert torch.allclose(ema.state()["p"].double(), shadow, atol=1e-6)
    assert not torch.allclose(ema.state()["p"], parameter)
    raw = parameter.detach().clone()
    with ema.swapped_in():
        assert torch.equal(parameter, ema.state()["p"])
    assert torch.equal(parameter, raw)
