"""What the person or the program sees: tables, one JSON document, sentences, problems."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.client import ClientError, Gateway, Json
from shared.text import Language, Text

Cell = Callable[[Json], object]

PIPE_WIDTH = 500


@dataclass(frozen=True, slots=True)
class Column:
    """show: makes the cell; a plain name takes that key."""

    title: Text
    show: Cell | str
    right: bool = False

    def cell(self, item: Json) -> str:
        value = item.get(self.show) if isinstance(self.show, str) else self.show(item)
        return "—" if value is None or value == "" else str(value)


@dataclass(slots=True)
class Output:
    """as_json: exactly one JSON document on stdout; everything else goes to stderr."""

    language: Language
    as_json: bool
    out: Console = field(init=False)
    err: Console = field(init=False)

    def __post_init__(self) -> None:
        # Into a pipe a row stays one line, however wide; on a screen it fits the screen.
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        self.out = Console(file=sys.stdout, highlight=False, soft_wrap=True, width=width)
        self.err = Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def text(self, zh: str, en: str, **values: object) -> str:
        return Text(zh, en).render(self.language, **values)

    def say(self, zh: str, en: str, **values: object) -> None:
        """A sentence for a person; silent for programs."""
        if not self.as_json:
            self.out.print(escape(self.text(zh, en, **values)))

    def note(self, zh: str, en: str, **values: object) -> None:
        """A sentence beside the result."""
        self.err.print(escape(self.text(zh, en, **values)))

    def plain(self, line: str) -> None:
        """A bare value, fit for `$(…)`."""
        sys.stdout.write(f"{line}\n")

    def document(self, value: Any) -> None:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")

    def listing(self, items: Sequence[Json], columns: Sequence[Column]) -> None:
        if self.as_json:
            self.document({"items": list(items), "total": len(items)})
            return
        if not items:
            self.err.print(self.text("没有内容。", "Nothing to show."))
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(
                column.title.render(self.language),
                justify="right" if column.right else "left",
                overflow="fold",
            )
        for item in items:
            table.add_row(*(escape(column.cell(item)) for column in columns))
        self.out.print(table, soft_wrap=False)

    def record(self, item: Json, columns: Sequence[Column]) -> None:
        """One object, a line per field."""
        if self.as_json:
            self.document(item)
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for column in columns:
            table.add_row(column.title.render(self.language), escape(column.cell(item)))
        self.out.print(table, soft_wrap=False)

    def problem(self, error: ClientError) -> None:
        title, *rest = error.lines(self.language)
        self.err.print(f"[bold red]{escape(title)}[/]")
        for line in rest:
            self.err.print(escape(line))


@dataclass(slots=True)
class Desk:
    """What every command has at hand."""

    gateway: Gateway
    output: Output


def hours(price: object) -> str:
    return f"{price}/h" if price is not None else "—"


def money(amount: object) -> str:
    return f"¥{amount}" if amount is not None else "—"


def size(count: int | None) -> str:
    """Bytes in binary units."""
    if count is None:
        return "—"
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def moment(value: object) -> str:
    """An ISO time, to the second."""
    return str(value)[:19].replace("T", " ") if value else "—"
