"""Read a stranger's file in a process of its own, within limits of memory and time."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dalm.config import Passages
from dalm.errors import UserError
from dalm.ingest.ingestion import BatchResult, Ingester, from_json, make_batches
from dalm.ingest.loaders import ARCHIVES, by_extension
from dalm.ingest.loaders.loader import File, Skipped
from dalm.io.table_files import kind
from dalm.io.text_lines import MEGABYTE
from dalm.records import Passage
from dalm.scaling.process_pool import end_with_parent

FIELDS = ("text_column", "title_column", "encoding", "html")
"""What a client may say of a file: options of `dalm passages`."""


class UnsupportedFileError(UserError):
    """Report a kind of file that no loader reads."""


class RefusedFileError(UserError):
    """Report a file that can't be read, or not within the limits."""


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """What reading a file may take."""

    seconds: float = 60.0
    megabytes: int = 1024
    """Memory beside that of the loaders' own code. Linux alone keeps to it."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The passages of a file, and what of it couldn't be read: rows of a table, pages."""

    passages: Sequence[Passage]
    unread: Sequence[Skipped] = ()


def extension_of(label: str) -> str:
    """Return the extension by which a file called `label` is read: `.pdf`, `.csv.gz`.

    Raises:
        UnsupportedFileError: no loader reads such files; names those that are read.
    """
    name = Path(label.replace("\\", "/").rpartition("/")[2])
    extension = kind(name)
    if extension not in by_extension():
        what = "an archive: upload its files one by one" if extension in ARCHIVES else "not read"
        raise UnsupportedFileError(
            f"files of the kind {extension or 'without an extension'!r:.40} are {what}; "
            f"supported: {', '.join(by_extension())}"
        )
    return extension + ".gz" if name.suffix.lower() == ".gz" else extension


def read_upload(path: Path, label: str, settings: Passages, limits: ReadingLimits) -> Upload:
    """Read a file as `read_file` does, in a process of its own.

    Raises:
        RefusedFileError: it can't be read, or not within the limits; then nothing of it is read.
    """
    context = get_context("spawn")  # a fork would copy the locks of this process's threads
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_answer, args=(sender, path, label, settings, limits), daemon=True
    )
    process.start()
    sender.close()
    try:
        receiver.recv_bytes()  # it has begun: starting a process is no part of reading
        if not receiver.poll(limits.seconds):
            raise RefusedFileError(
                f"{label}: reading it takes longer than {limits.seconds:g} seconds; split it, or "
                "save it again in a simpler form"
            )
        found = json.loads(receiver.recv_bytes())
    except EOFError:
        raise RefusedFileError(
            f"{label}: reading it takes more than {limits.megabytes} MB of memory, or crashes its "
            "loader; split it, or save it again in a simpler form"
        ) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if "refused" in found:
        raise RefusedFileError(found["refused"])
    passages = [Passage.from_dict(each) for each in found["passages"]]
    return Upload(passages, [Skipped(**each) for each in found["unread"]])


def _answer(
    sender: Connection, path: Path, label: str, settings: Passages, limits: ReadingLimits
) -> None:
    """Send a file's passages, or why there are none, as JSON; runs in the process."""
    end_with_parent()
    _silence()
    sender.send_bytes(b"begun")
    _limit(limits)
    found: dict[str, Any]
    try:
        upload = read_file(path, label, settings)
        passages = [passage.to_dict() for passage in upload.passages]
        found = {"passages": passages, "unread": [asdict(each) for each in upload.unread]}
    except MemoryError:
        found = {"refused": f"{label}: reading it takes more than {limits.megabytes} MB of memory"}
    except RefusedFileError as error:
        found = {"refused": str(error)}
    sender.send_bytes(json.dumps(found).encode())


def _silence() -> None:
    """Keep what libraries print out of the server's log."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _limit(limits: ReadingLimits) -> None:
    """Let this process take no more memory and time than it may, and write no file."""
    if sys.platform == "win32":
        return
    import resource

    seconds = int(limits.seconds) + 1
    bounds = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bounds[resource.RLIMIT_AS] = pages * resource.getpagesize() + limits.megabytes * MEGABYTE
    for name, bound in bounds.items():
        hard = resource.getrlimit(name)[1]
        least = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(name, (least, least))


def read_file(path: Path, label: str, settings: Passages) -> Upload:
    """Read a file and split it into passages, of which `label` is the source.

    Raises:
        RefusedFileError: it can't be read, or has no passage.
    """
    ingester = Ingester(settings)
    batches = make_batches([File(path, label, path.stat().st_size)], ingester.loader_options)
    try:
        results = [ingester(batch) for batch in batches]
    except UserError as error:
        raise _refused(label, str(error).replace(str(path), label)) from error
    unread = [each for result in results for each in result.unread]
    whole = [each.reason for each in unread if each.source == label and not each.part]
    lines = [line for result in results for line in result.lines]
    if whole or not lines:
        raise _refused(label, whole[0] if whole else _why_nothing(results, unread, settings))
    return Upload([from_json(line) for line in lines], unread)


def _refused(label: str, reason: str) -> RefusedFileError:
    """Return the error with fields of a request instead of the command line's options."""
    for field in FIELDS:
        reason = reason.replace(f"--{field.replace('_', '-')}", field)
    return RefusedFileError(f"{label}: {reason.replace(', or raise --max-megabytes', '')}")


def _why_nothing(
    results: Sequence[BatchResult], unread: Sequence[Skipped], settings: Passages
) -> str:
    rows = [each for each in unread if not each.part]
    if rows:
        return f"no row can be read: {rows[0].source}: {rows[0].reason}"
    short = sum(result.short for result in results)
    if len(unread) > short:
        return f"too little of it can be read: {unread[0].reason}"
    if short:
        return f"it is too short: a document has at least {settings.min_words} words"
    return "there is no text in it"
