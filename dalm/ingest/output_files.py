"""Name the file of passages and those beside it, and tell whether it is appended to."""

import logging
from dataclasses import dataclass
from pathlib import Path

from dalm import artifacts, file_reading
from dalm.config import Passages
from dalm.errors import UserError
from dalm.file_reading import user_path

logger = logging.getLogger(__name__)

SAME_OPTIONS = ("max_words", "max_tokens", "tokenizer", "overlap", "min_words", "html")
"""Options that must be the same for all passages of a file."""


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The file of passages, and those beside it: its settings, and what could not be read."""

    passages: Path

    @property
    def settings(self) -> Path:
        """The options; a valid `--config`."""
        return self.passages.with_suffix(".settings.yaml")

    @property
    def unread(self) -> Path:
        """The files and rows that could not be read."""
        return self.passages.with_suffix(".unread.tsv")

    @property
    def left_out(self) -> Path:
        """The passages that were left out, and what they resemble."""
        return self.passages.with_suffix(".duplicates.tsv")

    def log_left_out(self, passages: int) -> None:
        """Say where the passages are listed that were left out; delete an empty list."""
        if passages:
            logger.info("left out   %d passages, listed in %s", passages, self.left_out)
        else:
            self.left_out.unlink()

    @classmethod
    def of(cls, settings: Passages) -> "OutputFiles":
        """Return the files for `--output`.

        Raises:
            UserError: it is not a .jsonl file, or can't be written.
        """
        path = user_path(settings.output)
        if path.suffix.lower() != ".jsonl":
            raise UserError(f"--output {path}: name a file that ends in .jsonl")
        artifacts.check_file("--output", path, True, "--overwrite-output")
        return cls(path)

    def appends(self, settings: Passages) -> bool:
        """Tell whether new passages are appended to existing ones.

        Raises:
            UserError: the existing passages were split with other options.
        """
        if settings.overwrite_output or not self.passages.exists():
            return False
        remedy = "name another --output, or add --overwrite-output to replace it"
        try:
            earlier = file_reading.read_yaml(self.settings)
            changed = [name for name in SAME_OPTIONS if earlier[name] != getattr(settings, name)]
        except (UserError, KeyError) as error:
            raise UserError(
                f"--output {self.passages} exists, without the {self.settings.name} of the run "
                f"that made it; {remedy}"
            ) from error
        if changed:
            options = ", ".join(f"--{name.replace('_', '-')} {earlier[name]}" for name in changed)
            raise UserError(f"--output {self.passages} was made with {options}; {remedy}")
        return True
