"""Register what each element of a Word file's XML does to its reader."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dalm.ingest.loaders.zipped_xml import Attributes

if TYPE_CHECKING:
    from dalm.ingest.loaders.docx_reader import DocxReader

Start = Callable[["DocxReader", Attributes], None]
End = Callable[["DocxReader"], None]
STARTS: dict[str, Start] = {}
ENDS: dict[str, End] = {}


def start(*names: str) -> Callable[[Start], Start]:
    """Register what happens at the start of these elements."""

    def register(handler: Start) -> Start:
        STARTS.update(dict.fromkeys(names, handler))
        return handler

    return register


def end(name: str) -> Callable[[End], End]:
    """Register what happens at the end of an element."""

    def register(handler: End) -> End:
        ENDS[name] = handler
        return handler

    return register
