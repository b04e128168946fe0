"""A finished run's figures in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from llmser_tasks.core.kinds import METHODS
from llmser_tasks.core.names import CONDITIONAL, ONE_SEED
from llmser_tasks.warehouse import queries
from llmser_tasks.warehouse.tables import runs


def _rows(database_url: str, what: str, run_id: str) -> list[dict[str, Any]]:
    with queries.read(database_url, what, run_id) as found:
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def show(database_url: str, run_id: str, console: Console) -> None:
    """Print base against LLMSeR per user group, and every model over all users (full ranking)."""
    run = runs.load(database_url, run_id)
    warning = "SYNTHETIC sample data: no finding about real users. " if run.synthetic else ""
    askable = runs.askable(database_url, run_id)
    steps = (askable or {}).get("steps", {})
    if run.config.get("endpoint") == "llmser_ranker" and (askable is None or any(steps.values())):
        warning += "Answers by the embedding-ranker, which is no LLM. "
    if askable and any(users < askable["users"] for users in steps.values()):
        asked = ", ".join(f"{users:,} of {askable['users']:,} users in {step}" for step, users in steps.items())
        warning += f"Could be asked: {asked}; {askable['titled']:,} of {askable['items']:,} items have a title."
    groups = Table(title=f"Base against LLMSeR, NDCG@10, full ranking, {run.dataset}", caption=warning.strip() or None)
    for name in ("group", "users", "base", "LLMSeR", "difference", "p (Holm)"):
        groups.add_column(name, justify="left" if name == "group" else "right")
    one_seed = False
    for row in _rows(database_url, "tail-report", run_id):
        if row["protocol"] != "full":
            continue
        change = f"{100 * row['difference'] / row['base']:+.1f} %" if row["base"] else "–"
        one_seed |= row["seeds"] == 1
        p = "" if row["p_holm"] is None else f"{row['p_holm']:.3f}"
        groups.add_row(
            row["user_group"],
            f"{row['users']:,}",
            f"{row['base']:.4f}",
            f"{row['llmser']:.4f}",
            f"{change} {row['stars'] or ''}".rstrip(),
            p,
        )
    models = Table(title="All users, full ranking")
    for name in ("model", "H@10", "N@10", "H@20", "N@20", "MRR"):
        models.add_column(name, justify="left" if name == "model" else "right")
    found = {
        row["model"]: row
        for row in _rows(database_url, "table1", run_id)
        if row["protocol"] == "full" and row["user_group"] == "all"
    }
    for model, method in METHODS.items():
        if model in found:
            metrics = [found[model][name] for name in ("H@10", "N@10", "H@20", "N@20", "MRR")]
            models.add_row(method.title, *("" if value is None else f"{value:.4f}" for value in metrics))
    console.print(models)
    console.print(groups)
    console.print(*[ONE_SEED] * one_seed, CONDITIONAL, style="dim")


def save_report(database_url: str, run_id: str, home: Path) -> Path:
    """Write the run's HTML report below the home; returns its path."""
    folder = home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{''.join(c if c.isalnum() or c in '._-' else '-' for c in run_id)}.html"
    path.write_text(queries.report(database_url, run_id), encoding="utf-8")
    return path
