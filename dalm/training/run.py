"""Run a training command: check its options, load its data and models, train, and export."""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from transformers import TrainerCallback, set_seed

from dalm import config as options
from dalm import stop_signals
from dalm.config.training import TRACKERS, covers
from dalm.distributed import is_main
from dalm.errors import UserError, reason_of
from dalm.models import generator_checks, loading
from dalm.models.dropout import draw_zeros_alone
from dalm.models.generator import Generator, load_generator
from dalm.models.reranker import Reranker, load_reranker
from dalm.models.retriever import Retriever, retriever_from_config
from dalm.next_step import log_next
from dalm.prompts import read_prompt
from dalm.training import checkpoints, dry_run, memory, resumption, sharding
from dalm.training.data.batches import TrainingRows
from dalm.training.objectives.objective import Objective
from dalm.training.run_folder import RunFolder, check_repository
from dalm.training.trainer import train

logger = logging.getLogger(__name__)


class TrainingRun:
    """A training run whose options are checked, before anything is read or loaded.

    `inputs` are the command's arguments, the table and the models, by name; None: not given.

    Raises:
        UserError: a value out of range, an output folder in use, no such model, device, tracker or
            hub.
    """

    def __init__(self, settings: Any, **inputs: str | None) -> None:
        self.settings = settings
        self.inputs = {name: value for name, value in inputs.items() if value is not None}
        options.check(settings)
        self.folder = RunFolder(settings, self.inputs)
        self._check_models()
        if getattr(settings, "prompt", None):
            read_prompt(settings.prompt)
        self.placement = loading.placement_of(settings)
        if getattr(settings, "use_bnb", False):
            if not settings.use_peft or not covers(settings.use_peft, settings.use_bnb):
                raise UserError("--use-bnb: 4-bit weights can't be trained; add --use-peft")
            loading.check_four_bit(self.placement.device)
        if settings.optimizer == "adamw-8bit":
            loading.check_eight_bit(self.placement.device)
        sharding.check_shard(settings, self.placement)
        self.trackers = _trackers(settings)
        if settings.hub_model_id and not settings.dry_run and is_main():
            check_repository(settings.hub_model_id, settings.hub_token)
        set_seed(settings.seed)

    def _check_models(self) -> None:
        for argument, name in self.inputs.items():
            if argument != "dataset_path":
                role = argument.removesuffix("_name_or_path")
                loading.check_model_name(name, role)
                if self._trains(role):
                    loading.check_no_adapter(name, role)

    def _trains(self, role: str) -> bool:
        if role == "generator":
            return bool(getattr(self.settings, "train_generator", True))
        return self._train_encoders != "none"

    @property
    def _train_encoders(self) -> str:
        return str(getattr(self.settings, "train_encoders", "both"))

    # Data and models

    def retriever(self) -> Retriever:
        """Load the retriever to train, and freeze it or add adapters as the options ask."""
        retriever = self._load_retriever()
        self._adapt_retriever(retriever)
        return retriever

    def generator(self, name: str | None = None, *, max_length: int | None = None) -> Generator:
        """Load the generator to train, and freeze it or add adapters as the options ask.

        `name` replaces the command's argument, `max_length` the option's.
        """
        generator = self._load_generator(name, max_length)
        self._adapt_generator(generator)
        return generator

    def pair(self) -> tuple[Retriever, Generator]:
        """Load retriever and generator, then freeze them or add adapters as the options ask.

        Both are loaded before adapters are drawn, so that the draws depend on the seed alone.
        """
        retriever, generator = self._load_retriever(), self._load_generator()
        self._adapt_retriever(retriever)
        self._adapt_generator(generator)
        return retriever, generator

    def reranker(self) -> Reranker:
        """Load the reranker to train, or an encoder with a new head."""
        return load_reranker(
            self.inputs["reranker_name_or_path"],
            self.placement,
            max_length=self.settings.max_length,
            to_train=True,
        )

    def frozen_retriever(self, name: str) -> Retriever:
        """Load a retriever that is only searched with, in the precision it computes in."""
        return retriever_from_config(self.settings, name, replace(self.placement, frozen=True))

    def _load_retriever(self) -> Retriever:
        given = self.settings
        # What is exported whole isn't rounded, although it is frozen: beside a query adapter.
        whole = self._train_encoders in ("both", "query-adapter")
        frozen = not whole or covers(given.use_peft, "retriever")
        four_bit = covers(given.use_bnb, "retriever")
        placement = replace(self.placement, frozen=frozen, four_bit=four_bit)
        return retriever_from_config(given, self.inputs["retriever_name_or_path"], placement)

    def _load_generator(self, name: str | None = None, max_length: int | None = None) -> Generator:
        given = self.settings
        placement = replace(
            self.placement,
            frozen=covers(given.use_peft, "generator"),
            four_bit=covers(given.use_bnb, "generator"),
        )
        name = name or self.inputs["generator_name_or_path"]
        length = max_length or getattr(given, "generator_max_len", None)
        prompt = getattr(given, "prompt", None)
        passages = getattr(given, "reader_passages", 1)
        if isinstance(given, options.GeneratorOnly):
            passages = given.reads()
        generator = load_generator(
            name, placement, max_length=length, prompt=prompt, passages=passages
        )
        loading.tell("generator", name, generator_checks.description(generator))
        return generator

    def _adapt_retriever(self, retriever: Retriever) -> None:
        if self._train_encoders == "none":
            retriever.requires_grad_(False)
            return
        retriever.matryoshka_dims = ()  # what is trained now counts
        if self._train_encoders == "query":
            self._add_lora(retriever, "FEATURE_EXTRACTION", queries_alone=True)
        elif self._train_encoders == "query-adapter":
            retriever.add_query_adapter()
        elif covers(self.settings.use_peft, "retriever"):
            self._add_lora(retriever, "FEATURE_EXTRACTION")
        elif not any(parameter.requires_grad for parameter in retriever.parameters()):
            raise UserError(
                f"retriever {retriever.name} has no weights to train; name another model"
            )

    def _adapt_generator(self, generator: Generator) -> None:
        if not self._trains("generator"):
            generator.requires_grad_(False)
        elif covers(self.settings.use_peft, "generator"):
            self._add_lora(generator, "CAUSAL_LM")

    def _add_lora(self, model: Retriever | Generator, task: str, **options: bool) -> None:
        given = self.settings
        config = loading.lora(
            rank=given.lora_rank,
            alpha=given.lora_alpha,
            dropout=given.lora_dropout,
            targets=given.lora_target_modules,
            task=task,
        )
        try:
            model.add_lora(config, **options)
        except UserError:
            raise
        except ValueError as error:
            reason = reason_of(error)
            named = given.lora_target_modules
            option = f"--lora-target-modules {' '.join(named)}" if named else "--use-peft"
            remedy = "leave it out to adapt every layer that takes adapters"
            if "lora_dropout" in reason:
                remedy = "add --lora-dropout 0"
            elif not named:
                remedy = "name layers with --lora-target-modules, or leave it out"
            raise UserError(f"{option}: {reason}; {remedy}") from error

    # Training

    def fit(
        self,
        objective: Objective,
        rows: TrainingRows,
        *,
        preview: Sequence[dry_run.PreviewRow],
        next_step: Sequence[object],
        rates: Mapping[str, float] | None = None,
        held_out: Sequence[TrainingRows] = (),
        callbacks: Sequence[TrainerCallback] = (),
        finish: Callable[[], str] = lambda: "",
    ) -> None:
        """Train, export the models and log where they are; with --dry-run report instead.

        `preview` are rows that a dry run shows, `rates` learning rates by model, `held_out` rows
        that are evaluated on. `finish` is called between training and export, and returns what the
        model cards add about the data.
        """
        data = rows.describe()
        logger.info("data       %s", data)
        rows.tell_cut()
        draw_zeros_alone(objective)
        for name, model in objective.models().items():
            if self.settings.gradient_checkpointing:
                model.checkpoint_activations()
            weights, trained = loading.parameter_counts(model)
            logger.info("%-9s  %s weights, %s trained", name, f"{weights:,}", f"{trained:,}")
        logger.info("machine    %s, %s", self.placement.device, self.placement.precision)
        if self.settings.dry_run:
            with memory.explaining(self.settings):
                dry_run.report(objective, rows, self.settings, self.placement, preview)
            return
        record = resumption.record(self.settings, objective, [rows, *held_out])
        if self.folder.checkpoint is not None:
            resumption.check_content(self.folder.checkpoint, record)
            resumption.tell_batches(self.folder.checkpoint, rows, self.settings)
        how_to_resume = partial(checkpoints.how_to_resume, self.folder.path)
        with (
            self.folder.open(),
            stop_signals.explaining(how_to_resume),
            memory.explaining(self.settings),
        ):
            sharded = train(
                objective,
                rows,
                self.settings,
                self.placement,
                record=record,
                checkpoint=self.folder.checkpoint,
                rates=rates,
                trackers=self.trackers,
                callbacks=callbacks,
            )
            data += finish()
            if sharded is not None:
                sharded.gather()
            if is_main():
                self.folder.export(objective, data)
                trusted = ["--trust-remote-code"] * self.settings.trust_remote_code
                log_next([*next_step, *trusted])


def _trackers(settings: options.Run) -> list[str]:
    """Return the trackers to log to; each is a module and a distribution of the same name."""
    wanted = settings.report_to
    if not settings.with_tracking:
        return []
    if wanted in (None, "all"):
        found = [name for name in TRACKERS if importlib.util.find_spec(name)]
        text = ", ".join(found) or "none is installed; metrics.jsonl is always written"
        logger.info("trackers: %s", text)
        return found
    assert wanted is not None
    if importlib.util.find_spec(wanted) is None:
        raise UserError(f"--report-to {wanted}: not installed; pip install {wanted}")
    return [wanted]
