"""List the stages of a system in their order, and those that end it: the verdict and the index."""

from collections.abc import Sequence

from dalm.adaptation import data_stages
from dalm.adaptation.evaluation_stages import evaluation_stages
from dalm.adaptation.index_update import IndexUpdate, calibration_table
from dalm.adaptation.served_pair import content_of_pair
from dalm.adaptation.stage_options import settings_of
from dalm.adaptation.stages import Stage
from dalm.adaptation.system import System
from dalm.adaptation.training_stages import training_stages
from dalm.adaptation.verdict_page import VERDICT, write_verdict


def stages_of(system: System) -> list[Stage]:
    """Return the stages in their order, as what is there now makes them."""
    stages = [data_stages.passages_stage(system)]
    if system.settings.backend != "none":
        stages.append(data_stages.questions_stage(system))
    stages += [data_stages.tables_stage(system), data_stages.negatives_stage(system)]
    stages += training_stages(system)
    stages += evaluation_stages(system)
    return [*stages, _verdict_stage(system, stages), _index_stage(system)]


def stage_of(system: System, name: str) -> Stage:
    """Return the stage of this name, as what is there now makes it."""
    return next(each for each in stages_of(system) if each.name == name)


def _verdict_stage(system: System, stages: Sequence[Stage]) -> Stage:
    evaluations = [each for each in stages if each.name.startswith("evaluate-")]
    folders = {each.name: each.folder for each in evaluations if each.skip() is None}
    reads = {name: each for name, each in folders.items() if each.is_dir()}

    def run(_resume: bool) -> None:
        write_verdict(system.folder, folders)

    return Stage(
        name="verdict",
        command="compare with the pair before",
        folder=system.folder,
        reads=reads,
        writes=[system.folder / VERDICT],
        settings={},
        run=run,
    )


def _index_stage(system: System) -> Stage:
    wanted = system.wanted()
    serves = f"tuned pair {content_of_pair(wanted)[:8]}" if wanted else "pair before"
    given = system.given.get("index", {})
    settings_of("index", "index", {"index_dir": "index"}, given)
    reads, options = {"passages": system.passages}, system.machine("index")
    table = calibration_table(system.tables, by_rules=system.settings.backend == "extractive")
    if table is not None and "calibrate" not in given:
        reads["held-out questions"] = table
        options["calibrate"] = str(table)
    update = IndexUpdate(pairs=system.pairs, passages=system.passages, options=options, given=given)

    def run(_resume: bool) -> None:
        update.run(wanted)

    return Stage(
        name="index",
        command="index",
        folder=system.pairs.index.path,
        reads=reads,
        writes=[],
        settings={"serves": serves, **given},
        run=run,
        is_there=lambda: system.pairs.index.pointer is not None,
    )
