"""Settings as they travel to our own processes."""

from pydantic import SecretStr

from perdure.runtime.settings import Settings


def plain(settings: Settings) -> dict[str, object]:
    """The settings as JSON values, secrets included: they travel to our own processes over a private socket only."""
    values = settings.model_dump(mode="json")
    for name in type(settings).model_fields:
        if isinstance(value := getattr(settings, name), SecretStr):
            values[name] = value.get_secret_value()
    return values
