"""The tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import figures

if TYPE_CHECKING:
    from benchmarks.results import Results, Series, Workload

console = Console()
TOP = 1000  # from here on without decimals


def number(value: float) -> str:
    """Return *value* with about three digits that count."""
    if abs(value) >= TOP:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def shown(series: Series, name: str) -> str:
    """Return a median and its quartiles."""
    if name not in series.samples:
        return ""
    low, high = series.spread(name)
    middle = number(series.median(name))
    return middle if low == high else f"{middle} [dim]({number(low)}-{number(high)})[/dim]"


def about(machine: dict[str, Any]) -> str:
    """Return what everything was measured with, in words."""
    packages = ", ".join(f"{name} {found}" for name, found in machine["versions"].items() if found)
    return f"CPython {machine['python']}, {machine['cores']} cores ({machine['cpu']}), {machine['system']}; {packages}"


def checks(peers: list[Any]) -> None:
    """Print what each pool looks at, as it is set up here."""
    table = Table(title="What each looks at", box=box.SIMPLE, title_justify="left")
    table.add_column("pool")
    table.add_column("checks")
    for peer in peers:
        table.add_row(peer.name, peer.checks)
    console.print(table)


def workload(tape: Workload) -> None:
    """Print a table for each case: the peers, the best first, and each one's ratio to ours."""
    console.rule(tape.title)
    for case in tape.cases():
        group = [each for each in tape.series if each.case == case]
        table = Table(title=case, box=box.SIMPLE, title_justify="left")
        table.add_column("pool")
        for series in group:
            table.add_column(f"{series.measure} {series.unit}".strip(), justify="right")
        first = group[0]
        ours = next((name for name in first.samples if name.startswith("dbpool Threaded") or name == "dbpool"), None)
        ours = ours or next((name for name in first.samples if name.startswith("dbpool")), None)
        if ours:
            table.add_column(f"/ {ours}", justify="right")
        for name in first.ordered():
            cells = [shown(series, name) for series in group]
            ratio = [_ratio(first, name, ours)] if ours else []
            style = "bold" if name.startswith("dbpool") else ""
            table.add_row(name, *cells, *ratio, style=style)
        console.print(table)
    for note in tape.notes:
        console.print(f"  [dim]{note}[/dim]")


def _ratio(series: Series, name: str, ours: str) -> str:
    try:
        return f"{series.ratio(name, ours):.2f}"
    except ValueError:  # ours is nought
        return ""


def promises(results: Results) -> list[figures.Line]:
    """Print must, got and met; return the lines."""
    found = figures.lines(results)
    table = Table(title="The figures", box=box.SIMPLE, title_justify="left")
    for head, justify in (("what", "left"), ("must", "right"), ("got", "right"), ("", "left"), ("of", "left")):
        table.add_column(head, justify=justify)  # type: ignore[arg-type]
    words = {True: "[green]met[/green]", False: "[red]MISSED[/red]", None: "-"}
    for line in found:
        table.add_row(line.what, line.must, line.value, words[line.met], line.detail)
    console.print(table)
    return found
