"""The screen of `perdure top`: it looks again and again, and asks before it does anything."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Input, Static, Tabs
from textual.widgets import Tab as TabOfRow
from textual.worker import Worker, WorkerState

from perdure.domain.errors import PastUnknown, PerdureError, Unavailable
from perdure.domain.worker import WorkerId
from perdure.ports import By
from perdure.runtime.wiring import Stores
from perdure.surfaces.cli.exits import Exit
from perdure.surfaces.cli.text import visible
from perdure.surfaces.terminal.question import Question
from perdure.surfaces.terminal.rows import COLUMNS, Row, Tab
from perdure.surfaces.terminal.scene import SEARCHED, Scene, View, look

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_S = 10.0
"""A look that takes longer is given up: the database does not answer."""
NO_ANSWER = "the database does not answer"
REFUSALS_SHOWN_S = 10.0
REASONS_SHOWN = 3
MINUTE = timedelta(minutes=1)
LOOKING, ACTING = "looking", "acting"
REASON = "perdure top"
STYLES = {"ok": "bold green", "degraded": "bold yellow", "critical": "bold red"}
ORDER = tuple(Tab)
ACTS = {"pause": Tab.QUEUES, "cordon": Tab.WORKERS, "drain": Tab.WORKERS}
"""What can be done, and in which list."""

Act = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How often it looks, who acts, and whether anybody may."""

    every: timedelta
    actor: str
    read_only: bool = False


async def shown(top: "Top") -> int:
    """Show it until somebody leaves it, and give the exit code: 0 after `q`, 130 after Ctrl-C or a signal. Raises what ended it."""
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, top.action_interrupt)
    code = await top.run_async()
    if top.fault is not None:
        raise top.fault
    return Exit.FAILED if code is None else code


class Top(App[int]):
    """The terminal view on a database; gives the exit code."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "perdure top"
    CSS = """
    #head { height: auto; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    #away { height: auto; padding: 0 1; display: none; }
    #note { height: auto; padding: 0 1; display: none; }
    #filter { display: none; height: 1; border: none; padding: 0 1; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave", "Quit"),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "clear", show=False),
        Binding("p", "pause", "Pause/resume"),
        Binding("c", "cordon", "Cordon/uncordon"),
        Binding("D", "drain", "Drain", key_display="D"),
        Binding("r", "again", "Look again"),
        Binding("left_square_bracket", "step(-1)", "Back", key_display="["),
        Binding("right_square_bracket", "step(1)", "Forth", key_display="]"),
        Binding("left_curly_bracket", "step(-60)", show=False),
        Binding("right_curly_bracket", "step(60)", show=False),
        *(Binding(str(number), f"tab({number - 1})", show=False) for number in range(1, len(ORDER) + 1)),
    ]

    def __init__(self, stores: Stores, view: View, terms: Terms) -> None:
        super().__init__()
        self.theme = "ansi-dark"
        self.fault: Exception | None = None
        """What ended it, when it was neither a key nor a signal."""
        self._stores = stores
        self._view = view
        self._terms = terms
        self._scene: Scene | None = None
        self._again = asyncio.Event()

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="away")
        yield Tabs(*(TabOfRow(f"{number} {tab}", id=tab.name) for number, tab in enumerate(ORDER, start=1)))
        yield Static(id="note")
        yield DataTable[Text](cursor_type="row", zebra_stripes=False)
        yield Input(value=self._view.filter, placeholder="filter", id="filter", select_on_focus=False)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one(Tabs).active = self._view.tab.name
        self.query_one("#filter", Input).display = bool(self._view.filter)
        self.query_one(DataTable).focus()
        self.query_one("#head", Static).update("looking …")
        self.run_worker(self._keep_looking(), group=LOOKING, exit_on_error=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action not in ACTS:
            return True
        return not self._terms.read_only and self._view.as_of is None and ACTS[action] is self._view.tab

    def action_leave(self) -> None:
        self.exit(Exit.DONE)

    def action_interrupt(self) -> None:
        self.exit(Exit.INTERRUPTED)

    def action_again(self) -> None:
        self._again.set()

    def action_tab(self, place: int) -> None:
        self.query_one(Tabs).active = ORDER[place].name

    def action_step(self, minutes: int) -> None:
        """Look at a moment so much earlier or later; less than a minute from the present it lives again."""
        now = datetime.now(UTC)
        moment = (self._view.as_of or now) + minutes * MINUTE
        self._see(as_of=moment if now - moment >= MINUTE else None)

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.placeholder = "state:failed kind:send* error~timeout" if self._view.tab in SEARCHED else "words"
        field.display = True
        field.focus()

    def action_clear(self) -> None:
        self.query_one("#filter", Input).value = ""
        self._filtered("")

    def action_pause(self) -> None:
        if (queue := self._chosen()) is None:
            return
        verb, act = ("resume", self._stores.act.resume) if queue.is_off else ("pause", self._stores.act.pause)
        effect = (
            "its jobs may be claimed again" if queue.is_off else "nothing of it is claimed; what runs goes on"
        )
        actor = self._terms.actor
        self._ask(
            f"{verb} queue {queue.cells[0]}", effect, lambda: act(queue.key, actor=actor, reason=REASON)
        )

    def action_cordon(self) -> None:
        if (worker := self._chosen()) is None:
            return
        moves = self._stores.evacuate
        verb, act = ("uncordon", moves.uncordon) if worker.is_off else ("cordon", moves.cordon)
        effect = "it takes new work again" if worker.is_off else "it takes nothing new; what it runs goes on"
        by = By(actor=self._terms.actor, reason=REASON)
        self._ask(f"{verb} worker {worker.cells[0]}", effect, lambda: act(WorkerId(UUID(worker.key)), by))

    def action_drain(self) -> None:
        if (worker := self._chosen()) is None:
            return
        drain, actor = self._stores.act.drain, self._terms.actor
        effect = f"it finishes what it runs ({worker.cells[2]}), takes nothing new, and ends"
        self._ask(
            f"drain worker {worker.cells[0]}",
            effect,
            lambda: drain(UUID(worker.key), actor=actor, reason=REASON),
        )

    @on(Tabs.TabActivated)
    def _turned(self, event: Tabs.TabActivated) -> None:
        tab = Tab[event.tab.id or ""]
        if tab is not self._view.tab:
            self._see(tab=tab)

    @on(Input.Submitted, "#filter")
    def _submitted(self, event: Input.Submitted) -> None:
        self._filtered(event.value.strip())

    def _filtered(self, text: str) -> None:
        self.query_one("#filter", Input).display = bool(text)
        self.query_one(DataTable).focus()
        self._see(filter=text)

    def _see(self, **changes: Any) -> None:
        """Look at something else."""
        self._view = replace(self._view, **changes)
        self.refresh_bindings()
        self._again.set()

    def _chosen(self) -> Row | None:
        """The row that the cursor is on."""
        scene, place = self._scene, self.query_one(DataTable).cursor_row
        seen = None if scene is None else (scene.view.tab, scene.view.as_of)
        if scene is None or seen != (self._view.tab, self._view.as_of) or not 0 <= place < len(scene.rows):
            return None
        return scene.rows[place]

    def _ask(self, what: str, effect: str, act: Act) -> None:
        def answered(agreed: bool | None) -> None:
            if agreed:
                self.run_worker(self._do(act), name=what, group=ACTING, exit_on_error=False)

        self.push_screen(
            Question(f"{what[:1].upper()}{what[1:]}?\n{effect[:1].upper()}{effect[1:]}."), answered
        )

    async def _do(self, act: Act) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await act()

    @on(Worker.StateChanged)
    def _ended(self, event: Worker.StateChanged) -> None:
        """What was to be done is done, or refused, and is told; looking never ends by itself but by what should not happen."""
        error = event.worker.error
        if event.worker.group == LOOKING and isinstance(error, Exception):
            self.fault = error
            self.exit(Exit.FAILED)
        elif event.worker.group == ACTING and event.state in {WorkerState.SUCCESS, WorkerState.ERROR}:
            if error is None:
                self.notify(f"done: {event.worker.name}", markup=False)
            else:
                why = error.message if isinstance(error, PerdureError) else str(error) or NO_ANSWER
                told = visible(f"{event.worker.name}: {why}")
                self.notify(told, severity="error", timeout=REFUSALS_SHOWN_S, markup=False)
            self._again.set()

    async def _keep_looking(self) -> None:
        """Look at once, then at the pace, or sooner when somebody wants to see something else; the past does not change."""
        while True:
            self._again.clear()
            try:
                await self._look()
            except NoMatches:
                return  # it is being left, and its parts are gone
            is_fixed = self._view.as_of is not None and not self.query_one("#away").display
            try:
                async with asyncio.timeout(None if is_fixed else self._terms.every.total_seconds()):
                    await self._again.wait()
            except TimeoutError:
                continue

    async def _look(self) -> None:
        away, asked = self.query_one("#away", Static), self._view
        try:
            async with asyncio.timeout(PATIENCE_S):
                scene = await look(self._stores, asked)
        except PastUnknown as error:
            if self._scene is None:
                raise
            self.notify(visible(error.message), severity="error", timeout=REFUSALS_SHOWN_S, markup=False)
            before = self._scene.view.as_of
            if self._view is asked and before != asked.as_of:
                self._see(as_of=before)
            return
        except (Unavailable, TimeoutError) as error:
            why = error.message if isinstance(error, Unavailable) else NO_ANSWER
            seen = f"; what is shown is of {self._scene.at:%H:%M:%S} UTC" if self._scene else ""
            away.update(Text(visible(f"the database is away: {why}{seen}; trying again"), "bold red"))
            away.display = True
            return
        away.display = False
        if scene.view == self._view:
            self._show(scene)

    def _show(self, scene: Scene) -> None:
        head = Text(scene.state.upper(), STYLES[scene.state])
        when = f"as of {scene.at:%Y-%m-%d %H:%M:%S} UTC" if scene.view.as_of else f"{scene.at:%H:%M:%S} UTC"
        head.append(f"  {scene.figures}  {when}", "default")
        for reason in scene.reasons[:REASONS_SHOWN]:
            head.append(f"\n{visible(reason)}", "yellow")
        if len(scene.reasons) > REASONS_SHOWN:
            head.append(f"\nand {len(scene.reasons) - REASONS_SHOWN} more", "yellow")
        note = self.query_one("#note", Static)
        note.update(Text(visible(scene.note), "yellow"))
        note.display = bool(scene.note)
        with self.batch_update():
            self.query_one("#head", Static).update(head)
            self._fill(scene)
        self._scene = scene

    def _fill(self, scene: Scene) -> None:
        """The rows, with the cursor on the thing that it was on, wherever that stands now."""
        table: DataTable[Text] = self.query_one(DataTable)
        before = self._scene
        same = before is not None and before.view.tab is scene.view.tab
        if before is not None and same and before.rows == scene.rows:
            return
        place = max(0, table.cursor_row)
        if before is not None and same and place < len(before.rows):
            keys = [row.key for row in scene.rows]
            place = keys.index(before.rows[place].key) if before.rows[place].key in keys else place
        scrolled = table.scroll_x, table.scroll_y
        table.clear(columns=not same)
        if not same:
            table.add_columns(*COLUMNS[scene.view.tab])
        for row in scene.rows:
            table.add_row(*(Text(cell, row.style) for cell in row.cells))
        if same:
            table.move_cursor(row=place, scroll=False)
            table.scroll_to(*scrolled, animate=False)
