"""TopApp: the monitor drawn with textual. Whatever a monitor says is put on the screen as text, never as markup."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Static, TabbedContent, TabPane

from dbpool.top import charts, tables
from dbpool.top.cleaning import at, count, number, rows, text
from dbpool.top.feed import Heard, Listener
from dbpool.top.once import label
from dbpool.top.words import LANGUAGES, word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import JustifyMethod

    from dbpool.top.bands import Segment
    from dbpool.top.client import Monitor
    from dbpool.top.tables import Table

WIDEST = 300  # of a column
DARK, LIGHT = "textual-dark", "textual-light"
COLOURS = {  # as on the page
    DARK: {"used": "#4b8bee", "idle": "#29466e", "connecting": "#e6c14a", "line": "#7ab5ff", "ink": "#0d1318",
           "quiet": "#97a6b3", "green": "#4fd08f", "orange": "#ff9d4d", "red": "#ff7f7f", "yellow": "#e6c14a",
           "violet": "#c09bff", "blue": "#7ab5ff"},
    LIGHT: {"used": "#2f6fd0", "idle": "#b9d2f1", "connecting": "#e0a100", "line": "#1a5fb4", "ink": "#ffffff",
            "quiet": "#55636f", "green": "#0a7245", "orange": "#b04a00", "red": "#bf1d2d", "yellow": "#856200",
            "violet": "#7132c9", "blue": "#1a5fb4"},
}  # fmt: skip
KEYS = (
    ("q", "quit"), ("n p", "next pool"), ("1-6", "table"), ("space", "pause"), ("s", "span"), ("r", "ask again"),
    ("t", "light or dark"), ("l", "language"),
)  # fmt: skip


class TopApp(App[None]):
    """The pools, the verdict of one of them, its bands and lines, and a table at a time."""

    TITLE = "dbpool top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 1; padding: 0 1; }
    #pools { height: auto; max-height: 7; display: none; }
    #pools.several { display: block; }
    #verdict { height: auto; max-height: 3; padding: 0 1; margin: 1 0 0 0; }
    #keys { height: 1; padding: 0 1; }
    #charts { height: 15; padding: 0 1; margin: 1 0 0 0; }
    #bands { width: 2fr; height: 1fr; margin: 0 2 0 0; }
    #lines { width: 1fr; height: 1fr; }
    TabbedContent { height: 1fr; min-height: 6; }
    TabPane { padding: 0; }
    DataTable { height: 1fr; scrollbar-size: 1 1; }
    Tab { color: $text; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit"),
        Binding("n", "other_pool(1)"),
        Binding("p", "other_pool(-1)"),
        Binding("space", "pause"),
        Binding("s", "span"),
        Binding("r", "again"),
        Binding("t", "dark_or_light"),
        Binding("l", "language"),
        *(Binding(str(index), f"table('{name}')") for index, name in enumerate(tables.TABLES, start=1)),
    ]

    def __init__(self, monitor: Monitor, language: str = "en") -> None:
        super().__init__()
        self._monitor = monitor
        self._said_in = language
        self._heard = Heard()
        self._listener = Listener(monitor, self._tell)
        self._chosen = ""  # the id of the pool that is shown
        self._span = charts.SPANS[-1]
        self._lost = ""
        self._is_paused = False

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield Static(id="head")
        yield DataTable(id="pools", cursor_type="row")
        yield Static(id="verdict")
        with Horizontal(id="charts"):
            yield Static(id="bands")
            yield Static(id="lines")
        with TabbedContent(id="tabs"):
            for name in tables.TABLES:
                with TabPane(name, id=name), Vertical():
                    yield DataTable(id=f"table-{name}", cursor_type="row")
        yield Static(id="keys")

    def on_mount(self) -> None:
        """Begin to listen."""
        self.theme = DARK
        self._show()
        self._listener.start()

    def on_unmount(self) -> None:
        """Listen no more."""
        self._listener.stop()

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _tell(self, event: str, document: dict[str, Any]) -> None:
        """Hand what the listener's thread heard to the app's own."""
        if self.is_running:
            self.call_from_thread(self.hear, event, document)

    def hear(self, event: str, document: dict[str, Any]) -> None:
        """Take an event, and draw."""
        self._lost = text(document, "why") if event == "lost" else ""
        if event != "lost":
            self._heard.take(event, document)
        if not self._is_paused or event == "lost":
            self._show()

    # ---- keys -------------------------------------------------------------------------------------------------------

    def action_other_pool(self, step: int) -> None:
        """Show the next pool, or the one before."""
        ids = [text(pool, "id") for pool in self._heard.pools()]
        if ids:
            before = ids.index(self._chosen) if self._chosen in ids else 0
            self._chosen = ids[(before + step) % len(ids)]
            self._show()

    def action_pause(self) -> None:
        """Hold what is shown, or go on."""
        self._is_paused = not self._is_paused
        self._show()

    def action_span(self) -> None:
        """Draw more or less of the past."""
        self._span = charts.SPANS[(charts.SPANS.index(self._span) + 1) % len(charts.SPANS)]
        self._show()

    def action_again(self) -> None:
        """Ask a lost monitor again, now."""
        self._listener.hurry()

    def action_dark_or_light(self) -> None:
        """Change the colours."""
        self.theme = LIGHT if self.theme == DARK else DARK
        self._show()

    def action_language(self) -> None:
        """Change the language."""
        self._said_in = LANGUAGES[1 - LANGUAGES.index(self._said_in)]
        self._show()

    def action_table(self, name: str) -> None:
        """Show another table."""
        self.query_one("#tabs", TabbedContent).active = name
        self._show()

    def on_tabbed_content_tab_activated(self) -> None:
        """Fill the table that is shown now."""
        self._show()

    def on_resize(self) -> None:
        """Draw as wide and as high as there is room."""
        self.query_one("#charts").styles.height = max(5, min(15, self.size.height * 2 // 5))
        self.call_after_refresh(self._show)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show the pool on which somebody pressed enter."""
        pools = self._heard.pools()
        if event.data_table.id == "pools" and event.cursor_row < len(pools):
            self._chosen = text(pools[event.cursor_row], "id")
            self._show()

    # ---- what is shown ----------------------------------------------------------------------------------------------

    def _show(self) -> None:
        pools = self._heard.pools()
        self.query_one("#head", Static).update(self._head())
        self.query_one("#keys", Static).update(self._keys())
        overview = self.query_one("#pools", DataTable)
        overview.set_class(len(pools) > 1, "several")
        self._name_the_tabs()
        if not pools:
            said = "no pool is open" if self._heard.state else "waiting for the monitor"
            for name, line in (("#verdict", self._say(said)), ("#bands", ""), ("#lines", "")):
                self.query_one(name, Static).update(Text(line))
            self._fill(overview, tables.pools({}, self._said_in))
            for name in tables.TABLES:
                self.query_one(f"#table-{name}", DataTable).clear()
            return
        pool = next((pool for pool in pools if text(pool, "id") == self._chosen), pools[0])
        self._chosen = text(pool, "id")
        if len(pools) > 1:
            self._fill(overview, tables.pools(self._heard.state, self._said_in), pools.index(pool))
        self._show_pool(pool)

    def _show_pool(self, pool: dict[str, Any]) -> None:
        series = self._heard.series.get(self._chosen, {})
        line = [(f"{label(pool)}  ", "title"), *charts.verdict(pool, self._said_in)]
        self.query_one("#verdict", Static).update(self._drawn([line]))
        room = self.query_one("#bands", Static).content_size
        drawn = charts.bands(pool, series, room.width, room.height, self._span, self._said_in)
        self.query_one("#bands", Static).update(self._drawn(drawn))
        room = self.query_one("#lines", Static).content_size
        drawn = charts.lines(pool, series, room.width, self._span, self._said_in)
        self.query_one("#lines", Static).update(self._drawn(drawn[: max(2, room.height)]))
        active = self.query_one("#tabs", TabbedContent).active
        if active in tables.TABLES:
            self._fill(self.query_one(f"#table-{active}", DataTable), tables.TABLES[active](pool, self._said_in))

    def _head(self) -> Text:
        state = self._heard.state
        several = rows(state, "processes")
        stale = [str(count(each, "pid")) for each in several if at(each, "stale")]
        parts: list[Segment] = [("dbpool top  ", "title"), (f"{self._monitor.address}  ", "")]
        if len(several) > 1:
            parts.append((f"{len(several)} {self._say('processes')}  ", "quiet"))
        elif state:
            up = tables.seconds(number(state, "process", "uptime"))
            parts.append((f"{self._say('pid')} {count(state, 'process', 'pid')}, {self._say('up')} {up}  ", "quiet"))
        if stale:
            parts.append((f"{', '.join(stale)} {self._say('does not answer')}  ", "red"))
        if self._lost:
            parts.append((f"{self._say('lost')}: {self._lost}", "red"))
        elif state:
            parts.append(("● ", "quiet" if self._is_paused else "green"))
            parts.append((self._say("paused" if self._is_paused else "live"), ""))
        return self._drawn([parts])

    def _keys(self) -> Text:
        parts: list[Segment] = []
        for key, name in KEYS:
            parts += [(f"{key} ", "line"), (f"{self._say(name)}   ", "quiet")]
        return self._drawn([parts])

    def _name_the_tabs(self) -> None:
        tabs = self.query_one("#tabs", TabbedContent)
        for index, name in enumerate(tables.TABLES, start=1):
            tabs.get_tab(name).label = f"{index} {self._say(name)}"

    def _fill(self, widget: DataTable[Any], table: Table, cursor: int | None = None) -> None:
        """Put *table* into *widget*; the cursor and what is scrolled stay where they are."""
        at_row, left, top = widget.cursor_row if cursor is None else cursor, widget.scroll_x, widget.scroll_y
        widget.clear(columns=True)
        aligned: list[JustifyMethod] = ["right" if name in tables.NUMBERS else "left" for name in table.columns]
        for index, (name, side) in enumerate(zip(table.columns, aligned)):
            words = [self._say(name), *(row[index] for row in table.rows)]
            widget.add_column(Text(words[0], justify=side), width=min(WIDEST, max(map(cell_len, words))))
        for row in table.rows:
            widget.add_row(*(self._cell(cell, side) for cell, side in zip(row, aligned)))
        if table.rows:
            widget.move_cursor(row=min(at_row, len(table.rows) - 1), animate=False)
        widget.scroll_to(left, top, animate=False)

    def _cell(self, words: str, side: JustifyMethod) -> Text:
        style = {tables.WELL: "green", tables.UNWELL: "red"}.get(words[:1], "")
        return Text(words, self._style(style), justify=side, no_wrap=True)

    def _drawn(self, lines: Iterable[list[Segment]]) -> Text:
        """Return rows of (text, style) as rich has them."""
        drawn = Text(no_wrap=False)
        for index, line in enumerate(lines):
            drawn.append("\n" if index else "")
            for words, style in line:
                drawn.append(words, self._style(style))
        return drawn

    def _style(self, name: str) -> str:
        """Return the style that *name* has in the theme: a colour, or one on another, or a word."""
        colours = COLOURS.get(self.theme, COLOURS[DARK])
        if name.startswith("verdict "):
            return f"bold {colours['ink']} on {colours[name[8:]]}"
        if name == "title":
            return "bold"
        return " on ".join(colours[part] for part in name.split(" on ")) if name else ""

    def _say(self, name: str) -> str:
        return word(name, self._said_in)
