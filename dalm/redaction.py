"""Mask keys and passwords in addresses, and in what servers and libraries say."""

import os
import re
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

MASK = "***"
LEAST_CHARACTERS = 8  # of a secret: a shorter value is also a word of many messages

_SECRET_NAME = (
    r"[\w.-]*(?:key|token|secret|passw|pwd|auth|sig|credential|session|bearer)[\w.-]*|pass|pw|code"
)
_SECRET_PARAMETER = re.compile(r"passw|pwd|secret|token|api[_-]?key", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE if ignore_case else 0), replacement)
    for pattern, replacement, ignore_case in (
        # scheme://user:password@host, also where the password has a slash in it
        (r"(:/+)[^\s/?#]*(?:@|%40)", rf"\1{MASK}@", True),
        (r"(:/+)[^\s/?#:@]*:(?!\d+(?:[/?#\s]|$))[^\s@]*@", rf"\1{MASK}@", False),
        # //user:password@host, and key@host:port
        (r"((?<!\S)//)[^\s/?#]*@", rf"\1{MASK}@", False),
        (r"(?<![\w/.:@-])[\w.+-]+@(?=[\w.-]+:\d)", f"{MASK}@", False),
        # user:password@host
        (r"(?<![\w/.:@-])[\w.+-]+:[^\s/@]+@(?=[\w\[])", f"{MASK}@", False),
        # ?api_key=..., /token/... in addresses; token=... and "api_key": "..." in texts
        (rf"([?&#;/](?:{_SECRET_NAME})=)[^\s&#;/'\"<>]+", rf"\1{MASK}", True),
        (r"(://\S*/(?:api[_-]?)?(?:key|token|secret)s?/)[^\s/?#'\"<>]+", rf"\1{MASK}", True),
        (
            r"((?:api[_-]?key|token|secret|password|passwd)(?:=|[\"']\s*:\s*)[\"']?)"
            r"(?!\*)[^\s\"',;&)}]{6,}",
            rf"\1{MASK}",
            True,
        ),
        (
            r"(authorization[\"']?\s*[:=]\s*[\"']?(?:basic|bearer|token)\s+)[\w.~+/=-]{6,}",
            rf"\1{MASK}",
            True,
        ),
        (r"\b(bearer\s+)(?=\S*\d)[\w.~+/=-]{6,}", rf"\1{MASK}", True),
        # Keys by their form: OpenAI, Groq, xAI, NVIDIA, Perplexity, hub, GitHub, Google, AWS, JWT
        (r"\b(?:sk-|gsk_|xai-|nvapi-|pplx-|gh[a-z]_|github_pat_|xox[a-z]-)[\w-]{8,}", MASK, False),
        (r"\bhf_(?:[A-Za-z0-9]{16,}|(?=[a-z0-9]*[A-Z])[A-Za-z0-9]{8,})", MASK, False),
        (r"\b(?:AIza[\w-]{20,}|AKIA[A-Z0-9]{12,})", MASK, False),
        (r"\beyJ[\w-]{10,}\.[\w-]+(?:\.[\w-]+)?", MASK, False),
        # a part of an address that looks random; a name with hyphens, if it is long
        (
            r"(://(?:\S*[/=#])?)(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?:[\w-]{20,}|\w{10,})"
            r"(?=[/?#&;:,\s'\")]|$)",
            rf"\1{MASK}",
            False,
        ),
    )
)


def redacted(text: str, *secrets: str | None) -> str:
    """Return a text with `***` for what is secret in it.

    That is each of `secrets`, the values of environment variables whose names end in KEY, TOKEN,
    SECRET or PASSWORD, user and password in an address, values of parameters named as secrets,
    and keys of well-known forms (`sk-…`, `hf_…`, `Bearer …`).
    """
    for secret in (*secrets, *_environment()):
        if secret:
            text = text.replace(secret, MASK)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def without_password(url: str) -> str:
    """Return an address without its password and other secrets, to be kept.

    Raises ValueError for one that can't be taken apart, such as with a `/` in its password.
    """
    parts = urlsplit(url)
    _ = parts.port  # raises
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("an @ behind the host")
    user, at, host = parts.netloc.rpartition("@")
    named = parse_qsl(parts.query, keep_blank_values=True)
    kept = [pair for pair in named if not _SECRET_PARAMETER.search(pair[0])]
    query = f"?{urlencode(kept, quote_via=quote)}" if kept else ""
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}{query}"


def _environment() -> tuple[str, ...]:
    """Return the secrets among the environment's variables, the longest first."""
    values = {value for name, value in os.environ.items() if _is_secret(name)}
    long = (value for value in values if len(value) >= LEAST_CHARACTERS)
    return tuple(sorted(long, key=len, reverse=True))


@lru_cache(maxsize=4096)
def _is_secret(variable: str) -> bool:
    return _SECRET_VARIABLE.search(variable) is not None
