"""Train any objective with a thin subclass of transformers.Trainer."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from dalm import artifacts, stop_signals
from dalm.collectives import total
from dalm.config import Training
from dalm.distributed import from_main, rank, world_size
from dalm.errors import UserError
from dalm.models.loading import Placement
from dalm.progress import Bar
from dalm.training import checkpoints, metrics_log, resumption, sharding, training_state
from dalm.training.data.batches import Batch, TrainingRows
from dalm.training.data.sampler import EpochLoader, LengthBatches
from dalm.training.objectives.objective import Loss, Objective

logger = logging.getLogger(__name__)

SCHEDULE = "scheduler.pt"
EIGHT_BIT = "adamw_bnb_8bit"


def train(
    objective: Objective,
    rows: TrainingRows,
    settings: Training,
    placement: Placement,
    *,
    record: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    rates: Mapping[str, float] | None = None,
    trackers: list[str] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> sharding.ShardedModels | None:
    """Train the objective to the end, from the start or from a checkpoint.

    With `--shard` return its models, which stay sharded until they are gathered. `record` is what
    checkpoints record of the run (`resumption.record`), `checkpoint` the main process's, `rates`
    learning rates for some of the objective's models, by name.

    Raises:
        UserError: a checkpoint that doesn't fit.
        Interrupted: SIGTERM, SIGHUP or Ctrl-C; a checkpoint was written.
        KeyboardInterrupt: the same, in a step that took too long to wait for its end.
    """
    folder = Path(settings.output_dir)
    trainer = ObjectiveTrainer(
        objective, rows, arguments(settings, placement, trackers or []), rates or {}, record or {}
    )
    checkpoints.check_seen_by_all(folder, placement.device)  # the process group is there now
    if settings.shard != "none":
        trainer.shard(settings.shard, settings.cpu_offload)
    checkpoint = from_main(checkpoint)
    for callback in callbacks:
        trainer.add_callback(callback)
    with stop_signals.put_off(), trainer.progress.closing():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.stop.signal is not None:
        raise checkpoints.Interrupted(trainer.stop.signal, checkpoints.steps(folder)[-1][1])
    return trainer.sharded


class ObjectiveTrainer(Trainer):
    """Train an objective; write whole checkpoints and lines of metrics, and resume exactly."""

    def __init__(
        self,
        objective: Objective,
        rows: TrainingRows,
        arguments: TrainingArguments,
        rates: Mapping[str, float],
        record: Mapping[str, Any],
    ) -> None:
        self.rows = rows
        self.rates = rates
        self.record = record
        self.meter = metrics_log.Meter()
        self.stop = checkpoints.StopOnSignal()
        self.progress = ProgressBar()
        self.warned: set[str] = set()
        self.sharded: sharding.ShardedModels | None = None
        super().__init__(
            model=objective,
            args=arguments,
            train_dataset=rows,
            data_collator=rows.collate_share,  # type: ignore[arg-type]
        )
        # The loss is a mean over the batch: the trainer divides it by the accumulation steps.
        self.loss_is_scaled_for_ga = False
        self.remove_callback(ProgressCallback)
        self.remove_callback(PrinterCallback)
        self.add_callback(self.progress)
        self.add_callback(self.stop)

    def shard(self, how: sharding.Shard, offload: bool) -> None:
        """Shard the objective's models; DDP isn't used then."""
        models = self.trained.models().values()
        self.sharded = sharding.ShardedModels(models, how, offload=offload)
        self.is_distributed_loading_by_transformers = True  # accelerate is to leave them alone

    @property
    def trained(self) -> Objective:
        """The objective, without the wrappers of accelerate and DDP."""
        return self.accelerator.unwrap_model(self.model)  # type: ignore[no-any-return]

    @property
    def folder(self) -> Path:
        """The run's folder."""
        assert self.args.output_dir is not None
        return Path(self.args.output_dir)

    def get_train_dataloader(self) -> EpochLoader:
        """Return this rank's share of each batch; accelerate must not share them out again."""
        sampler = LengthBatches(
            self.rows,
            self.args.per_device_train_batch_size,
            self.args.seed,
            ranks=world_size(),
        )
        return EpochLoader(
            self.rows,  # type: ignore[arg-type]
            batch_sampler=sampler,
            collate_fn=self.rows.collate_share,
            pin_memory=self.args.device.type == "cuda",
        )

    def _run_epoch(self, *given: Any, **named: Any) -> None:
        """Run an epoch, unless the run was over in the checkpoint that it is resumed from."""
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*given, **named)  # type: ignore[no-untyped-call]

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], None]:
        """Return the batches of one update, each with the number of tokens to average over.

        It is the mean over batches and ranks, so that n accumulated batches, or n ranks, give the
        token mean of one large batch.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        self.trained.begin_update(self.state.global_step / self.state.max_steps)
        tokens = total(sum(map(self.trained.weighted_tokens, batches)), device)
        for batch in batches:
            batch["weighted_tokens"] = tokens / len(batches) / world_size()
        return batches, None

    def training_step(self, model: nn.Module, inputs: Any, *rest: Any) -> Tensor:
        """Run forward and backward; a frozen model gets no gradient, so no step and no decay."""
        loss = super().training_step(model, inputs, *rest)
        models = self.trained.models()
        for name in self.trained.frozen_models():
            models[name].zero_grad(set_to_none=True)
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the objective's loss, and add its parts to the metrics."""
        loss: Loss = model(inputs)
        self.meter.add(loss, self.trained.rows(inputs))
        return loss.total

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return AdamW with groups for each model, and weight decay on matrices only.

        In 8 bits it is that of bitsandbytes (Dettmers et al. 2021, arXiv:2110.02861).
        """
        if self.optimizer is None:
            groups = []
            for name, part in self.trained.models().items():
                rate = self.rates.get(name, self.args.learning_rate)
                trained = [p for p in part.parameters() if p.requires_grad]
                for decay, matrices in ((self.args.weight_decay, True), (0.0, False)):
                    chosen = [p for p in trained if (p.ndim > 1) is matrices]
                    if chosen:
                        groups.append(
                            {"params": chosen, "lr": rate, "weight_decay": decay, "name": name}
                        )
            rate = self.args.learning_rate  # of no group, but some schedules read it
            if self.args.optim == EIGHT_BIT:
                self.optimizer = import_module("bitsandbytes").optim.AdamW8bit(groups, lr=rate)
            else:
                fused = self.args.device.type != "mps"
                self.optimizer = torch.optim.AdamW(groups, lr=rate, fused=fused)
            assert self.optimizer is not None
            # Weights that only a forward pass has gathered would not be those of after the step.
            self.optimizer.register_step_pre_hook(lambda *_: sharding.reshard(self.trained))
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Write one line of metrics, and send it to the trackers."""
        if "loss" not in logs or not self.meter.batches:
            return  # the trainer's closing summary repeats what the lines say
        line: dict[str, float] = {"step": self.state.global_step, "epoch": self.state.epoch or 0.0}
        self._check_loss()
        line |= self.meter.flush() | {"grad_norm": logs["grad_norm"]}
        line |= self._learning_rates(logs["learning_rate"]) | self.trained.observe()
        self._warn(line)
        if self.is_world_process_zero():
            metrics_log.append(self.folder / metrics_log.FILE, line)
        super().log({k: v for k, v in line.items() if k not in ("step", "epoch")}, start_time)

    def _learning_rates(self, first: float) -> dict[str, float]:
        """Return each model's learning rate in this step; a schedule scales all alike."""
        assert self.optimizer is not None
        groups = self.optimizer.param_groups
        scale = first / groups[0]["initial_lr"]
        return {f"{g['name']}_learning_rate": scale * g["initial_lr"] for g in groups}

    def _warn(self, line: dict[str, float]) -> None:
        """Log a warning of a collapse, each kind once a run."""
        for kind, text in self.trained.warnings(line).items():
            if kind not in self.warned and self.is_world_process_zero():
                logger.warning("step %d: %s", self.state.global_step, text)
            self.warned.add(kind)

    def _check_loss(self) -> None:
        """Refuse to go on with a loss that isn't finite; checked where a sync is due anyway."""
        if not torch.isfinite(self.meter.sums["loss"]):
            raise self._not_finite("the loss is not a finite number")

    def _check_weights(self) -> None:
        """Refuse to write weights that aren't finite in the place of an earlier checkpoint's."""
        weights = (w.detach() for w in sharding.trained_parameters(self.trained).values())
        shards = (w.to_local() if isinstance(w, DTensor) else w for w in weights)
        broken = sum(not bool(shard.isfinite().all()) for shard in shards)
        if total(broken, self.args.device):
            raise self._not_finite("weights are not finite numbers")

    def _not_finite(self, what: str) -> UserError:
        remedy = "use a lower --learning-rate"
        if self.args.bf16 or self.args.fp16:
            remedy += ", or --precision fp32"
        how = checkpoints.how_to_resume(self.folder)
        return UserError(f"{what} at step {self.state.global_step}; {remedy}{how}")

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.folder / checkpoints.WRITING)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        if self.meter.batches:
            self._check_loss()
        self._check_weights()
        written = self.folder / checkpoints.WRITING / f"checkpoint-{self.state.global_step}"
        with artifacts.explained(written):
            self._write_checkpoint(model, trial, written)

    def _write_checkpoint(self, model: nn.Module, trial: Any, written: Path) -> None:
        super()._save_checkpoint(model, trial)
        artifacts.write_json(written / f"meter_{rank()}.json", self.meter.state())
        self.trained.save_state(written, rank())
        if world_size() > 1:
            dist.barrier()
        if self.is_world_process_zero():
            resumption.write(written, dict(self.record))
            checkpoints.publish(written, self.folder, self.args.save_total_limit or 1)
        if world_size() > 1:
            dist.barrier()

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write nothing: the weights are written with the optimizer's state."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        assert self.optimizer is not None
        training_state.save(folder, self.trained, self.optimizer)
        if self.args.should_save:
            assert self.lr_scheduler is not None
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULE)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        folder = Path(resume_from_checkpoint)
        training_state.load_weights(folder, self.trained)
        if self.is_world_process_zero():
            checkpoints.clear_unfinished(self.folder)
            metrics_log.rewind(self.folder / metrics_log.FILE, checkpoints.step(folder))
        self.meter.load(folder, self.args.device)
        self.trained.load_state(folder, rank())

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load their states, but take schedule, learning rates and weight decay from the options.

        With the options of the checkpoint these are what it holds, to the bit.
        """
        optimizer, schedule = self.optimizer, self.lr_scheduler
        assert optimizer is not None
        assert schedule is not None
        wanted = [(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups]
        if checkpoint is None:
            return
        training_state.load_optimizer(Path(checkpoint), self.trained, optimizer)
        schedule.load_state_dict(torch.load(Path(checkpoint) / SCHEDULE, weights_only=True))
        factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
        groups = optimizer.param_groups
        for group, (rate, decay), factor in zip(groups, wanted, factors, strict=True):
            group |= {"lr": rate * factor, "initial_lr": rate, "weight_decay": decay}
        schedule.base_lrs = [rate for rate, _ in wanted]
        schedule._last_lr = [group["lr"] for group in groups]


class ProgressBar(TrainerCallback):
    """Show one bar with the remaining time and the loss; have the last step logged."""

    def __init__(self) -> None:
        self.bar: Bar | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar at the step where the run starts or resumes."""
        if state.is_world_process_zero:
            first = state.global_step
            self.bar = Bar(state.max_steps, "training", "steps", initial=first, delay=0)
            self.bar.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the bar, and log the last step."""
        if self.bar is not None:
            self.bar.update()
        control.should_log |= state.global_step >= state.max_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the loss."""
        if self.bar is not None and logs and "loss" in logs:
            self.bar.note = f"loss {logs['loss']:.3f}"

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
            self.bar = None

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the bar however the training ends, so that the next message has its own line."""
        try:
            yield
        finally:
            if self.bar is not None:
                self.bar.__exit__(None, None, None)


def arguments(settings: Training, placement: Placement, trackers: list[str]) -> TrainingArguments:
    """Return the settings as transformers' TrainingArguments."""
    every = settings.checkpointing_steps
    on_cpu = placement.device.type == "cpu"
    made = TrainingArguments(
        output_dir=settings.output_dir,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        num_train_epochs=settings.num_train_epochs,
        max_steps=-1 if settings.max_train_steps is None else settings.max_train_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.num_warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        logging_steps=settings.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # it reads the loss back from the GPU at every step
        save_strategy="epoch" if every == "epoch" else "steps",
        save_steps=500 if every == "epoch" else every,
        save_total_limit=settings.checkpoints_kept,
        report_to=trackers,
        optim=EIGHT_BIT if settings.optimizer == "adamw-8bit" else "adamw_torch",
        bf16=placement.precision == "bf16",
        fp16=placement.precision == "fp16",
        use_cpu=on_cpu,
        remove_unused_columns=False,
        prediction_loss_only=True,
        ddp_find_unused_parameters=False,
        ddp_backend=_backend(settings, on_cpu=on_cpu),
        dataloader_num_workers=0,  # collating is copying a few arrays
        disable_tqdm=True,
    )
    # Without torchrun one GPU is used: nn.DataParallel would split the in-batch negatives.
    if made.n_gpu > 1:
        made._n_gpu = 1
    return made


def _backend(settings: Training, *, on_cpu: bool) -> str | None:
    """Return the backend of the process group; None: that of the GPUs."""
    if on_cpu:
        return "gloo" if world_size() > 1 else None
    return "cpu:gloo,cuda:nccl" if settings.cpu_offload else None
