"""Load e-mails (eml): subject, sender, date and the text, or the HTML."""

from collections.abc import Iterator
from email import message_from_bytes, policy
from email.errors import HeaderParseError, MessageError
from email.message import EmailMessage

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.html import codec_of, declared_label, page_pieces
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.io.text_lines import NUL_BYTE, UnreadableError

SHOWN = ("From", "To", "Cc", "Date")
DEEPEST = 10  # e-mails within e-mails
ENOUGH = 20  # characters; with fewer, a plain text only points to the HTML


def load_eml(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load an e-mail: its subject is the title and a heading; attachments are reported as unread.

    Of the same text as plain text and as HTML the plain text is read. E-mails that are attached
    follow, with their subjects as headings.

    Raises:
        UnreadableError: no e-mail.
    """
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    if not any(name in message for name in ("From", "Subject", "Date", "Received", "Message-ID")):
        raise UnreadableError("not an e-mail: it has no header such as From or Subject")
    builder = DocumentBuilder()
    _write(message, builder, 1, options.encoding)
    return builder.document(_header(message, "Subject"), source)


def _header(message: EmailMessage, name: str) -> str:
    try:
        value = " ".join(str(message.get(name, "")).split())
    except (MessageError, HeaderParseError, ValueError, LookupError, IndexError, AttributeError):
        return ""  # a header that the standard library can't read
    return value.encode(errors="replace").decode()


def _write(message: EmailMessage, builder: DocumentBuilder, level: int, encoding: str) -> None:
    builder.heading(_header(message, "Subject"), level)
    shown = [(name, _header(message, name)) for name in SHOWN]
    builder.paragraph("\n".join(f"{name}: {value}" for name, value in shown if value))
    body = _body(message)
    for part in body:
        _write_text(part, builder, encoding)
    for part in _own_parts(message):
        if part.get_content_type() == "multipart/encrypted":
            builder.lose("encrypted text", "save the e-mail decrypted")
        if part is message or part in body:
            continue
        name = None if part.is_multipart() else part.get_filename()
        if name or (part.get_content_disposition() == "attachment" and not part.is_multipart()):
            what = f"attachment {name or 'without a name'} ({part.get_content_type()})"
            builder.lose(what, "save it beside the e-mail")
    for part in _attached_mails(message):
        if level < DEEPEST:
            _write(part, builder, level + 1, encoding)


def _own_parts(message: EmailMessage) -> Iterator[EmailMessage]:
    """Yield an e-mail and its parts, but not those of e-mails attached to it."""
    yield message
    if message.is_multipart() and message.get_content_type() != "message/rfc822":
        for part in message.get_payload():
            if isinstance(part, EmailMessage):
                yield from _own_parts(part)


def _attached_mails(message: EmailMessage) -> list[EmailMessage]:
    """Return the e-mails attached to this one, but not those attached to them."""
    found, parts = list[EmailMessage](), [message]
    while parts:
        part = parts.pop(0)
        if part.get_content_type() == "message/rfc822" and part is not message:
            content = part.get_payload()
            found += [each for each in content if isinstance(each, EmailMessage)]
        elif part.is_multipart():
            parts += [each for each in part.get_payload() if isinstance(each, EmailMessage)]
    return found


def _body(message: EmailMessage) -> list[EmailMessage]:
    """Return the parts that are the text; of alternatives the plain one, if it is the text."""
    if message.get_content_type() == "multipart/alternative":
        plain, html = message.get_body(("plain",)), message.get_body(("html", "related"))
        if isinstance(plain, EmailMessage) and (html is None or len(_text(plain)[0]) >= ENOUGH):
            return [plain]
        return [html] if isinstance(html, EmailMessage) else []
    if message.get_content_type() == "message/rfc822":
        return []
    if message.is_multipart():
        parts = (each for each in message.get_payload() if isinstance(each, EmailMessage))
        return [found for part in parts for found in _body(part)]
    is_text = message.get_content_maintype() == "text"
    attached = message.get_content_disposition() == "attachment"
    return [message] if is_text and not attached else []


def _text(part: EmailMessage, encoding: str = "utf-8") -> tuple[str, str]:
    """Return a part's text and what is wrong with its encoding.

    The encoding is the declared one, as browsers read its label, else the one that is given.
    """
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    declared = part.get_content_charset() or ""
    if not declared and part.get_content_subtype() == "html":
        declared = declared_label(data)
    codec = codec_of(declared) if declared else encoding
    wrong = "" if codec else f"text in the unknown encoding {declared}, read as windows-1252"
    try:
        text = data.decode(codec or "cp1252", "strict" if codec else "replace")
    except UnicodeDecodeError:
        named = declared and codec not in ("utf-8", "ascii", "cp1252")
        codec = codec if named else "cp1252"  # what mail programs write without saying so
        text = data.decode(codec, "replace")
        wrong = f"bytes that are not {declared or encoding}, read as {codec}"
    if "\0" in text:
        raise UnreadableError(NUL_BYTE)
    return text.replace("\r\n", "\n").replace("\r", "\n").strip(), wrong


def _write_text(part: EmailMessage, builder: DocumentBuilder, encoding: str) -> None:
    text, wrong = _text(part, encoding)
    if wrong:
        builder.lose(wrong, "save it again, or name its encoding with --encoding")
    if part.get_content_subtype() == "html":
        for piece in page_pieces(text, "all"):
            piece.write(builder)
        return
    if part.get_param("format") == "flowed":  # a line that ends in a space goes on
        text = text.replace("\n-- \n", "\n--\n").replace(" \n", " ")
    for paragraph in text.split("\n\n"):
        builder.paragraph(paragraph)


EML = Loader("eml", "eml", (".eml",), load_eml)
