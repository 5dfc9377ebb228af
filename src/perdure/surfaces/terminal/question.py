"""A question that must be answered before anything is changed."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static


class Question(ModalScreen[bool]):
    """Answered with `y` or `n`. Enter says nothing, for it may have been meant for the list below."""

    DEFAULT_CSS = """
    Question { align: center middle; }
    Question > Vertical { width: auto; max-width: 76; height: auto; border: round $accent; padding: 1 2; background: $background; }
    Question Static { width: auto; max-width: 70; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, asked: str) -> None:
        super().__init__()
        self.asked = asked

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(f"{self.asked}\n\ny  yes     n  no"))

    def action_answer(self, agreed: bool) -> None:
        self.dismiss(agreed)
