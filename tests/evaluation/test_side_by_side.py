from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from evaluated_world import Trained
from noted_run import artefacts, changed
from scipy import stats

from llmser_tasks.core.config import RunConfig, from_flat, to_flat
from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.kinds import COUNTERS
from llmser_tasks.core.workspace import Workspace
from llmser_tasks.evaluation.metrics import METRICS
from llmser_tasks.evaluation.side_by_side import Cell, compare_runs
from llmser_tasks.evaluation.significance import holm
from llmser_tasks.sequences.targets import Targets, read_targets, write_targets
from llmser_tasks.warehouse.tables.artefacts import StoredRun
from llmser_tasks.warehouse.tables.runs import RunRow

COUNTED = [f"first:{name}" for name in COUNTERS]


def stored(trained: Trained, run_id: str = "first", config: RunConfig | None = None, **other: Any) -> StoredRun:
    row = RunRow(run_id, "tiny", to_flat(config or trained.config), "succeeded", False, None, datetime.now(UTC), None)
    return StoredRun(row, artefacts(trained, config, **other), trained.workspace)


def compare(*runs: StoredRun, **how: Any) -> list[Cell]:
    return compare_runs(runs, **({"protocol": "full", "names": (), "reference": None} | how))[0]


def rows(cells: list[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.row.label for cell in cells))


def test_means_are_the_published_ones_with_their_spread_over_seeds(trained: Trained) -> None:
    run = stored(trained)
    cells = compare(run)
    assert rows(cells) == [*COUNTED, "first:base", "first:llmser"]
    assert list(dict.fromkeys(cell.group for cell in cells)) == ["all", "tail users", "head users"]
    published = pq.read_table(run.folder("evaluation") / "metrics.parquet").to_pandas()
    assert len(cells) == (len(COUNTED) + 2) * 3 * len(METRICS)
    for cell in cells:
        of_seeds = published[
            (published.method == cell.row.method)
            & (published.protocol == "full")
            & (published.user_group == cell.group)
            & (published.metric == cell.metric)
        ]
        assert len(of_seeds) == 2
        assert cell.users == of_seeds.users.iloc[0]
        assert cell.mean == pytest.approx(of_seeds.value.mean())
        assert cell.sd == pytest.approx(of_seeds.value.std(ddof=1))


def test_each_user_is_compared_with_themselves_and_holm_counts_what_is_shown(trained: Trained) -> None:
    run = stored(trained)
    cells = compare(run, names=["all"])
    table = pq.read_table(run.folder("evaluation") / "ranks.parquet").to_pandas().query("protocol == 'full'")
    table["value"] = 1 / table["rank"]
    of_user = table.groupby(["method", "user"], observed=True)["value"].mean()
    for cell in cells:
        if cell.row.method == "base":
            assert (cell.difference, cell.low, cell.p, cell.p_holm, cell.stars) == (None, None, None, None, "")
        elif cell.metric == "MRR":
            one, base = of_user[cell.row.method], of_user["base"]
            assert cell.difference == pytest.approx((one - base).mean())
            assert cell.p == pytest.approx(stats.ttest_rel(one, base).pvalue)
            assert cell.low <= cell.difference <= cell.high
    tested = [cell for cell in cells if cell.p is not None]
    assert len(tested) == (len(COUNTED) + 1) * len(METRICS)
    assert [cell.p_holm for cell in tested] == pytest.approx(holm(np.array([cell.p for cell in tested])))


def test_counters_and_equal_bases_stand_once_and_settings_tell_variants_apart(trained: Trained) -> None:
    other = stored(trained, "second", changed(trained, "reliability", enhance_inference=False))
    cells = compare(stored(trained), other, names=["all"])
    assert rows(cells) == [*COUNTED, "first:base", "first:llmser", "second:llmser"]
    settings = {cell.row.label: cell.row.settings for cell in cells}
    assert settings["second:llmser"] == {"enhance_inference": False}
    assert settings["first:llmser"] == {"enhance_inference": True}
    assert settings["first:base"] == settings["first:popularity"] == {}


def test_another_base_has_a_row_of_its_own(trained: Trained) -> None:
    other = {f"base/{seed}": trained.made[f"llmser/{seed}"] for seed in (42, 43)}
    cells = compare(stored(trained), stored(trained, "second", **other), names=["all"])
    assert rows(cells)[len(COUNTED) :] == ["first:base", "first:llmser", "second:base", "second:llmser"]


@pytest.mark.parametrize(
    ("reference", "label"),
    [(None, "first:base"), ("popularity", "first:popularity"), ("manual__1T00:00:llmser", "manual__1T00:00:llmser")],
)
def test_the_reference_can_be_chosen(trained: Trained, reference: str | None, label: str) -> None:
    other = stored(trained, "manual__1T00:00", changed(trained, "reliability", enhance_inference=False))
    cells, chosen = compare_runs([stored(trained), other], protocol="uniform-5", names=["all"], reference=reference)
    assert chosen.label == label
    assert {cell.row.label for cell in cells if cell.p is None} == {label}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"protocol": "uniform-100"}, "Run first was not evaluated by uniform-100; it has full and uniform-5."),
        ({"names": ["old users"]}, "There is no group 'old users'; there are: all, tail users"),
        ({"reference": "nosuch:base"}, "There is no nosuch:base to compare with; there are: first:popularity"),
    ],
)
def test_what_is_not_there_is_named(trained: Trained, how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        compare(stored(trained), **how)


def test_a_run_that_also_ranked_what_users_had_before_is_compared_without(trained: Trained) -> None:
    run = stored(trained)
    file = run.folder("evaluation") / "ranks.parquet"
    ranks = pq.read_table(file)
    one = ranks.filter(pc.equal(ranks["user"], ranks["user"][0]))
    one_more = one.set_column(3, "user", pa.array([-1] * len(one), pa.int32()))  # stands before all others

    def write(folder: Path) -> dict[str, Any]:
        pq.write_table(pa.concat_tables([one_more, ranks]), folder / "ranks.parquet")
        (folder / "facts.json").write_bytes((file.parent / "facts.json").read_bytes())
        return {}

    before = trained.workspace.produce("with_repeats", "tiny", write, inputs={}, config={})
    found = compare(StoredRun(run.row, {**run.made, "evaluation": before}, run.workspace))
    assert [(cell.row.label, cell.group, cell.metric, cell.mean) for cell in found] == [
        (cell.row.label, cell.group, cell.metric, cell.mean) for cell in compare(run)
    ]


def test_runs_tested_on_others_are_not_compared(trained: Trained) -> None:
    test = read_targets(trained.folder("test") / "targets.parquet")
    fewer = np.arange(len(test)) > 0

    def write(folder: Path) -> dict[str, Any]:
        targets = Targets(test.users[fewer], test.contexts.select(fewer), test.items[fewer])
        write_targets(folder / "targets.parquet", targets)
        return {}

    other = trained.workspace.produce("fewer", "tiny", write, inputs={}, config={})
    with pytest.raises(InputError, match="Runs first and second were not tested on the same users"):
        compare(stored(trained), stored(trained, "second", test=other))


def test_artefacts_that_are_gone_or_were_never_noted_are_named(trained: Trained, tmp_path: Path) -> None:
    run = stored(trained)
    with pytest.raises(StorageError, match=r"Run first's training is gone from .*; start its settings again, or set"):
        compare(dataclasses.replace(run, workspace=Workspace(tmp_path)))
    with pytest.raises(InputError, match=r"Run first has no artefact training \(it was made before runs noted"):
        compare(dataclasses.replace(run, made={}))


def test_intervals_agree_with_what_is_starred_and_one_seed_has_no_stars(trained: Trained) -> None:
    cells = compare(stored(trained), reference="popularity")
    tested = [cell for cell in cells if cell.p is not None]
    assert len({cell.level for cell in tested}) == 1 and {cell.seeds for cell in tested} == {2}
    assert any(cell.stars for cell in tested)
    for cell in tested:
        assert (cell.low > 0 or cell.high < 0) == bool(cell.stars), cell

    one = stored(trained, "one", from_flat(to_flat(trained.config) | {"seeds": [42]}))
    for cells in (compare(one, reference="popularity"), compare(stored(trained), one, reference="one:popularity")):
        assert {cell.seeds for cell in cells if cell.p is not None} == {1}
        assert not [cell for cell in cells if cell.stars]
