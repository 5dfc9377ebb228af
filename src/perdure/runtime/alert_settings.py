"""The settings of alerts: where messages go, and how often things are looked at and told again."""

from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from perdure.runtime.urls import url_fault

Addresses = Annotated[tuple[str, ...], NoDecode]
HTTP = ("http", "https")
SHORTEST_SIGNING_SECRET = 16


class AlertSettings(BaseSettings):
    """What `Settings` knows of alerts. Addresses of channels are secrets: who knows them can write there."""

    alert_interval_s: float = Field(
        default=15.0, description="Time between two looks of the leader at the alerts.", ge=1, le=300
    )
    alert_repeat_s: float = Field(
        default=14_400.0,
        description="Time after which a message about an alert that still fires is sent again.",
        ge=60,
        le=604_800,
    )
    alert_dashboard: str = Field(
        default="",
        description="Address of the dashboard, such as `https://perdure.example.com`, for links in messages.",
        max_length=500,
    )
    alert_runbooks: str = Field(
        default="",
        description="Address of runbooks of your own, named after the alerts, such as `https://wiki.example.com/runbooks`; "
        "by default links lead to those of the dashboard.",
        max_length=500,
    )
    alert_webhook: SecretStr = Field(
        default=SecretStr(""), description="Address that messages about alerts are posted to as JSON."
    )
    alert_webhook_secret: SecretStr = Field(
        default=SecretStr(""),
        description=f"Secret that signs what is posted to `alert_webhook`, of at least {SHORTEST_SIGNING_SECRET} characters.",
    )
    alert_slack: SecretStr = Field(
        default=SecretStr(""), description="Incoming webhook of Slack that messages about alerts go to."
    )
    alert_smtp: SecretStr = Field(
        default=SecretStr(""),
        description="Mail server for messages about alerts, as `smtp://user:password@host:587` or `smtps://…`; a "
        "password is only sent over TLS.",
    )
    alert_email_from: str = Field(default="", description="Sender of mail about alerts.", max_length=320)
    alert_email_to: Addresses = Field(
        default=(), description="Recipients of mail about alerts.", max_length=100
    )
    alert_alertmanager: SecretStr = Field(
        default=SecretStr(""),
        description="Alertmanager that alerts are pushed to, as `http://host:9093`, by its API of version 2.",
    )

    @field_validator("alert_webhook", "alert_slack", "alert_alertmanager")
    @classmethod
    def _http(cls, value: SecretStr) -> SecretStr:
        if fault := url_fault(value.get_secret_value(), HTTP):
            raise ValueError(fault)
        return value

    @field_validator("alert_smtp")
    @classmethod
    def _smtp(cls, value: SecretStr) -> SecretStr:
        if fault := url_fault(value.get_secret_value(), ("smtp", "smtps")):
            raise ValueError(fault)
        return value

    @field_validator("alert_webhook_secret")
    @classmethod
    def _long(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < SHORTEST_SIGNING_SECRET:
            raise ValueError(f"must have at least {SHORTEST_SIGNING_SECRET} characters")
        return value

    @field_validator("alert_dashboard", "alert_runbooks")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and (fault := url_fault(value, HTTP)):
            raise ValueError(fault)
        return value

    @field_validator("alert_email_to", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value
