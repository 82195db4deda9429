"""Compare evaluations that were run before: two run folders or TREC files, or more."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import CompareRuns


def compare(
    runs: Annotated[list[str], Parameter(negative=())],
    settings: Annotated[CompareRuns, Parameter(name="*")] = CompareRuns(),  # noqa: B008
) -> None:
    """Compare evaluations that were run before, or TREC run files.

    Each is compared with the first: what moved, by more than chance, and for which queries.

    Parameters
    ----------
    runs
        Folders that eval-retriever or eval-rag wrote, or TREC run files with `--qrels`. One alone
        is shown.
    """
    from pathlib import Path

    from dalm.config import check
    from dalm.eval.comparison import compare as lines_of
    from dalm.eval.evaluation_run import check_report
    from dalm.eval.quality_gates import (
        check_thresholds,
        regression_gate,
        threshold_gates,
        thresholds_of,
    )
    from dalm.eval.saved_runs import read_runs
    from dalm.eval.summary import settle, tell

    check(settings)
    least = thresholds_of(settings.fail_below)
    if settings.report:
        check_report(Path(settings.report), settings.overwrite_report, "--overwrite-report")
    first, *others = read_runs(runs, settings.qrels, settings.measures)
    systems, baseline = (others, first) if others else ([first], None)

    lines = [lines_of(results, baseline, seed=settings.seed) for results in systems]
    for results, its_lines in zip(systems, lines, strict=True):
        tell(its_lines, results, baseline)
    check_thresholds(least, [line.measure for line in lines[-1]], answers=False)
    gates = threshold_gates(lines[-1], least)
    if settings.fail_on_regression:
        gates += [regression_gate(its_lines) for its_lines in lines]
    if settings.report:
        from dalm.eval.report.page import Report, write_page

        page = Report(systems=systems, lines=lines, baseline=baseline, gates=gates)
        write_page(Path(settings.report), page)
        print(f"\nreport     {settings.report}")
    settle(gates)
