"""List, add and delete the documents of the index: /documents."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import anyio
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from dalm.config import Passages
from dalm.config.shared import HtmlText
from dalm.errors import UserError
from dalm.ingest import uploads
from dalm.retrieval.documents import list_documents
from dalm.serving.api_errors import ApiError, invalid
from dalm.serving.document_writer import DocumentWriter
from dalm.serving.json_body import parse_object, read_json
from dalm.serving.request_fields import is_one_line
from dalm.serving.service import Service

MEGABYTES = 32
"""Of a file, and of its text unpacked."""
BODY_LIMITS = {"/documents": (MEGABYTES + 1) * 1_000_000}
MOST_LISTED = 1000
MOST_SKIPPED = 20
"""Rows and parts named in an answer that couldn't be read."""
LABEL_LENGTH = 500
_FIELDS = frozenset({"text", "title", "source", "metadata"})
_FILE_FIELDS = frozenset({"file", "title", "source", "metadata", *uploads.FIELDS})
_FORM = {"max_files": 1, "max_fields": 8, "max_part_size": 100_000}


@dataclass(frozen=True, slots=True)
class NewDocument:
    """What a client sends: a file's content, and what it is called."""

    content: bytes
    source: str
    """A label: nothing on the disk is ever called so."""
    extension: str
    title: str | None
    metadata: Mapping[str, Any]
    reading: Mapping[str, Any]
    """Options of reading: `uploads.FIELDS`."""


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes."""
    writer = DocumentWriter(service)

    def check_allowed() -> None:
        if not service.settings.allow_uploads:
            raise ApiError(403, "this server's documents can't be changed: it was started without "
                           "--allow-uploads", code="read_only")  # fmt: skip

    async def listed(request: Request) -> JSONResponse:
        offset = number_of(request, "offset", 0, 0, 10**9)
        limit = number_of(request, "limit", 100, 1, MOST_LISTED)
        found = await service.run(list_documents, service.index.generation.store)
        data = [{"object": "document", **asdict(each)} for each in found[offset : offset + limit]]
        content = {"object": "list", "data": data, "total": len(found)}
        return JSONResponse({**content, "has_more": offset + limit < len(found)})

    async def add(request: Request) -> JSONResponse:
        check_allowed()
        new = await _read(request)
        async with writer.turn():
            upload = await anyio.to_thread.run_sync(_passages_of, new)
            changes = await writer.replace(new.source, upload.passages)
        skipped = [asdict(each) for each in upload.unread[:MOST_SKIPPED]]
        documents = {passage.document: None for passage in upload.passages}
        content = {
            "object": "document",
            "id": upload.passages[0].document,
            "source": new.source,
            "title": upload.passages[0].title,
            "documents": len(documents),
            "passages": len(upload.passages),
            **asdict(changes),
            "skipped": skipped,
            "skipped_total": len(upload.unread),
        }
        return JSONResponse(content, 201 if changes.new else 200)

    async def delete(request: Request) -> JSONResponse:
        check_allowed()
        id_ = request.path_params.get("id")
        source = request.query_params.get("source")
        if (id_ is None) == (source is None):
            raise invalid("name one document: DELETE /documents/ID, or /documents?source=NAME")
        async with writer.turn():
            count = await writer.delete(id_, source)
        if not count:
            name = id_ if source is None else source
            raise ApiError(404, f"there is no document {name!r:.200}", code="not_found")
        return JSONResponse({"object": "document", "id": id_, "source": source, "deleted": count})

    return [
        Route("/documents", listed),
        Route("/documents", add, methods=["POST"]),
        Route("/documents", delete, methods=["DELETE"]),
        Route("/documents/{id:path}", delete, methods=["DELETE"]),
    ]


def number_of(request: Request, name: str, default: int, least: int, most: int) -> int:
    """Return a whole number of an address's query. Raises ApiError, 400, beyond the bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise invalid(f"{name} has to be a number from {least} to {most}, not {text[:40]!r}", name)
    return int(text)


# What a client sends


async def _read(request: Request) -> NewDocument:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json":
        return _of_json(await read_json(request))
    if media == "multipart/form-data":
        return await _of_form(request)
    raise ApiError(
        415, f"send application/json with a text, or multipart/form-data with a file, not {media!r}"
    )


def _of_json(body: Mapping[str, Any]) -> NewDocument:
    _check_fields(body, _FIELDS)
    text, title = body.get("text"), _label(body.get("title"), "title")
    if not isinstance(text, str) or not text.strip():
        raise invalid("text has to be a text with words in it", "text")
    source = _label(body.get("source"), "source") or title
    if source is None:
        raise invalid("name the document: source, or title", "source")
    markdown = source.lower().endswith((".md", ".markdown", ".mdx"))
    content = text.encode()
    if len(content) > MEGABYTES * 1_000_000:
        raise ApiError(413, f"the text is larger than {MEGABYTES} MB; split it", param="text")
    metadata = _metadata(body.get("metadata"))
    return NewDocument(content, source, ".md" if markdown else ".txt", title, metadata, {})


async def _of_form(request: Request) -> NewDocument:
    async with request.form(**_FORM) as form:
        _check_fields(form, _FILE_FIELDS)
        if len(form.multi_items()) > len(form):
            raise invalid("a field stands there twice")
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise invalid("the field file has to be a file with a name", "file")
        texts: dict[str, str] = {}
        for name, value in form.items():
            if isinstance(value, str):
                texts[name] = value
            elif name != "file":
                raise invalid(f"{name} has to be a text, not a file", name)
        content = await file.read(MEGABYTES * 1_000_000 + 1)
    if len(content) > MEGABYTES * 1_000_000:
        raise ApiError(413, f"the file is larger than {MEGABYTES} MB; split it", param="file")
    source = _label(texts.get("source") or file.filename, "source")
    if source is None:
        raise invalid("the file has no name; send one, or source", "source")
    try:
        extension = uploads.extension_of(file.filename or source)
    except uploads.UnsupportedFileError as error:
        raise ApiError(415, str(error), param="file", code="unsupported_file") from None
    if texts.get("html") and texts["html"] not in get_args(HtmlText):
        raise invalid("html has to be main or all", "html")
    metadata = parse_object(texts["metadata"]) if texts.get("metadata") else None
    reading = {name: texts[name] for name in uploads.FIELDS if texts.get(name)}
    title = _label(texts.get("title"), "title")
    return NewDocument(content, source, extension, title, _metadata(metadata), reading)


def _check_fields(given: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(given.keys() - known):
        raise invalid(f"there is no field {unknown[0]!r:.60}; known: {', '.join(sorted(known))}")


def _label(value: object, name: str) -> str | None:
    """Return a text that names something in one line; None for none."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.strip() or not is_one_line(value):
        raise invalid(f"{name} has to be a text of one line", name)
    if len(value) > LABEL_LENGTH:
        raise invalid(f"{name} is longer than {LABEL_LENGTH} characters", name)
    return value


def _metadata(value: object) -> Mapping[str, Any]:
    """Return further columns: numbers, texts, true and false by their names."""
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > 20:
        raise invalid("metadata has to be an object of at most 20 columns", "metadata")
    for name, cell in value.items():
        if not name.isprintable() or not 0 < len(name) <= 60:
            raise invalid(f"a column can't be called {name!r:.60}", "metadata")
        if not isinstance(cell, str | int | float | bool | None) or len(str(cell)[:9999]) > 2000:
            raise invalid(f"metadata {name!r} has to be a short text, a number, true or false",
                          "metadata")  # fmt: skip
    return value


def _passages_of(new: NewDocument) -> uploads.Upload:
    """Read a document in a process of its own, by way of a file with a name of our own."""
    settings = Passages(output="", near_duplicates=1.0, max_megabytes=MEGABYTES, **new.reading)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{new.extension}"
        path.write_bytes(new.content)
        try:
            upload = uploads.read_upload(path, new.source, settings, uploads.ReadingLimits())
        except uploads.RefusedFileError as error:
            raise ApiError(422, str(error), code="unreadable_document") from None
        except UserError as error:
            raise invalid(str(error)) from None
    passages = [
        replace(each, title=new.title or each.title, extra=new.metadata) for each in upload.passages
    ]
    return uploads.Upload(passages, upload.unread)
