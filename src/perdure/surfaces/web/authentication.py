"""Who is calling: by token, by name and password, by a proxy's word, or by the program's own judgement."""

import base64
import binascii
import hashlib
import hmac
import inspect
import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from perdure.domain.access import Identity, Role
from perdure.domain.errors import InvalidOption, InvalidSettings
from perdure.runtime.loading import load_module
from perdure.runtime.settings import Settings

COOKIE = "perdure_session"
SESSION_S = 12 * 3600
LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request before it is known whose it is: `headers` by lower-case name, `client` the address of the peer."""

    method: str
    path: str
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    client: str | None


Callback = Callable[[Arrival], "Identity | Awaitable[Identity | None] | None"]


class Authentication(Protocol):
    """Says who a request comes from; `challenge` is the WWW-Authenticate of a refusal, `form` whether a page asks."""

    challenge: str
    form: bool

    async def identify(self, arrival: Arrival) -> Identity | None:
        """Who it is; None when that is not shown."""
        ...


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a secret."""

    name: str
    role: Role
    secret: str

    @property
    def identity(self) -> Identity:
        return Identity.of(self.name, self.role)


class Nobody:
    """No authentication: everything is allowed to callers on this machine, nothing to others."""

    challenge = ""
    form = False

    def __init__(self, *, anywhere: bool = False) -> None:
        self._anywhere = anywhere

    async def identify(self, arrival: Arrival) -> Identity | None:
        forwarded = any(name in arrival.headers for name in ("x-forwarded-for", "forwarded", "x-real-ip"))
        if self._anywhere or (is_loopback(arrival.client) and not forwarded):
            return Identity.of(LOCAL, Role.ADMIN)
        return None


class Tokens:
    """`Authorization: Bearer SECRET`, or the cookie that the page of signing in sets after the same secret."""

    challenge = 'Bearer realm="Perdure"'
    form = True

    def __init__(self, users: Mapping[str, User], now: Callable[[], float] = time.time) -> None:
        self._users = users
        self._now = now

    async def identify(self, arrival: Arrival) -> Identity | None:
        kind, _, secret = arrival.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            user = self.of_secret(secret.strip())
        else:
            user = self._of_session(arrival.cookies.get(COOKIE, ""))
        return None if user is None else user.identity

    def of_secret(self, secret: str) -> User | None:
        """Whose secret it is; every one is compared, so that the time tells nothing."""
        found = None
        for user in self._users.values():
            if same(user.secret, secret):
                found = user
        return found

    def session(self, user: User) -> str:
        """A cookie that says who somebody is until it runs out; the secret signs it and is not in it."""
        name = base64.urlsafe_b64encode(user.name.encode()).decode()
        claim = f"{name}.{int(self._now()) + SESSION_S}"
        return f"{claim}.{_signature(user, claim)}"

    def _of_session(self, cookie: str) -> User | None:
        claim, _, signature = cookie.rpartition(".")
        coded, _, until = claim.partition(".")
        try:
            user = self._users.get(base64.urlsafe_b64decode(coded.encode()).decode())
            runs = int(until) > self._now()
        except (ValueError, binascii.Error):
            return None
        if user is None or not runs or not same(_signature(user, claim), signature):
            return None
        return user


class Basic:
    """Name and password as every browser asks for them; only over TLS or on this machine."""

    challenge = 'Basic realm="Perdure", charset="UTF-8"'
    form = False

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = users

    async def identify(self, arrival: Arrival) -> Identity | None:
        kind, _, coded = arrival.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            name, _, secret = base64.b64decode(coded, validate=True).decode().partition(":")
        except (ValueError, binascii.Error):
            return None
        user = self._users.get(name)
        known = same(user.secret if user else "", secret)
        return user.identity if user is not None and known else None


class ProxyHeader:
    """A proxy in front has checked who it is, and says so in headers; only its own address is believed."""

    challenge = ""
    form = False

    def __init__(self, proxies: tuple[str, ...], user_header: str, role_header: str) -> None:
        self._proxies = frozenset(proxies)
        self._user_header = user_header.lower()
        self._role_header = role_header.lower()

    async def identify(self, arrival: Arrival) -> Identity | None:
        name = arrival.headers.get(self._user_header, "").strip()
        if arrival.client not in self._proxies or not fit_name(name):
            return None
        role = arrival.headers.get(self._role_header, "").strip() or Role.VIEWER
        return Identity.of(name, Role(role)) if role in set(Role) else None


class Judged:
    """The program's own function decides."""

    challenge = ""
    form = False

    def __init__(self, callback: Callback) -> None:
        self._callback = callback

    async def identify(self, arrival: Arrival) -> Identity | None:
        answer = self._callback(arrival)
        identity = await answer if inspect.isawaitable(answer) else answer
        if identity is not None and not fit_name(identity.name):
            raise InvalidOption("identity", f"{identity.name!r} cannot be the name of an actor")
        return identity


def authentication_of(settings: Settings, *, anywhere: bool = False) -> Authentication:
    """The way that the settings name. Raises InvalidSettings."""
    match settings.web_auth:
        case "token" | "basic":
            users = users_of(settings.web_users.get_secret_value())
            if not users:
                raise InvalidSettings(
                    "web_users",
                    f"web_auth = {settings.web_auth} needs somebody to let in",
                    next_step="set PERDURE_WEB_USERS=name:role:secret",
                )
            return Tokens(users) if settings.web_auth == "token" else Basic(users)
        case "proxy-header":
            return ProxyHeader(settings.web_proxies, settings.web_user_header, settings.web_role_header)
        case "callback":
            return Judged(_callback(settings.web_callback))
        case _:
            return Nobody(anywhere=anywhere)


def users_of(text: str) -> dict[str, User]:
    """The users that `name:role:secret, ...` writes."""
    users = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, role, secret = entry.split(":", 2)
        users[name.strip()] = User(name.strip(), Role(role), secret)
    return users


def is_loopback(host: str | None) -> bool:
    """Whether an address is of this machine alone; a Unix socket has none and is."""
    if host is None:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def fit_name(name: str) -> bool:
    """Whether a name can stand as an actor."""
    return 1 <= len(name) <= 200 and name.isprintable()


def same(one: str, other: str) -> bool:
    """Compares secrets in a time that does not tell where they differ."""
    return hmac.compare_digest(hashlib.sha256(one.encode()).digest(), hashlib.sha256(other.encode()).digest())


def _signature(user: User, claim: str) -> str:
    return hmac.new(user.secret.encode(), claim.encode(), "sha256").hexdigest()


def _callback(place: str) -> Callback:
    if ":" not in place:
        raise InvalidSettings("web_callback", "web_auth = callback needs module:function")
    name = place.rpartition(":")[2]
    found: Callback | None = getattr(load_module(place), name, None)
    if not callable(found):
        raise InvalidSettings("web_callback", f"{place} is not a function")
    return found
