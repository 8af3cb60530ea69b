"""Optimizers and learning-rate schedules by the names of ai-toolkit's configs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from backend.trainer.automagic import Automagic
from backend.trainer.errors import INSTALL_HINT, TrainingError
from backend.trainer.report import Reporter
from config.schema import TrainConfig

ADAM_EPS = 1e-6  # ai-toolkit's for all of Adam's kin; torch's own is 1e-8

_EIGHT_BIT = {
    "adamw8bit": ("adamw", "AdamW8bit"),
    "adam8bit": ("adam", "Adam8bit"),
    "adamw8": ("adamw", "AdamW8bit"),
    "adam8": ("adam", "Adam8bit"),
    "lion8bit": ("lion", "Lion8bit"),
    "ademamix8bit": ("ademamix", "AdEMAMix8bit"),
}
_SAME_AS = {
    "prodigy8bit": ("prodigy", "keeps its state in 32 bits here; the numbers are prodigy's"),
    "automagic2": ("automagic", "is trained as automagic"),
    "automagic3": ("automagic", "is trained as automagic"),
}
_TORCH: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
    "sgd": torch.optim.SGD,
    "automagic": Automagic,
}
_PYTORCH_OPTIMIZER = {  # the library's class names
    "lion": "Lion",
    "ademamix": "AdEMAMix",
    "prodigy": "Prodigy",
    "dadaptation": "DAdaptAdam",
    "dadaptadam": "DAdaptAdam",
    "dadaptlion": "DAdaptLion",
}
# They find the step size themselves; lr is a factor on it.
_SELF_TUNING = ("prodigy", "prodigy8bit", "dadaptation", "dadaptadam", "dadaptlion")
_LIBRARY = "pytorch-optimizer"


def effective_lr(train: TrainConfig) -> float:
    """The learning rate that the optimizer gets.

    Optimizers that find the step size themselves (Prodigy, D-Adaptation) take a factor of about 1; a
    value below 0.1 is one meant for another optimizer and becomes 1, as in ai-toolkit.
    """
    return 1.0 if train.optimizer in _SELF_TUNING and train.lr < 0.1 else train.lr


def choose_optimizer(
    train: TrainConfig, device: torch.device, report: Reporter
) -> type[torch.optim.Optimizer]:
    """The class of optimizer that ``train`` asks for, its arguments checked.

    The 8-bit ones need CUDA and bitsandbytes; without, their 32-bit originals take their place with a
    warning.

    Raises:
        TrainingError: ``optimizer_params`` has an argument that the optimizer does not take, or its
            library is not installed.
    """
    name: str = train.optimizer
    kind: type[torch.optim.Optimizer] | None = None
    if name in _EIGHT_BIT:
        plain, eight_bit = _EIGHT_BIT[name]
        kind = _bitsandbytes(eight_bit, device)
        if kind is None:
            if device.type == "cuda":
                # The state of a LoRA's optimizer is small: on an H200, rank 16, 8 bits saved 0.5 GiB of 51
                # and cost 18 % of the speed, so bitsandbytes is not among what is installed.
                why = f"is {plain} here, which is faster; for 8 bits: pip install bitsandbytes"
            else:
                why = f"needs an NVIDIA GPU and bitsandbytes; {plain} is used instead"
            report.warning(f"optimizer {name} {why}", "optimizer_fallback")
            name = plain
    elif name in _SAME_AS:
        name, sentence = _SAME_AS[name]
        report.warning(f"optimizer {train.optimizer} {sentence}", "optimizer_fallback")
    if effective_lr(train) != train.lr:
        report.line(f"optimizer {train.optimizer} finds the step size itself: lr {train.lr:g} becomes 1")
    kind = kind or _class_of(name)
    where = f"train.optimizer_params of {train.optimizer}"
    _check_arguments(train.optimizer_params, _without(kind, *_NOT_FOR_USERS), where)
    return kind


_NOT_FOR_USERS = ("params", "lr", "kwargs", "relative_step", "scale_parameter", "warmup_init")


def _class_of(name: str) -> type[torch.optim.Optimizer]:
    if name in _TORCH:
        return _TORCH[name]
    if name == "adafactor":
        from transformers import Adafactor

        adafactor: type[torch.optim.Optimizer] = Adafactor
        return adafactor
    try:
        import pytorch_optimizer
    except ImportError:
        raise TrainingError(
            f"train.optimizer {name} needs the library {_LIBRARY}, which is not installed: {INSTALL_HINT}",
            "missing_train_extra",
        ) from None
    kind: type[torch.optim.Optimizer] = getattr(pytorch_optimizer, _PYTORCH_OPTIMIZER[name])
    return kind


def build_optimizer(
    kind: type[torch.optim.Optimizer],
    parameters: Iterable[torch.nn.Parameter],
    train: TrainConfig,
    device: torch.device,
) -> torch.optim.Optimizer:
    """An optimizer of a class that :func:`choose_optimizer` chose.

    Raises:
        TrainingError: A value in ``optimizer_params`` is impossible.
    """
    arguments = {key: _tuples(value) for key, value in train.optimizer_params.items()}
    arguments["lr"] = effective_lr(train)
    if _is_adams_kin(kind):
        arguments.setdefault("eps", ADAM_EPS)
    if kind in (torch.optim.AdamW, torch.optim.Adam) and device.type == "cuda":
        arguments.setdefault("fused", True)
    if train.optimizer == "adafactor":  # else it would choose a learning rate itself
        arguments |= {"relative_step": False, "scale_parameter": False, "warmup_init": False}
    try:
        return kind(parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise TrainingError(
            f"train.optimizer_params do not suit {train.optimizer}: {error}", "bad_config", bad_input=True
        ) from error


def adamw_settings(train: TrainConfig) -> dict[str, Any]:
    """The arguments of ``torch.optim.AdamW`` that a config comes to."""
    settings = {key: _tuples(value) for key, value in train.optimizer_params.items()}
    return {"eps": ADAM_EPS, **settings, "lr": effective_lr(train)}


def _is_adams_kin(kind: type[torch.optim.Optimizer]) -> bool:
    return kind.__name__.removesuffix("8bit") in ("AdamW", "Adam", "AdEMAMix", "Prodigy", "DAdaptAdam")


def name_of(optimizer: torch.optim.Optimizer) -> str:
    """The name of the optimizer's class: what a saved state must have been saved by."""
    return str(getattr(optimizer, "same_as", type(optimizer)).__name__)


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What the config set in each parameter group: the arguments of its class, without what it learned.

    Prodigy keeps its estimate of the step size beside them, which a resume must not reset.
    """
    kind = getattr(optimizer, "same_as", type(optimizer))
    names = inspect.signature(kind).parameters.keys() - {"params"}
    return [{k: v for k, v in group.items() if k in names} for group in optimizer.param_groups]


def _bitsandbytes(name: str, device: torch.device) -> type[torch.optim.Optimizer] | None:
    if device.type != "cuda":
        return None
    try:
        import bitsandbytes  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    kind: type[torch.optim.Optimizer] = getattr(bitsandbytes.optim, name)
    return kind


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # YAML has no tuples; betas is one


def _check_arguments(given: Mapping[str, Any], taker: Callable[..., Any], where: str) -> None:
    known = list(inspect.signature(taker).parameters)
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise TrainingError(
            f"{where}: {', '.join(unknown)} is not known; there are {', '.join(known)}",
            "bad_config",
            bad_input=True,
        )


class Schedule:
    """Sets the optimizer's learning rate; a pure function of the updates done, so a resume needs no state.

    Attributes:
        scale: Factor on all of it: a run that went back after a bad loss goes on at half the rate.

    Raises:
        TrainingError: ``lr_scheduler_params`` has an argument that the schedule does not take.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, train: TrainConfig) -> None:
        self._optimizer = optimizer
        self._lr = effective_lr(train)
        self._factor = schedule_factor(train)
        self.scale = 1.0

    def apply(self, done: int) -> float:
        """Set and return the learning rate of the update after ``done`` updates."""
        lr = self._lr * self._factor(done) * self.scale
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        return lr


def schedule_factor(train: TrainConfig) -> Callable[[int], float]:
    """The factor on the learning rate as a function of the updates already done.

    All but ``constant`` accept a warm-up (``num_warmup_steps``), which ramps up evenly so that
    update number ``num_warmup_steps`` has the full rate. Where ai-toolkit's ``linear`` ramps *up* from
    a third (torch's LinearLR with its defaults), this one decays to 0.

    Raises:
        TrainingError: ``lr_scheduler_params`` has an argument that the schedule does not take.
    """
    shape = _SHAPES[train.lr_scheduler]
    given = {_SYNONYMS.get(key, key): value for key, value in train.lr_scheduler_params.items()}
    _check_arguments(
        given, _without(shape, "steps", "lr"), f"train.lr_scheduler_params of {train.lr_scheduler}"
    )
    if bad := [key for key, value in given.items() if not isinstance(value, int | float) or value < 0]:
        raise TrainingError(
            f"train.lr_scheduler_params: {bad[0]} must be a number of at least 0",
            "bad_config",
            bad_input=True,
        )
    factor: Callable[[int], float] = shape(steps=train.steps, lr=effective_lr(train), **given)
    return factor


_SYNONYMS = {"warmup_steps": "num_warmup_steps"}


def _without(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """Something whose signature is ``function``'s without ``names``."""
    signature = inspect.signature(function)

    def shell() -> None: ...

    kept = [p for n, p in signature.parameters.items() if n not in names]
    shell.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return shell


def _constant(*, steps: int, lr: float, factor: float = 1.0, total_iters: int = 0) -> Callable[[int], float]:
    """``factor`` during the first ``total_iters`` updates, then 1 (torch's ConstantLR)."""
    return lambda done: factor if done < total_iters else 1.0


def _constant_with_warmup(*, steps: int, lr: float, num_warmup_steps: int = 1000) -> Callable[[int], float]:
    return lambda done: _warmup(done, num_warmup_steps)


def _linear(
    *, steps: int, lr: float, num_warmup_steps: int = 0, total_iters: int = 0
) -> Callable[[int], float]:
    end = total_iters or steps

    def factor(done: int) -> float:
        return _warmup(done, num_warmup_steps) * (1.0 - _progress(done, num_warmup_steps, end))

    return factor


def _cosine(
    *,
    steps: int,
    lr: float,
    num_warmup_steps: int = 0,
    eta_min: float = 0.0,
    T_max: int = 0,  # noqa: N803
) -> Callable[[int], float]:
    """Half a cosine from the full rate to ``eta_min`` (Loshchilov & Hutter 2017, SGDR)."""
    end, floor = T_max or steps, eta_min / lr

    def factor(done: int) -> float:
        falling = _half_cosine(_progress(done, num_warmup_steps, end))
        return _warmup(done, num_warmup_steps) * (floor + (1.0 - floor) * falling)

    return factor


def _cosine_with_restarts(
    *,
    steps: int,
    lr: float,
    num_warmup_steps: int = 0,
    eta_min: float = 0.0,
    T_0: int = 0,  # noqa: N803 - torch's name
    T_mult: int = 1,  # noqa: N803
    num_cycles: int = 1,
) -> Callable[[int], float]:
    """Half cosines one after another, the first over ``T_0`` updates, each ``T_mult`` times the last."""
    floor = eta_min / lr
    first = T_0 or max(1, math.ceil((steps - num_warmup_steps) / max(1, num_cycles)))

    def factor(done: int) -> float:
        position, length = max(0, done - num_warmup_steps), first
        while position >= length:
            position -= length
            length *= max(1, T_mult)
        falling = _half_cosine(position / length)
        return _warmup(done, num_warmup_steps) * (floor + (1.0 - floor) * falling)

    return factor


def _step(*, steps: int, lr: float, step_size: int = 0, gamma: float = 0.1) -> Callable[[int], float]:
    """Times ``gamma`` every ``step_size`` updates (torch's StepLR); a third of the run if not given."""
    size = int(step_size) or max(1, math.ceil(steps / 3))
    return lambda done: float(gamma ** (done // size))


def _warmup(done: int, length: int) -> float:
    return min(1.0, (done + 1) / length) if length > 0 else 1.0


def _progress(done: int, start: int, end: int) -> float:
    return min(1.0, max(0.0, (done - start) / max(1, end - start)))


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


_SHAPES: dict[str, Callable[..., Callable[[int], float]]] = {
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "step": _step,
}
