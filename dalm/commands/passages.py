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

    Files that can't be read are listed and skipped. A second run on a folder that has grown appends
    what is new to the file.
    """
    import logging

    from dalm import artifacts
    from dalm.errors import UserError
    from dalm.ingest.ingestion import check_settings
    from dalm.ingest.loaders import find_files
    from dalm.ingest.passage_writer import (
        OutputFiles,
        PassageWriter,
        log_skipped,
        write_passages,
        write_skipped,
    )

    check_settings(settings)
    output = OutputFiles.of(settings)
    own_files = (output.passages, output.settings, output.unread)
    files, skipped = find_files(docs, exclude=own_files)
    if not files and not skipped:
        raise UserError(f"no files in {', '.join(docs)}; name a folder with documents")

    with artifacts.claim(output.passages, "--output"):
        appends = output.appends(settings)
        with artifacts.write_file(output.passages, "wb") as out:
            writer = PassageWriter(out, settings.near_duplicates)
            if appends:
                writer.copy(output.passages)
            skipped += write_passages(writer, files, settings)
            writer.counts.require_documents(skipped)
            artifacts.write_yaml(output.settings, public(settings, docs=docs))
            write_skipped(output.unread, skipped)

    log_skipped(skipped, output.unread)
    writer.counts.log()
    logger = logging.getLogger(__name__)
    logger.info("written    %s", output.passages)
    logger.info("settings   %s", output.settings)
    logger.info("next       dalm qa-gen %s --output-dir DIR", output.passages)
