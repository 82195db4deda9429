"""Compare saved evaluations: run folders or TREC run files."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import CompareRuns
from dalm.display import show


def compare(
    runs: Annotated[list[str], Parameter(negative=())],
    settings: Annotated[CompareRuns, Parameter(name="*")] = CompareRuns(),  # noqa: B008
) -> None:
    """Compare saved evaluations or TREC runs with the first one.

    It shows what moved, whether significantly, and for which queries.

    Parameters
    ----------
    runs
        Folders that eval-retriever or eval-rag wrote, or TREC run files with `--qrels`. A
        single one is shown without a comparison.
    """
    from pathlib import Path

    from dalm.artifacts import claim
    from dalm.config import check
    from dalm.errors import UserError
    from dalm.eval import comparison
    from dalm.eval.evaluation_output import check_report
    from dalm.eval.findings import findings, other_data
    from dalm.eval.quality_gates import (
        check_thresholds,
        enforce_gates,
        parse_thresholds,
        regression_gate,
        threshold_gates,
    )
    from dalm.eval.results import read_runs
    from dalm.eval.summary import print_results

    check(settings)
    if settings.fail_on_regression and len(runs) < 2:
        raise UserError("--fail-on-regression compares runs with the first; name two or more")
    thresholds = parse_thresholds(settings.fail_below)
    if settings.report:
        check_report(settings.report, settings.overwrite_report, "--overwrite-report")
    first, *others = read_runs(runs, settings.qrels, settings.measures)
    systems, baseline = (others, first) if others else ([first], None)

    measures = [comparison.compare(each, baseline, seed=settings.seed) for each in systems]
    found = [
        [*(other_data(each, baseline) if baseline else ()), *findings(each, its, settings.seed)]
        for each, its in zip(systems, measures, strict=True)
    ]
    for results, its_measures, its_findings in zip(systems, measures, found, strict=True):
        print_results(its_measures, results, baseline, its_findings)
    check_thresholds(thresholds, [each.measure for each in measures[-1]])
    gates = threshold_gates(measures[-1], thresholds)
    if settings.fail_on_regression:
        gates += [regression_gate(each) for each in measures]
    if settings.report:
        from dalm.eval.report.page import Report, write_page
        from dalm.eval.report.sections import Section

        section = Section(systems=systems, measures=measures, baseline=baseline, findings=found)
        report = Report(sections=[section], gates=gates)
        with claim(Path(settings.report), "--report"):
            check_report(settings.report, settings.overwrite_report, "--overwrite-report")
            write_page(Path(settings.report), report)
        show(f"\nreport     {settings.report}")
    enforce_gates(gates)
