"""How the demonstration looks to a person: the story of each scene as it happens, then one table."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from localcloud.demo.scene import Scene


def show_scene(console: Console, scene: Scene) -> None:
    """Tell a scene."""
    mark = "[green]ok[/]" if scene.ok else "[bold red]FAILED[/]"
    console.print(f"\n[bold]{escape(scene.title)}[/]  {mark}")
    for line in scene.lines:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    for seen in scene.seen:
        if not seen.ok:
            console.print(
                f"  [red]expected[/] {escape(seen.what)} ({escape(seen.where)}): {escape(seen.expected)}; "
                f"[red]saw[/] {escape(seen.seen)}",
                highlight=False,
            )


def show_table(console: Console, scenes: list[Scene]) -> None:
    """Everything that was expected and seen, one row a scene."""
    table = Table(title="What was seen, and by whom", title_justify="left", show_lines=False)
    table.add_column("scene")
    table.add_column("seen as expected", justify="right")
    table.add_column("witnesses")
    table.add_column("figures")
    for scene in scenes:
        good = sum(seen.ok for seen in scene.seen)
        colour = "green" if scene.ok else "red"
        witnesses = ", ".join(dict.fromkeys(seen.where for seen in scene.seen))
        table.add_row(escape(scene.title), f"[{colour}]{good}/{len(scene.seen)}[/]", escape(witnesses), _figures(scene))
    console.print()
    console.print(table)


def _figures(scene: Scene) -> str:
    shown = {name: value for name, value in scene.figures.items() if not name.startswith("stage_")}
    governed = sum(
        scene.figures.get(f"stage_{name}_ms", 0) for name in ("identity", "form", "policy", "admit", "settle")
    )
    if governed:
        shown["governance_ms"] = round(governed, 2)
    return ", ".join(f"{name} {value:g}" for name, value in shown.items())
