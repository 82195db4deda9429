"""Serve the page that asks questions: / and the files that it loads."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dalm.serving.service import Service

FILES = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
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
    folder = files("dalm.serving") / "page"
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}

    def route(path: str, name: str, media_type: str) -> Route:
        content = (folder / name).read_bytes()

        async def file(_: Request) -> Response:
            return Response(content, headers=headers, media_type=media_type)

        return Route(path, file)

    return [route(path, *file) for path, file in FILES.items()]
