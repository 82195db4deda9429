"""Split documents into passages."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import Passages, public
from dalm.ingest.loaders import list_formats


def passages(
    docs: Annotated[
        list[str],
        Parameter(
            consume_multiple=True,
            negative=(),
            help=f"Folders and files: {list_formats()} with a text column.",
        ),
    ],
    settings: Annotated[Passages, Parameter(name="*")],
) -> None:
    """Split documents into passages for training, evaluation and search.

    What can't be read, a file or a part of one, is listed and left out. A second run on a folder
    that has grown appends what is new to the file.
    """
    import logging

    from dalm import artifacts
    from dalm.errors import UserError
    from dalm.ingest.ingestion import check_settings
    from dalm.ingest.loaders import find_files
    from dalm.ingest.output_files import OutputFiles
    from dalm.ingest.passage_writer import PassageWriter, write_passages
    from dalm.ingest.unread import check_all_read, log_unread, write_unread
    from dalm.next_step import log_next

    check_settings(settings)
    output = OutputFiles.of(settings)
    own_files = (output.passages, output.settings, output.unread, output.left_out)
    files, not_loaded = find_files(docs, exclude=own_files)
    if not files and not not_loaded:
        raise UserError(f"no files in {', '.join(docs)}; name a folder with documents")

    with artifacts.claim(output.passages, "--output"):
        appends = output.appends(settings)
        with (
            artifacts.write_file(output.passages, "w+b") as out,
            artifacts.write_file(output.left_out) as listing,
        ):
            writer = PassageWriter(out, settings.near_duplicates, settings.keep_contained, listing)
            if appends:
                writer.copy(output.passages)
            unread = write_passages(writer, files, not_loaded, settings)
            artifacts.write_yaml(output.settings, public(settings, docs=docs))
            write_unread(output.unread, unread)

    log_unread(unread, output.unread)
    output.log_left_out(writer.left_out.count)
    writer.counts.log()
    logger = logging.getLogger(__name__)
    logger.info("written    %s", output.passages)
    logger.info("settings   %s", output.settings)
    questions = output.passages.with_name("questions")
    log_next(["qa-gen", output.passages, "--output-dir", questions])
    if settings.strict:
        check_all_read(unread, output.unread)
