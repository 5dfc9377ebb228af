"""Addresses of servers: whether they can be used, and how to show them without their passwords."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

MASK = "***"
ESCAPED = "write / @ : # ? in a password as %2F %40 %3A %23 %3F"

_USERINFO = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^:/?#@\s]*):(?P<password>.*)@", re.IGNORECASE
)
_NAMED = re.compile(
    r"(?P<name>\b\w*(?:password|passwd|secret)\w*\s*=\s*)(?:'[^']*'|[^\s&'\"]+)", re.IGNORECASE
)


def masked_url(url: str) -> str:
    """The address without its passwords; what looks like one is masked even in an address that is malformed."""
    return _NAMED.sub(rf"\g<name>{MASK}", _USERINFO.sub(rf"\g<scheme>\g<user>:{MASK}@", url))


def masked_text(text: str) -> str:
    """Any text with the passwords of the addresses in it masked, line by line."""
    return "".join(masked_url(line) for line in text.splitlines(keepends=True))


def url_fault(url: str, schemes: Sequence[str]) -> str:
    """Why an address cannot be used, without repeating it; empty when it can, or when there is none."""
    if not url:
        return ""
    scheme, separator, _ = url.partition("://")
    if not separator:
        return f"must be an address that begins with {schemes[0]}://"
    if scheme.lower() not in schemes:
        plain = scheme.lower().partition("+")[0]
        hint = f"; leave out the driver: {plain}://" if plain in schemes and plain != scheme.lower() else ""
        return f"must begin with {schemes[0]}://{hint}"
    try:
        _ = urlsplit(url).port
    except ValueError:
        return f"has a port that is no number; {ESCAPED}"
    return ""


def server_fault(url: str, schemes: Sequence[str]) -> str:
    """As `url_fault`, for servers whose clients do not agree on which @ ends the password."""
    fault = url_fault(url, schemes)
    if not fault and urlsplit(url).netloc.count("@") > 1:
        return f"has more than one @ before its host; {ESCAPED}"
    return fault
