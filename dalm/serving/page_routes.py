"""Serve the page that asks questions: / and the files that it loads."""

import hashlib
from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dalm.serving.service import Service

MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
"""Kinds of files of the page, by the ends of their names; others aren't served."""
FOLDER = files("dalm.serving") / "page"
INDEX = "index.html"
NAMES = sorted(each.name for each in FOLDER.iterdir() if each.name.endswith(tuple(MEDIA_TYPES)))
FILES = {"/" if name == INDEX else f"/page/{name}": name for name in NAMES}
PUBLIC = set(FILES)
"""The page holds nothing of the index, and asks for the key itself."""
POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
        "require-trusted-types-for 'script'",
    )
)
"""The page loads nothing but its own files, and no text can become a script."""


def routes(_: Service) -> list[BaseRoute]:
    """Return the routes."""

    def route(path: str, name: str) -> Route:
        content, kind = (FOLDER / name).read_bytes(), MEDIA_TYPES[Path(name).suffix]
        tag = f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache", "ETag": tag}

        async def file(request: Request) -> Response:
            if request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers=headers)
            return Response(content, headers=headers, media_type=kind)

        return Route(path, file)

    return [route(path, name) for path, name in FILES.items()]
