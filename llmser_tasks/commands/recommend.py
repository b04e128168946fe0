"""`llmser recommend`"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llmser_tasks.commands.formats import FLOAT, TEXT, WHOLE, readable
from llmser_tasks.commands.show import announced, format_option, refuse_unreadable, to_stdout
from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.core.kinds import METHODS
from llmser_tasks.core.names import title_of
from llmser_tasks.serving import chosen, served
from llmser_tasks.warehouse import address
from llmser_tasks.warehouse.queries import Rows
from llmser_tasks.warehouse.tables.artefacts import StoredRun

if TYPE_CHECKING:
    from llmser_tasks.sequences.catalogue import Catalogue
    from llmser_tasks.serving.given import Given
    from llmser_tasks.serving.titles import Match

COLUMNS = {"user_id": TEXT, "rank": WHOLE, "item_id": TEXT, "title": TEXT, "score": FLOAT}


@click.command()
@click.argument("run")
@click.option("--history", "histories", multiple=True, metavar="ID,…", help="Item ids, oldest first; may be repeated.")
@click.option("--titles", multiple=True, metavar="TITLE", help="One title of a history; repeat it, oldest first.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON lines, one history each: a list of item ids, or an object with item_ids or titles, and user_id. Or CSV"
    " with a header and one interaction a line: user_id and item_id, or user_id and title.",
)
@click.option("--method", metavar="METHOD", help="Whose model. Default: that of the run's recommendations.")
@click.option("-k", "--top", "k", type=click.IntRange(1), default=10, show_default=True, help="Items for each history.")
@format_option
def recommend(
    run: str,
    histories: Sequence[str],
    titles: Sequence[str],
    file: Path | None,
    method: str | None,
    k: int,
    form: str,
) -> None:
    """Recommend to anyone, with a model of a RUN (its id, or `latest`): new users too, whatever they had so far.

    Histories are item ids or titles. A title counts whatever its case and punctuation; one that no item has is taken
    for the most similar, and what was taken is told. What a history holds is not recommended again. Histories are
    scored as they are: what a run makes for its own users, pseudo-prior items say, these have not.
    """
    from llmser_tasks import recommenders
    from llmser_tasks.methods import adding
    from llmser_tasks.sequences.catalogue import Catalogue
    from llmser_tasks.serving.given import resolve

    refuse_unreadable(form)
    given = _given(histories, titles, file)
    with address.kept_database() as warehouse:
        stored = StoredRun.of(warehouse, announced(warehouse, run), environment.workspace())
    method = _announced_method(stored, method)
    catalogue = Catalogue.read(stored.folder("catalogue"))
    wanted = resolve(given, catalogue, _say)
    names = served(stored, method)
    trained, more = recommenders.load(stored.folder(names.model)), None
    if names.addition:
        more = adding.added(names.addition, stored.folder(names.fitted), wanted, trained.device)
    items, scores = recommenders.top_k(trained, wanted, min(k, trained.items), wanted, added=more)
    rows = _rows(given, items, scores, catalogue)
    to_stdout(Rows(list(COLUMNS), list(COLUMNS.values()), rows), form)


def _announced_method(run: StoredRun, wanted: str | None) -> str:
    """The method that recommends; what it is, why, and what it goes without, go to stderr."""
    method, title = chosen(run) if wanted is None else (wanted, title_of(wanted))
    bare = "; histories are scored as they are, without what the run made for its own users"
    declared = METHODS.get(METHODS.without_parts(method))  # item tables and additions know anybody's items
    echo(f"Recommending by {title}{bare if declared is None or declared.needs else ''}.", err=True)
    return method


def _given(histories: Sequence[str], titles: Sequence[str], file: Path | None) -> list[Given]:
    from llmser_tasks.serving.given import Given, read_histories

    given = [
        Given(str(number), [name.strip() for name in history.split(",") if name.strip()], "item_ids")
        for number, history in enumerate(histories, start=1)
    ]
    if titles:
        given.append(Given(str(len(given) + 1), list(titles), "titles"))
    if file:
        given += read_histories(file)
    if not given:
        raise click.UsageError("Whom for? Give --history, --titles or --file.")
    return given


def _say(title: str, match: Match) -> None:
    taken = f"“{readable(title)}” taken for “{readable(match.title)}”"
    alike = f"{match.likeness:.0f} % alike" if match.likeness < 100 else "which has all these words"
    how = [] if match.exact else [f"the closest title, {alike}"]
    if match.others:
        how.append(f"the first of {match.others + 1} items with this title")
    echo(f"{taken} ({', '.join(how)}).", err=True)


def _rows(given: Sequence[Given], items: Any, scores: Any, catalogue: Catalogue) -> Iterator[Sequence[Any]]:
    for history, best, values in zip(given, items, scores, strict=True):
        best = best[best > 0]  # fewer than k are left where a history holds nearly everything
        ids, titles = catalogue.item_ids_of(best), catalogue.titles_of(best)
        for rank, found in enumerate(zip(ids, titles, values.tolist(), strict=False), start=1):
            yield (history.user, rank, *found)
