"""`perdure alert`: see alerts and their rules, silence them, try the channels."""

from typing import Annotated
from uuid import UUID

from cyclopts import App, Parameter

from perdure.domain.alerts import RULES
from perdure.domain.alerts.views import rule_view
from perdure.domain.durations import parse_duration
from perdure.domain.errors import InvalidOption, NotifierFailed
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.options import AS_SET, AS_USUAL, CAREFUL, ONCE, Caution, Connection, Shown, Watch
from perdure.surfaces.cli.output import Listing, show_list, show_one, tell, write
from perdure.surfaces.cli.records import record_of
from perdure.surfaces.cli.repeat import repeated
from perdure.surfaces.cli.session import opened, settings_of
from perdure.surfaces.cli.tables import Column
from perdure.surfaces.cli.text import plain

app = App(name="alert", help="See alerts and their rules, silence them, try the channels.")

COLUMNS = (
    Column("state", "STATE"),
    Column("severity", "SEVERITY"),
    Column("rule", "ALERT"),
    Column("target", "ABOUT"),
    Column("since", "SINCE"),
    Column("silenced_until", "SILENCED UNTIL"),
    Column("summary", "SUMMARY"),
)
RULE_COLUMNS = (
    Column("name", "ALERT"),
    Column("severity", "SEVERITY"),
    Column("for_s", "FOR S", right=True),
    Column("outside", "PROMETHEUS ONLY"),
    Column("impact", "IMPACT"),
)
SILENCE_COLUMNS = (
    Column("id", "SILENCE"),
    Column("rule", "ALERT"),
    Column("target", "ABOUT"),
    Column("author", "BY"),
    Column("expires_at", "UNTIL"),
    Column("reason", "WHY"),
)


@app.command(name="list")
async def list_(*, watch: Watch = ONCE, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """List alerts: those that fire, those that wait for their time, and those that ended in the last days."""
    async with opened(connection) as stores:
        async for _ in repeated(watch.interval):
            page = await stores.alerts.page()
            show_list(
                Listing(
                    schema="perdure.alerts/1",
                    item="perdure.alert/1",
                    columns=COLUMNS,
                    records=[record_of(alert) for alert in page.alerts],
                    key="rule",
                ),
                shown,
            )


@app.command
async def silences(*, connection: Connection = AS_SET, shown: Shown = AS_USUAL) -> None:
    """List the silences in force."""
    async with opened(connection) as stores:
        page = await stores.alerts.page()
    show_list(
        Listing(
            schema="perdure.silences/1",
            item="perdure.silence/1",
            columns=SILENCE_COLUMNS,
            records=[record_of(silence) for silence in page.silences],
        ),
        shown,
    )


@app.command
def rules(*, shown: Shown = AS_USUAL) -> None:
    """List the rules behind the alerts; needs no database."""
    show_list(
        Listing(
            schema="perdure.alert_rules/1",
            item="perdure.alert_rule/1",
            columns=RULE_COLUMNS,
            records=[record_of(rule_view(rule)) for rule in RULES],
            key="name",
        ),
        shown,
    )


@app.command
def runbook(rule: str, target: str = "") -> None:
    """Print what to do about an alert, as Markdown; needs no database.

    Parameters
    ----------
    rule
        Name of the alert.
    target
        The queue, kind, host, worker, fingerprint, table or channel that it is about; its name is filled in.
    """
    from perdure.surfaces.runbooks import markdown

    for line in markdown(rule, target).rstrip().split("\n"):
        write(plain(line))


@app.command
async def silence(
    rule: str,
    target: str = "",
    *,
    lasts: Annotated[str, Parameter(name="--for")] = "1h",
    caution: Caution = CAREFUL,
    connection: Connection = AS_SET,
    shown: Shown = AS_USUAL,
) -> None:
    """Say nothing of some alerts for a while; `--reason` is needed.

    Parameters
    ----------
    rule
        Name of an alert, or `*` for all.
    target
        Only about this queue, kind, host, worker, fingerprint, table or channel.
    lasts
        How long, such as `2h`; at most 30 days.
    """
    duration = parse_duration(lasts, "for")
    if caution.dry_run:
        raise InvalidOption("dry_run", "a silence changes nothing that could be shown before")
    async with opened(connection) as stores:
        made = await stores.alerts.silence(
            rule, target, author=caution.actor, reason=caution.reason, lasts=duration
        )
    show_one("perdure.silence/1", record_of(made), shown)


@app.command
async def unsilence(
    silence_id: str, *, caution: Caution = CAREFUL, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> None:
    """End a silence now.

    Parameters
    ----------
    silence_id
        Its id, as `perdure alert silences` lists it.
    """
    try:
        wanted = UUID(silence_id)
    except ValueError:
        raise InvalidOption(
            "id", f"{silence_id!r} is not the id of a silence", next_step="see `perdure alert silences`"
        ) from None
    async with opened(connection) as stores:
        ended = await stores.alerts.unsilence(wanted, author=caution.actor)
    show_one("perdure.silence/1", record_of(ended), shown)


@app.command(name="test")
async def try_channels(
    *, channel: str | None = None, connection: Connection = AS_SET, shown: Shown = AS_USUAL
) -> Exit:
    """Send a message to the channels that the settings name, from here; needs no database.

    Parameters
    ----------
    channel
        Only this one: `webhook`, `slack`, `email` or `alertmanager`.
    """
    from perdure.runtime.alerting import channels_of, links_of
    from perdure.services.alerts import trial

    settings = settings_of(connection)
    every = channels_of(settings)
    channels = {name: one for name, one in every.items() if channel in {None, name}}
    if not channels:
        raise InvalidOption(
            "channel",
            "the settings name no channel"
            if channel is None
            else f"the settings have no channel {channel!r}",
            next_step="set alert_webhook, alert_slack, alert_smtp or alert_alertmanager",
        )
    records: list[dict[str, object]] = []
    for name, one in channels.items():
        try:
            await one.send(trial(links=links_of(settings)))
            records.append({"channel": name, "outcome": "sent", "error": None})
        except NotifierFailed as error:
            tell(error.message)
            records.append({"channel": name, "outcome": "failed", "error": error.message})
    show_list(
        Listing(
            schema="perdure.alert_tests/1",
            item="perdure.alert_test/1",
            columns=(Column("channel", "CHANNEL"), Column("outcome", "OUTCOME"), Column("error", "ERROR")),
            records=records,
            key="channel",
        ),
        shown,
    )
    return Exit.FAILED if any(record["error"] for record in records) else Exit.DONE
