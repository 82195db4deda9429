"""Check and claim the output folder and the report of an evaluation."""

from contextlib import ExitStack, suppress
from pathlib import Path

from dalm import artifacts, distributed
from dalm.config import EvalRetriever
from dalm.errors import UserError
from dalm.eval.results import SUMMARY

NUMBERED = Path("evaluation")
"""Stem of the numbered folders, for runs without --output-dir."""


def check_report(report: str, overwrite: bool, flag: str) -> None:
    """Refuse a report that couldn't be written in the end; `flag` is the option of `overwrite`.

    Raises:
        UserError: another ending than HTML's, a folder, or a file that exists.
    """
    file = Path(report)
    if file.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--report {file}: the page is HTML; name it {file.with_suffix('.html')}")
    artifacts.check_file("--report", file, overwrite, flag)


class EvaluationOutput:
    """The output folder and the report of one evaluation.

    Only the first process writes: in the others `folder` may be a name without a folder.
    """

    def __init__(self, config: EvalRetriever) -> None:
        self.config = config
        self.folder = Path(config.output_dir) if config.output_dir else NUMBERED
        self._claims = ExitStack()

    @property
    def resume(self) -> str:
        """What continues an interrupted run, for errors: the replies of a server are kept."""
        named = self.config.output_dir is not None and not self.config.overwrite_output_dir
        return f"the same command{' with --overwrite-output-dir' if named else ''}"

    def journal(self, name: str) -> Path:
        """Return the file that keeps a server's replies: in --output-dir, or beside the folders."""
        if self.config.output_dir is None:
            return self.folder.with_name(f"{NUMBERED.name}-{name}")
        return self.folder / name

    def check(self) -> None:
        """Refuse outputs that couldn't be written in the end.

        Raises:
            UserError: no right to write, results in the folder already, or a report that exists.
        """
        config = self.config
        if config.report:
            check_report(config.report, config.overwrite_output_dir, "--overwrite-output-dir")
        if config.output_dir:
            artifacts.check_folder("--output-dir", self.folder)
            self._refuse_results()

    def claim(self) -> None:
        """Hold the outputs for this process; without --output-dir make the next numbered folder.

        Raises:
            UserError: another process is writing to them.
        """
        if not distributed.is_main():
            return
        with ExitStack() as claims:
            if self.config.report:
                claims.enter_context(artifacts.claim(Path(self.config.report), "--report"))
            if not self.config.output_dir:
                self.folder = artifacts.numbered_folder(NUMBERED)
                claims.callback(_remove_if_empty, self.folder)
            claims.enter_context(artifacts.claim_folder(self.folder, "--output-dir"))
            self.check()  # a process that ended since may have written them
            self._claims = claims.pop_all()

    def release(self) -> None:
        """Give the outputs free; a numbered folder without results is removed."""
        self._claims.close()

    def _refuse_results(self) -> None:
        if (self.folder / SUMMARY).exists() and not self.config.overwrite_output_dir:
            raise UserError(
                f"--output-dir {self.folder} holds results; name another folder, or add "
                "--overwrite-output-dir"
            )


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
