"""From the options of a generator's tuning to the passages that it may read."""

from collections.abc import Sequence

from dalm.config import GeneratorOnly
from dalm.errors import UserError
from dalm.io.examples import read_passages
from dalm.models import loading
from dalm.records import Example, Passage


def check(settings: GeneratorOnly) -> None:
    """Refuse a retriever that is plainly not there, before the table is read.

    Raises:
        UserError: names the retriever.
    """
    if settings.retriever_name_or_path is not None:
        loading.check_model_name(settings.retriever_name_or_path, "retriever")


def knowledge_base(examples: Sequence[Example], settings: GeneratorOnly) -> list[Passage]:
    """Return the distinct passages to search: the questions' own and those of `--passages`.

    Raises:
        UserError: too few of them for a prompt, or a share of gold passages that nobody knows.
    """
    found = {example.passage.id: example.passage for example in examples if example.passage}
    if not found and settings.gold_probability is not None:
        raise UserError(
            "--gold-probability has no effect on a table without gold passages; leave it out"
        )
    for source in settings.passages or ():
        for passage in read_passages(source, settings):
            found.setdefault(passage.id, passage)
    if len(found) < settings.reads():
        raise UserError(
            f"--reader-passages {settings.reads()}: there are {len(found)} distinct passages; "
            "lower it, or name tables of passages with --retriever-name-or-path and --passages"
        )
    return list(found.values())
