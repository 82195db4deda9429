"""Keep what stages did in one small file, written whole after each of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dalm import artifacts
from dalm.errors import UserError
from dalm.file_reading import read_record, record_from

FILE = "adapt.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Record:
    """What a stage read and wrote, as hashes, and its settings."""

    settings: dict[str, Any]
    reads: dict[str, str]
    writes: str = ""
    """Hash of what it wrote; empty: it was begun, and isn't finished."""
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    """Numbers of files of what it read, where there are several."""


@dataclass(frozen=True, slots=True)
class _File:
    format: int
    stages: dict[str, Any]
    begun: dict[str, Any] = field(default_factory=dict)


class State:
    """The stages of a system that are finished, and the one that was begun."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self.stages: dict[str, Record] = {}
        self.begun: dict[str, Record] = {}
        if self.file.exists():
            remedy = "delete it: every stage runs again"
            found = read_record(self.file, _File, remedy)
            if found.format != FORMAT:
                raise UserError(f"{self.file} has format {found.format}, not {FORMAT}; {remedy}")
            self.stages = self._records(found.stages, remedy)
            self.begun = self._records(found.begun, remedy)

    def _records(self, content: Mapping[str, Any], remedy: str) -> dict[str, Record]:
        return {
            name: record_from(value, Record, f"{self.file}: {name}", remedy)
            for name, value in content.items()
        }

    def begin(self, name: str, record: Record) -> None:
        """Note that a stage has begun; what it did before is of no use any more."""
        self.begun = {name: record}
        self.stages.pop(name, None)
        self._write()

    def finish(self, name: str, record: Record) -> None:
        """Note that a stage is finished."""
        self.begun = {}
        self.stages[name] = record
        self._write()

    def _write(self) -> None:
        def written(records: Mapping[str, Record]) -> dict[str, Any]:
            return {name: asdict(record) for name, record in records.items()}

        content = _File(FORMAT, written(self.stages), written(self.begun))
        artifacts.write_json(self.file, asdict(content))
