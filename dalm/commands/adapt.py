"""Adapt a retriever and a generator to documents: from documents to a verdict and an index."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import Adapt


def adapt(
    docs: Annotated[list[str], Parameter(consume_multiple=True, negative=())],
    settings: Annotated[Adapt, Parameter(name="*")],
) -> None:
    """Adapt a retriever and a generator to documents, judge the result, and build an index.

    Documents are split into passages, questions on them are generated and people's are added, both
    models are trained and compared with the pair before on held-out documents. The index is
    switched to the tuned pair only if it is better by more than chance and nothing is lost. The
    same command goes on where it was, and does again only what has changed.

    Parameters
    ----------
    docs
        Folders and files of documents, as `dalm passages` takes them.
    """
    from pathlib import Path

    from dalm import artifacts
    from dalm.adaptation import estimates, stage_runs
    from dalm.adaptation.state import State

    system = stage_runs.checked_system(docs, settings)
    folder = Path(settings.output_dir)
    if settings.dry_run:
        state = State(folder)
        estimates.show_plan(system, stage_runs.plan(system, state), state)
        return
    with artifacts.claim_folder(folder, "--output-dir"):
        stage_runs.run(system, State(folder))
    stage_runs.log_result(system)
