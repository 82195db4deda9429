"""Let teachers score candidate passages of questions, to train a retriever on the scores."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dalm.config import ScoreCandidates, check
from dalm.errors import UserError
from dalm.file_reading import user_path


def score_candidates(
    dataset_path: str,
    settings: Annotated[ScoreCandidates, Parameter(name="*")],
) -> None:
    """Score candidate passages of questions by teachers, to train a retriever on the scores.

    The candidates are searched in a knowledge base. The table needs no gold passages: the teachers
    say which candidates answer a question, by the answer's words, a generator's likelihood of it,
    or a model that ranks.

    Parameters
    ----------
    dataset_path
        Table with questions and answers: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.artifacts import claim
    from dalm.io.scored_tables import write_scored
    from dalm.io.tables import read_table
    from dalm.io.writers import check_output_file
    from dalm.next_step import RETRIEVER, log_next
    from dalm.retrieval.embedding_cache import folder_of
    from dalm.teachers import candidate_search, label_check, labels
    from dalm.teachers.teacher import needs_of, teacher_class

    output = _check(settings)
    cache = folder_of(settings.cache, settings.cache_dir)
    kinds = [teacher_class(name) for name in settings.teacher]
    table = read_table(dataset_path, encoding=settings.encoding)
    questions = candidate_search.read_questions(table, settings, needs_of(kinds, settings))
    passages = candidate_search.read_knowledge_base(settings)
    with nullcontext() if settings.dry_run else claim(output, "--output"):
        check_output_file(output, settings.overwrite_output)  # since, another may have written it
        searcher = candidate_search.searcher_of_passages(passages, settings, cache)
        found = candidate_search.search_candidates(questions, searcher, settings)
        del searcher
        teachers = [kind.from_config(settings) for kind in kinds]
        for teacher in teachers:
            found = teacher.add_candidates(found, passages)
        if settings.dry_run:
            labels.log_estimate(teachers, found)
            return
        if settings.ray is not None:
            candidate_search.work_elsewhere(teachers, settings)
        scored = labels.score_in_turn(teachers, found)
        labelled = labels.label(found, scored, settings)
        write_scored(output, labelled, " ".join(settings.teacher))
    labels.log_labels(labelled, settings)
    if settings.check:
        label_check.print_check(label_check.check_labels(found, scored, settings.teacher, passages))
    if any(question.positive for question in labelled):
        tuned = output.with_name(f"{output.stem}-tuned")
        retriever = settings.retriever_name_or_path or RETRIEVER
        how = ["--objective", "listwise"] * kinds[-1].is_graded
        how += ["--prepend-title"] * settings.prepend_title
        how += ["--trust-remote-code"] * settings.trust_remote_code
        log_next(["train-retriever-only", retriever, output, "--output-dir", tuned, *how])


def _check(settings: ScoreCandidates) -> Path:
    """Refuse what can't work before anything is read or loaded; return the file to write.

    Raises:
        UserError: a value out of range, no such teacher or model, or a file that can't be written.
    """
    from dalm.io.table_files import kind
    from dalm.io.writers import check_output_file
    from dalm.models.loading import check_model_is_there
    from dalm.scaling.pool import check_pool
    from dalm.teachers.candidate_search import check_ray_has_effect, check_search
    from dalm.teachers.teacher import teacher_class

    check(settings)
    check_pool(settings)
    if settings.ray is not None and settings.dry_run:
        raise UserError("--dry-run estimates the time on this machine; leave out --ray")
    check_ray_has_effect(settings)
    repeated = sorted({name for name in settings.teacher if settings.teacher.count(name) > 1})
    if repeated:
        raise UserError(f"--teacher {repeated[0]}: named twice; each teacher decides once")
    check_search(settings)
    output = user_path(settings.output)
    if kind(output) != ".jsonl":
        raise UserError(f"--output {settings.output}: a list of candidates needs the ending .jsonl")
    check_output_file(output, settings.overwrite_output)
    for name in settings.teacher:
        teacher_class(name).check(settings)
    if settings.retriever_name_or_path is not None:
        check_model_is_there(settings.retriever_name_or_path, "retriever")
    return output
