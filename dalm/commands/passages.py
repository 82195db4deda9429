"""Make passages: folders and files of documents in, a file of passages out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import Passages


def passages(
    docs: Annotated[list[str], Parameter(consume_multiple=True, negative=())],
    settings: Annotated[Passages, Parameter(name="*")],
) -> None:
    """Cut documents into passages for training, evaluation and search.

    Read are txt, Markdown, HTML, docx and PDF, and the rows of csv, tsv, jsonl, json and parquet.
    What can't be read is named and passed over. A second run over a folder that has grown adds
    what is new to the file.

    Parameters
    ----------
    docs
        Folders, files, or tables with a column of texts.
    """
    from dalm.ingest import passages_run
    from dalm.ingest.ingestion import cut_all
    from dalm.ingest.passage_file import PassageFile

    output = passages_run.start(settings)
    files, unread = passages_run.find(docs, output)
    with PassageFile(output.passages, passages_run.near_duplicates(settings)) as file:
        passages_run.keep(file, output)
        with passages_run.bar(sum(each.size for each in files), "passages") as advance:
            for cut in cut_all(files, passages_run.cutting(settings), settings.processes):
                file.add(cut)
                unread += cut.unread
                advance(cut.size)
        passages_run.refuse_nothing(file.counts, unread)
        output.write_beside(settings, docs, unread)
        file.commit()
    passages_run.finish(output, file.counts, unread)
