"""One attempt at a run, from its config to its last step: loading, caching, training.

The order is chosen for memory and for the user's patience: what can be wrong with the input is found
first, then the text encoders come and go, then the autoencoder, and the transformer comes last.
"""

from __future__ import annotations

import functools
import secrets
import time
from importlib import metadata

import torch

from backend.events import Phase, Status
from backend.files import read_json, write_json
from backend.home import cache_dir
from backend.runs.folder import RunFolder
from backend.trainer.batches import BatchMaker
from backend.trainer.cache import RamBudget, TensorCache
from backend.trainer.checkpoint import CheckpointStore
from backend.trainer.control import StopControl
from backend.trainer.dataset import Picture, read_datasets
from backend.trainer.devices import choose_device, describe_device, prepare_device
from backend.trainer.ema import Ema
from backend.trainer.encode import Progress, cache_pictures, cache_texts
from backend.trainer.hub import find_base_model
from backend.trainer.loading import DTYPES, BaseModel, free_memory
from backend.trainer.loop import TrainingLoop
from backend.trainer.lora import attach_lora
from backend.trainer.lora_file import LoraFacts
from backend.trainer.optimizer import Schedule, build_optimizer, choose_optimizer, schedule_factor
from backend.trainer.order import DataOrder, Sample
from backend.trainer.report import Reporter
from backend.trainer.rng import Randomness, derive_seed
from backend.trainer.sampling import Prompt, Sampler, sample_prompts
from backend.trainer.step import FlowModel, TrainStep
from config.schema import RunConfig

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
        self.loop: TrainingLoop | None = None
        self.done = 0

    def run(self) -> Status:
        """Train to the end, or to a request to stop; returns ``finished`` or ``stopped``.

        Raises:
            TrainingError: The run cannot go on.
            StopRequested: The run was asked to stop before training began.
        """
        _quiet_libraries()
        steps = self._process.train.steps
        device = choose_device(self._process.device)
        prepare_device(device)
        self._store.remove_leftovers()
        done = self.done = self._store.saved_step()
        self._report.attempt(
            attempt=self._attempt,
            step=done,
            steps=steps,
            device=describe_device(device),
            versions={name: metadata.version(name) for name in _LIBRARIES},
        )
        if done >= steps and self._store.final.exists():
            self._report.line(f"all {steps} steps are done already; raise train.steps to go on")
            return Status.FINISHED
        self.loop = self._prepare(device)
        if not self.loop.step and not self._process.train.skip_first_sample:
            self.loop.draw_samples()
        self._stop.check()
        return self.loop.run()

    def _prepare(self, device: torch.device) -> TrainingLoop:
        process, report, stop = self._process, self._report, self._stop
        train = process.train
        report.phase(Phase.LOADING)
        schedule_factor(train)  # complain before the long work
        optimizer_kind = choose_optimizer(train, device, report)
        pictures = read_datasets(process.datasets, process.trigger_word, report, stop)
        prompts = sample_prompts(process)
        base = BaseModel(
            find_base_model(process.model.name_or_path, report, stop),
            process.model.name_or_path,
            device,
            DTYPES[train.dtype],
        )
        base.check()

        ram = RamBudget.of_this_machine()
        texts = TensorCache(cache_dir() / "text", ram)
        latents = TensorCache(cache_dir() / "latents", ram)
        progress = Progress(report, stop)
        keys = cache_texts(_all_texts(pictures, prompts), base, texts, progress)
        vae = functools.cache(base.vae)
        samples = cache_pictures(pictures, base, vae, keys, latents, progress)
        if not prompts:
            vae.cache_clear()
        free_memory(device)
        stop.check()

        report.phase(Phase.LOADING, detail="transformer")
        transformer = base.transformer()
        if train.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        state = self._store.load_state()
        seed = int(state["training_seed"]) if state is not None else self._seed()
        random = Randomness(seed, device)
        init = torch.Generator().manual_seed(derive_seed(seed, "lora"))
        lora = attach_lora(transformer, process.network, init)
        transformer.train()
        optimizer = build_optimizer(optimizer_kind, lora.parameters.values(), train, device)
        ema = Ema(lora.parameters, train.ema_config.ema_decay) if train.ema_config.use_ema else None
        loop = TrainingLoop(
            config=self._config,
            facts=self._facts(seed, pictures, samples, bool(transformer.config.guidance_embeds)),
            lora=lora,
            ema=ema,
            optimizer=optimizer,
            train_step=TrainStep(
                FlowModel(transformer, train.cfg_scale),
                list(lora.parameters.values()),
                optimizer,
                Schedule(optimizer, train),
                ema,
                random,
                train,
            ),
            order=DataOrder(samples, train.batch_size, seed),
            make_batch=BatchMaker(latents, texts, random, device, base.dtype),
            random=random,
            sampler=Sampler(transformer, vae, prompts, keys, texts, process.sample, self._folder),
            store=self._store,
            report=report,
            stop=stop,
            device=device,
        )
        if state is not None:
            loop.load(state)
        report.line(
            f"training {len(lora.parameters) // 2} layers at rank {lora.rank} on {len(pictures)} pictures: "
            f"{loop.order.batches_per_epoch} batches of {train.batch_size} an epoch, seed {seed}"
        )
        return loop

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
            pictures=len(pictures),
            started=record.created if record is not None else time.time(),
        )


def _all_texts(pictures: list[Picture], prompts: list[Prompt]) -> list[str]:
    """Every text that has to be encoded, once, in the order of its first use."""
    texts: dict[str, None] = {}
    for picture in pictures:
        texts[picture.text] = None
        if picture.dropped is not None:
            texts[picture.dropped] = None
    texts |= {prompt.text: None for prompt in prompts}
    return list(texts)


def _quiet_libraries() -> None:
    """No progress bars and no chatter: the log is made of lines."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log
    from huggingface_hub.utils.tqdm import disable_progress_bars

    for library in (diffusers_log, transformers_log):
        library.set_verbosity_error()
        library.disable_progress_bar()
    disable_progress_bars()
