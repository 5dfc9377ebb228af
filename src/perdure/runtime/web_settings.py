"""The settings of the web face: where it listens, who may come in, and what nobody sees."""

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from perdure.domain.access import Role
from perdure.domain.redaction import DEFAULT_NAMES

Names = Annotated[tuple[str, ...], NoDecode]
SHORTEST_SECRET = 12


class WebSettings(BaseSettings):
    """What `Settings` knows of the web face."""

    web_host: str = Field(
        default="127.0.0.1",
        description="Address that `perdure serve` listens on. Without authentication only a loopback address is taken.",
        min_length=1,
        max_length=255,
    )
    web_port: int = Field(default=7337, description="Port that `perdure serve` listens on.", ge=0, le=65_535)
    web_auth: Literal["none", "token", "basic", "proxy-header", "callback"] = Field(
        default="none",
        description="How callers of the web face show who they are. `none`: not at all, from this machine only.",
    )
    web_users: SecretStr = Field(
        default=SecretStr(""),
        description="For `token` and `basic`: `name:role:secret` for each, separated by commas; roles are viewer, "
        f"operator, worker and admin, and a secret has at least {SHORTEST_SECRET} characters.",
    )
    web_callback: str = Field(
        default="",
        description="For `callback`: `module:function`, which is given an `Arrival` and says who it is, or None.",
        max_length=500,
    )
    web_proxies: Names = Field(
        default=("127.0.0.1", "::1"),
        description="For `proxy-header`: addresses of the proxies whose headers are believed.",
        max_length=100,
    )
    web_user_header: str = Field(
        default="x-forwarded-user",
        description="For `proxy-header`: the header that names the user.",
        min_length=1,
    )
    web_role_header: str = Field(
        default="x-forwarded-role",
        description="For `proxy-header`: the header that gives the role; without it one is a viewer.",
        min_length=1,
    )
    web_hosts: Names = Field(
        default=(),
        description="Host names by which the web face may be called. Empty: without authentication those of this "
        "machine, otherwise any.",
        max_length=100,
    )
    web_read_only: bool = Field(default=False, description="Let nobody change anything through the web face.")
    redact: Names = Field(
        default=DEFAULT_NAMES,
        description="Parts of names, whatever their case, whose values no face shows: in arguments, results and "
        "metadata.",
        max_length=1000,
    )

    @field_validator("web_proxies", "web_hosts", "redact", mode="before")
    @classmethod
    def _parted(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("web_users")
    @classmethod
    def _users(cls, value: SecretStr) -> SecretStr:
        for entry in filter(None, (part.strip() for part in value.get_secret_value().split(","))):
            name, _, rest = entry.partition(":")
            role, _, secret = rest.partition(":")
            if not name.strip() or role not in set(Role):
                raise ValueError("each must be name:role:secret, with a role of " + ", ".join(Role))
            if len(secret) < SHORTEST_SECRET:
                raise ValueError(f"the secret of {name} has fewer than {SHORTEST_SECRET} characters")
        return value
