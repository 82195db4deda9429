"""Refuse before anything runs what a stage would refuse hours later: tables, models, a server."""

import logging
from typing import Any

from dalm.adaptation.question_tables import NO_ANSWER, read_human
from dalm.adaptation.system import System
from dalm.adaptation.system_stages import stages_of
from dalm.config.adaptation import Adapt
from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.io.examples import Field, read_examples
from dalm.models.loading import check_model_is_there, check_no_adapter

logger = logging.getLogger(__name__)


def check_models(settings: Adapt) -> None:
    """Refuse models that aren't there, or are of another kind.

    Raises:
        UserError: names the model.
    """
    for role in ("retriever", "generator"):
        name = getattr(settings, f"{role}_name_or_path")
        check_model_is_there(name, role)
        check_no_adapter(name, role)
    if settings.backend == "transformers" and settings.question_model:
        check_model_is_there(settings.question_model, "generator")
    if reranker := settings.reranker:
        from dalm.models.reranker_checks import check_is_there

        check_is_there(reranker)


def check_tables(system: System) -> None:
    """Refuse tables of questions that can't be read, or that teach no generator.

    Raises:
        UserError: names the table, or the column that is missing.
    """
    settings = system.settings
    for option, table in {"--questions": settings.questions, "--guard": settings.guard}.items():
        if table and user_path(table).resolve() in (each.resolve() for each in system.files):
            logger.warning(
                "documents  %s %s is among them: its questions are searched as passages, too; move "
                "it out of the folder unless people should find them",
                *(option, table),
            )
    if settings.questions is not None:
        asked, _ = read_human(settings)
        only = settings.backend == "none" and settings.feedback is None
        if only and not any(each.answer for each in asked):
            raise UserError(f"{settings.questions}: {NO_ANSWER}")
    for stage in stages_of(system):
        if stage.name == "evaluate-guard":
            _check_guard(stage.arguments[0], stage.options, answers=stage.command == "eval-rag")
        elif stage.name == "questions" and settings.backend == "http":
            _check_server(stage.options)


def _check_guard(table: str, options: Any, *, answers: bool) -> None:
    needs: set[Field] = {"query"}
    needs |= {"answer"} if answers else set()
    needs |= set() if answers and options.passages else {"passage"}
    try:
        read_examples(table, options, needs=needs)
    except UserError as error:
        raise UserError(
            f"--guard: {error} (for the guard in --stage-options, below evaluate-guard)"
        ) from error


def _check_server(options: Any) -> None:
    from dalm.synth.generation import SERVER

    SERVER.endpoint(options.base_url, options.generator_name_or_path, options.api_key_env)
