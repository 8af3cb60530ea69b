from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch

from backend.trainer.ema import Ema
from backend.trainer.errors import TrainingError
from backend.trainer.optimizer import (
    Schedule,
    build_optimizer,
    choose_optimizer,
    schedule_factor,
    settings_of,
)
from backend.trainer.report import Reporter
from backend.trainer.tensorfile import join_tensors, split_tensors
from config.schema import TrainConfig
from config.schema.train import OPTIMIZERS

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


class Descent:
    """A few parameters, an optimizer and a schedule on gradients that depend on the step alone."""

    def __init__(self, **settings: Any) -> None:
        train = TrainConfig(steps=20, lr_scheduler="cosine", **settings)
        generator = torch.Generator().manual_seed(0)
        self.parameters = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in ((6, 5), (5,))]
        kind = choose_optimizer(train, CPU, Reporter(None, io.StringIO()))
        self.optimizer = build_optimizer(kind, self.parameters, train, CPU)
        self.schedule = Schedule(self.optimizer, train)

    def go(self, begin: int, end: int) -> None:
        for done in range(begin, end):
            self.schedule.apply(done)
            generator = torch.Generator().manual_seed(done)
            for p in self.parameters:
                p.grad = 0.3 * p.detach() + torch.randn(p.shape, generator=generator)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_continues_to_the_bit(name: str) -> None:
    straight, first, second = (Descent(optimizer=name, lr=1e-3) for _ in range(3))
    start = [p.detach().clone() for p in straight.parameters]
    straight.go(0, 8)
    first.go(0, 4)
    text, tensors = split_tensors(first.optimizer.state_dict())
    state = join_tensors(text, {key: tensor.clone() for key, tensor in tensors.items()})
    with torch.no_grad():
        for mine, saved in zip(second.parameters, first.parameters, strict=True):
            mine.copy_(saved)
    settings = settings_of(second.optimizer)
    second.optimizer.load_state_dict(state)
    for group, values in zip(second.optimizer.param_groups, settings, strict=True):
        group.update(values)
    second.go(4, 8)
    for mine, expected, before in zip(second.parameters, straight.parameters, start, strict=True):
        assert torch.equal(mine, expected)
        assert not torch.equal(mine, before)


@pytest.mark.parametrize("name", ["prodigy", "prodigy8bit", "dadaptation", "dadaptadam", "dadaptlion"])
def test_self_tuning_optimizers_take_a_factor_of_one(name: str) -> None:
    optimizer, log = make(optimizer=name, lr=1e-4)
    assert optimizer.param_groups[0]["lr"] == 1.0
    assert "lr 0.0001 becomes 1" in log
    train = TrainConfig(optimizer=name, lr=1e-4, steps=10, lr_scheduler="linear")
    assert Schedule(optimizer, train).apply(5) == pytest.approx(0.5)
    optimizer, log = make(optimizer=name, lr=0.5)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert "becomes" not in log


def test_prodigy_keeps_its_estimate_over_a_resume() -> None:
    descent = Descent(optimizer="prodigy", lr=1.0, optimizer_params={"d_coef": 2.0})
    descent.go(0, 6)
    learned = descent.optimizer.param_groups[0]["d"]
    assert learned > 1e-6  # its start
    (settings,) = settings_of(descent.optimizer)
    assert settings["d_coef"] == 2.0
    assert not {"d", "d_max", "d_numerator", "step", "params"} & settings.keys()


def test_lion_is_the_papers() -> None:
    """Chen et al. 2023, algorithm 2: the sign of an interpolation, then the momentum."""
    descent = Descent(optimizer="lion", lr=0.01)
    p, m = descent.parameters[0].detach().double().clone(), torch.zeros(6, 5, dtype=torch.float64)
    for done in range(6):
        generator = torch.Generator().manual_seed(done)
        gradient = 0.3 * p + torch.randn((6, 5), generator=generator)
        lr = 0.01 * 0.5 * (1 + math.cos(math.pi * done / 20))
        p -= lr * torch.sign(0.9 * m + 0.1 * gradient)
        m = 0.99 * m + 0.01 * gradient
    descent.go(0, 6)
    assert torch.allclose(descent.parameters[0].double(), p, atol=1e-5)


def test_adafactor_follows_the_configs_rate() -> None:
    """With relative steps or parameter scaling the first update would not be about lr."""
    optimizer, _ = make(optimizer="adafactor", lr=0.01)
    assert optimizer.defaults["relative_step"] is False
    assert optimizer.defaults["scale_parameter"] is False
    descent = Descent(optimizer="adafactor", lr=0.01)
    before = descent.parameters[1].detach().clone()
    descent.go(0, 1)
    moved = (descent.parameters[1].detach() - before).square().mean().sqrt().item()
    assert moved == pytest.approx(0.01, rel=0.05)  # updates are clipped to a root mean square of 1
    with pytest.raises(TrainingError, match="relative_step"):
        make(optimizer="adafactor", optimizer_params={"relative_step": True})


def test_automagic_raises_rates_that_keep_their_sign_and_lowers_others() -> None:
    optimizer, _ = make(optimizer="automagic", lr=1e-4, optimizer_params={"lr_bump": 1e-5, "max_lr": 1.25e-4})
    (parameter,) = optimizer.param_groups[0]["params"]
    for step in range(5):
        parameter.grad = torch.tensor([1.0, -1.0, 1.0 if step % 2 else -1.0])
        optimizer.step()
    rates = optimizer.state[parameter]["rates"]
    assert rates.tolist() == pytest.approx([1.25e-4, 1.25e-4, 6e-5])
    assert parameter.detach()[0] < 0 < parameter.detach()[1]


def test_automagic_learns() -> None:
    """A quadratic falls; its first step has the size of the rate."""
    optimizer, _ = make(optimizer="automagic", lr=1e-3, optimizer_params={"max_lr": 0.1, "lr_bump": 1e-3})
    (parameter,) = optimizer.param_groups[0]["params"]
    target = torch.tensor([1.0, -2.0, 0.5])
    for step in range(200):
        parameter.grad = parameter.detach() - target
        optimizer.step()
        if not step:
            assert parameter.detach().abs().max().item() == pytest.approx(1.5e-3, abs=1e-3)
    assert torch.allclose(parameter.detach(), target, atol=0.15)


@pytest.mark.parametrize("name", ["automagic2", "prodigy8bit", "lion8bit", "ademamix8bit", "adamw8"])
def test_what_is_not_there_is_replaced_with_a_warning(name: str) -> None:
    _, log = make(optimizer=name)
    assert "WARNING" in log
    assert name in log


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(TrainingError, match="pytorch-optimizer") as caught:
        make(optimizer="prodigy")
    assert caught.value.code == "missing_train_extra"


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


def test_step_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.5)
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factors("step", step_size=30, gamma=0.5) == pytest.approx(expected)
    assert [factors("step")[i] for i in (0, 33, 34, 99)] == pytest.approx([1.0, 1.0, 0.1, 0.01])


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
