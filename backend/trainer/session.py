"""One attempt at a run, from its config to its last step: loading, caching, training.

The order is chosen for memory and for the user's patience: what can be wrong with the input is found
first, then the text encoders come and go, then the autoencoder, and the transformer comes last, its weights
read meanwhile where there is room (:mod:`.early_load`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from backend.events import Phase, Status
from backend.files import read_json, write_json
from backend.runs.folder import RunFolder
from backend.trainer.assembly import Assembly, assemble
from backend.trainer.batches import BatchMaker
from backend.trainer.budget import batch_sizes
from backend.trainer.checkpoint import CheckpointStore
from backend.trainer.control import StopControl
from backend.trainer.dataset import Picture, with_variants
from backend.trainer.devices import choose_device, describe_device, prepare_device
from backend.trainer.distributed import Team, processes_wanted
from backend.trainer.extension import keep_steps, with_steps
from backend.trainer.feed import BatchFeed
from backend.trainer.graphs import record_ahead
from backend.trainer.handover import Handover
from backend.trainer.inputs import Inputs, gather_inputs
from backend.trainer.loading import free_memory
from backend.trainer.loop import TrainingLoop
from backend.trainer.lora import network_warnings
from backend.trainer.lora_file import LoraFacts, count_tags
from backend.trainer.obeying import why_not
from backend.trainer.optimizer import choose_optimizer, schedule_factor
from backend.trainer.order import DataOrder, Sample
from backend.trainer.pretrained import load_pretrained
from backend.trainer.proof import check_lora, keep_architecture
from backend.trainer.publishing import publish
from backend.trainer.report import Reporter
from backend.trainer.resuming import take_up
from backend.trainer.sampling import Sampler
from backend.trainer.timesteps import NoiseLevelSampler
from backend.trainer.trackers import Trackers
from backend.trainer.validation import BestLoss, Validator
from config.schema import RunConfig, ValidationConfig

if TYPE_CHECKING:
    from backend.trainer.buckets import Bucket

_LIBRARIES = ("torch", "diffusers", "transformers", "peft")
_SEED_FILE = "seed.json"


class Session:
    """Prepares and trains a run.

    Args:
        folder: The run's folder.
        config: Its config, resolved.
        report: Where to say what happens.
        stop: Where requests to stop arrive.
        attempt: Number of this process among those that took the run up.

    Attributes:
        loop: The training loop; None before it is prepared.
        done: Updates done when the session began; the loop knows better once it is there.
    """

    def __init__(
        self, folder: RunFolder, config: RunConfig, report: Reporter, stop: StopControl, attempt: int
    ) -> None:
        self._folder = folder
        self._config = config
        self._process = config.process
        self._report = report
        self._stop = stop
        self._attempt = attempt
        self._store = CheckpointStore(folder, config.name, config.process.save.max_step_saves_to_keep)
        self._team: Team | None = None
        self.loop: TrainingLoop | None = None
        self.done = 0

    def run(self) -> Status:
        """Train to the end, or to a request to stop; returns ``finished`` or ``stopped``.

        Raises:
            TrainingError: The run cannot go on.
            StopRequested: The run was asked to stop before training began.
        """
        try:
            return self._run()
        finally:
            self._dismiss()

    def _run(self) -> Status:
        quiet_libraries()
        device = choose_device(self._process.device, self._report)
        prepare_device(device)
        self._store.remove_leftovers()
        done = self.done = self._store.saved_step()
        self._extend_before_training()
        steps = self._process.train.steps
        self._report.attempt(
            attempt=self._attempt,
            step=done,
            steps=steps,
            device=describe_device(device),
            versions={name: metadata.version(name) for name in _LIBRARIES},
        )
        if done >= steps and self._store.final.exists():
            self._report.line(f"all {steps} steps are done already; raise train.steps to go on")
            self._finish()
            return Status.FINISHED
        self.loop = self._prepare(device)
        train = self._process.train
        if train.force_first_sample or (not self.loop.step and not train.skip_first_sample):
            self.loop.draw_samples(first=True)
        self._stop.check()
        while (status := self._tracked(self.loop)) is None:
            self._prepare_again(device)
        if status is Status.FINISHED:
            self._finish()
        return status

    def _extend_before_training(self) -> None:
        """Carry out what asks for more steps before anything is prepared: that is when it costs least."""
        inbox = self._stop.inbox
        if inbox is None:
            return
        inbox.look(now=True)
        for command in [command for command in inbox.waiting if command.kind == "extend"]:
            steps, before = command.steps or 0, self._process.train.steps
            problem = why_not(steps, self.done)
            if problem is None:
                config = with_steps(self._config, steps)
                try:
                    keep_steps(self._folder, config)
                    self._use(config)
                except (OSError, ValueError) as error:
                    problem = f"the run's config cannot be written: {error}"
            if problem is None:
                inbox.answer(command, ok=True, detail=f"{steps} steps instead of {before}", steps=steps)
            else:
                inbox.answer(command, ok=False, detail=problem)

    def _use(self, config: RunConfig) -> None:
        self._config, self._process = config, config.process

    def _prepare_again(self, device: torch.device) -> None:
        """The run has become longer and needs more texts: go on from what it just saved, as a resume does."""
        if self.loop is None:
            return
        self._use(self.loop.config)
        self.done = self.loop.step
        self.loop = None
        self._dismiss()
        free_memory(device)
        self.loop = self._prepare(device)

    def _tracked(self, loop: TrainingLoop) -> Status | None:
        """Train, with the trackers that the config asks for."""
        trackers = Trackers(self._config, self._folder, loop.step, self._report)
        if not trackers:
            return loop.run()
        with self._report.told(trackers):
            try:
                return loop.run()
            finally:
                trackers.close()

    def _finish(self) -> None:
        """Prove that the LoRA file works, then upload it if that is wanted.

        Raises:
            TrainingError: The file would not work where people use it.
        """
        final = self._store.final
        check_lora(final, self._folder)
        if self._store.as_lora(final).exists():
            check_lora(self._store.as_lora(final), self._folder)
        publish(self._folder, self._config, final, self._report)

    def _prepare(self, device: torch.device) -> TrainingLoop:
        process, report, stop = self._process, self._report, self._stop
        train = process.train
        report.phase(Phase.LOADING)
        schedule_factor(train)  # complain before the long work
        NoiseLevelSampler(train)
        optimizer_kind = choose_optimizer(train, device, report)
        state = self._store.load_state()
        seed = int(state["training_seed"]) if state is not None else self._seed()
        inputs = gather_inputs(process, device, seed, report, stop)
        try:
            return self._build(inputs, optimizer_kind, state, seed, device)
        finally:
            inputs.close()

    def _build(
        self,
        inputs: Inputs,
        optimizer_kind: type[torch.optim.Optimizer],
        state: dict[str, Any] | None,
        seed: int,
        device: torch.device,
    ) -> TrainingLoop:
        process, report = self._process, self._report
        train, base, plan = process.train, inputs.base, inputs.plan
        pictures, samples, text_tokens = inputs.pictures, inputs.samples, inputs.text_tokens
        texts, latents = inputs.texts, inputs.latents
        buckets = [sample.bucket for sample in samples]
        sizes = batch_sizes(buckets, train.batch_size, train.token_budget, text_tokens)
        order = DataOrder(samples, train.batch_size, seed, self._saved_every(), sizes)
        team = self._gather(device, order.shapes(), text_tokens, seed)
        transformer = inputs.transformer(order.shapes(), process.network.rank, report)
        keep_architecture(transformer, self._folder)
        made = assemble(
            transformer,
            process,
            optimizer_kind,
            seed=seed,
            device=device,
            report=report,
            shapes=order.shapes(),
            text_tokens=text_tokens,
            drawn=inputs.drawn,
        )
        if team is not None:
            team.join()
            made.step.share_with(team)
        lora, optimizer, ema, random, model = made.lora, made.optimizer, made.ema, made.random, made.model
        for sentence in network_warnings(process.network):
            report.warning(sentence, "network_setting")
        if process.network.pretrained_lora_path is not None and state is None:
            load_pretrained(Path(process.network.pretrained_lora_path), lora, report)
        validator: Validator | None = None
        if inputs.validation:
            levels = train.validation_config or ValidationConfig()
            validator = Validator(
                model, transformer, inputs.validation, latents, texts, levels, device, base.dtype
            )
        maker = BatchMaker(latents, texts, random, device, base.dtype)
        loop = TrainingLoop(
            config=self._config,
            facts=self._facts(seed, pictures, samples, bool(transformer.config.guidance_embeds)),
            lora=lora,
            ema=ema,
            optimizer=optimizer,
            train_step=made.step,
            order=order,
            feed=BatchFeed(order, maker, device),
            random=random,
            sampler=Sampler(
                transformer,
                inputs.vae,
                plan,
                inputs.keys,
                texts,
                self._folder,
                strength=lora.strength,
                loras=base.sampling_loras() if plan.texts else (),
            ),
            store=self._store,
            report=report,
            stop=self._stop,
            device=device,
            validator=validator,
            best=BestLoss(train.early_stop),
            handover=Handover(self._folder, lora, ema, plan, report) if inputs.elsewhere else None,
            needs_preparing=lambda steps: (
                with_variants(inputs.plain, train.model_copy(update={"steps": steps}), seed) != pictures
            ),
        )
        if state is not None:
            take_up(loop, state)
        self._record(made, order, maker)
        report.line(
            f"training {len(lora.layers)} layers at rank {lora.rank} on {len(pictures)} pictures: "
            f"{loop.order.batches_per_epoch} batches of {_span(sizes.values())} an epoch, seed {seed}"
        )
        return loop

    def _record(self, made: Assembly, order: DataOrder, maker: BatchMaker) -> None:
        """Record what can be replayed, on a batch of each kind."""
        graphs = made.step.graphs
        if graphs is None:
            return
        unused = torch.Generator()  # the run's own draws are for the batches that it trains
        examples = [(maker.assemble(maker.plan(draws, unused)), number) for draws, number in order.examples()]
        accumulation = self._process.train.gradient_accumulation
        share = 1.0 / (accumulation * made.step.processes)
        record_ahead(graphs, examples, made.step.blank_draws, accumulation, share, self._report)

    def _gather(
        self, device: torch.device, shapes: Mapping[tuple[Bucket, int], int], text_tokens: int, seed: int
    ) -> Team | None:
        """Start the processes of the other GPUs, if the run has any; they load while this one does."""
        size = processes_wanted(self._config, device)
        if size > 1:
            self._team = Team(size, self._folder.path, device, shapes, text_tokens, seed)
            self._report.line(f"training on {size} GPUs: every update is the mean over {size} batches")
        return self._team

    def _dismiss(self) -> None:
        if self._team is not None:
            self._team.close()
            self._team = None

    def _saved_every(self) -> tuple[int, ...]:
        """Steps between saves and between samples: such steps end with something to see."""
        process = self._process
        sampled = 0 if process.train.disable_sampling else process.sample.sample_every
        return process.save.save_every, sampled

    def _seed(self) -> int:
        """The run's seed: the config's, or one drawn at the first start and kept in the run's folder."""
        if self._process.training_seed is not None:
            return self._process.training_seed
        file = self._folder.state / _SEED_FILE
        kept = read_json(file)
        if isinstance(kept, dict) and isinstance(kept.get("training_seed"), int):
            return int(kept["training_seed"])
        seed = secrets.randbelow(2**31)
        write_json(file, {"training_seed": seed})
        return seed

    def _facts(
        self, seed: int, pictures: list[Picture], samples: list[Sample], distilled_guidance: bool
    ) -> LoraFacts:
        buckets: dict[str, int] = {}
        for sample in samples:
            buckets[str(sample.bucket)] = buckets.get(str(sample.bucket), 0) + 1
        record = self._folder.read_record()
        return LoraFacts(
            config=self._config,
            distilled_guidance=distilled_guidance,
            training_seed=seed,
            buckets=dict(sorted(buckets.items())),
            tags=count_tags(
                (picture.wording.rules.trigger or "", picture.caption)
                for picture in pictures
                if not picture.is_reg
            ),
            pictures=len(pictures),
            started=record.created if record is not None else time.time(),
        )


def _span(sizes: Collection[int]) -> str:
    """``2``, or ``1 to 3`` if batches differ."""
    least, most = min(sizes), max(sizes)
    return str(least) if least == most else f"{least} to {most}"


def quiet_libraries() -> None:
    """No progress bars and no chatter: the log is made of lines."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log
    from huggingface_hub.utils.tqdm import disable_progress_bars

    for library in (diffusers_log, transformers_log):
        library.set_verbosity_error()
        library.disable_progress_bar()
    disable_progress_bars()
