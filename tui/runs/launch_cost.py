"""What a run on Modal may cost, in the words of the screen that starts it; no Textual, no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tui.text import duration


@dataclass(frozen=True)
class ModalChoice:
    """What the config says of Modal, as far as it can be read; the schema's defaults otherwise.

    Attributes:
        gpus: GPUs in the order in which they are tried, separated by commas.
        budget: Dollars as text; empty without a limit.
        cpu: Cores.
        memory: GiB.
        hours: The longest that the run may take.
    """

    gpus: str
    budget: str
    cpu: float
    memory: int
    hours: float


@dataclass(frozen=True)
class CostWords:
    """What to show.

    Attributes:
        text: The cost; empty if it cannot be told.
        problem: What is wrong with what was typed, or with the price list; empty if nothing.
        warning: Why one may hesitate; empty if nothing.
    """

    text: str = ""
    problem: str = ""
    warning: str = ""


def choice_of(config: Path | None) -> ModalChoice:
    """The section ``modal`` of a config. Imports pydantic: call it in a thread."""
    from config.load import check_config
    from config.schema.modal import ModalConfig

    loaded = check_config(config, files=False)[0] if config is not None else None
    modal = loaded.config.process.modal if loaded is not None else ModalConfig()
    budget = "" if modal.budget is None else f"{modal.budget:g}"
    return ModalChoice(", ".join(modal.gpu), budget, modal.cpu, modal.memory, modal.hours)


def overrides(typed: ModalChoice, config: ModalChoice) -> tuple[str, ...]:
    """``key.path=value`` for what was typed and is not in the config."""
    wanted = []
    if _names(typed.gpus) != _names(config.gpus):
        wanted.append(f"modal.gpu={','.join(_names(typed.gpus))}")
    if typed.budget.strip() != config.budget:
        wanted.append(f"modal.budget={typed.budget.strip() or 'null'}")
    return tuple(wanted)


def _names(gpus: str) -> list[str]:
    return [name.strip() for name in gpus.split(",") if name.strip()]


def cost_words(choice: ModalChoice) -> CostWords:
    """The cost of a choice. Reads the user's price list: call it in a thread."""
    from backend.cost import Machine, credit_warning, dollars, rate_of, rate_text, seconds_for_budget
    from backend.prices import load_prices
    from config.gpus import parse_gpu

    try:
        gpus = tuple(str(parse_gpu(name)) for name in _names(choice.gpus))
        budget = _budget(choice.budget)
    except ValueError as error:
        return CostWords(problem=str(error))
    if not gpus:
        return CostWords(problem="name at least one GPU, such as H100")
    loaded = load_prices()
    prices = loaded.prices
    rate = rate_of(Machine(gpus, choice.cpu, choice.memory), prices)
    if rate is None:
        return CostWords(problem=f"there is no price for one of {', '.join(gpus)}; put it into prices.toml")
    most = rate.most * choice.hours
    if budget is None:
        cap = f"no budget: at most {dollars(most)} in {choice.hours:g} h"
    else:
        time = duration(min(seconds_for_budget(budget, rate.most), choice.hours * 3600))
        cap = f"stops at {dollars(min(budget, most))}, after {time} or more"
    text = f"{rate_text(rate)} · {cap} · prices of {prices.as_of} ({prices.source})"
    warning = credit_warning(most if budget is None else min(budget, most), prices) or ""
    return CostWords(text, loaded.problem or "", warning)


def _budget(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text.strip().removeprefix("$"))
    except ValueError:
        value = 0.0
    if not 0 < value < 1_000_000:
        raise ValueError(f"the budget is {text.strip()!r}; it must be dollars above 0, or empty for no limit")
    return value
