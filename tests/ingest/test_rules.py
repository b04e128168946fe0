"""What becomes of duplicates, ties, repeats, ratings, titles; and that every line is accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_dumps import DAY, START, Ingested, full, review, titles, write

from llmser_tasks.core.workspace import Workspace
from llmser_tasks.ingest import report
from llmser_tasks.ingest.report import percent, reconcile, warnings


def accounted(lines: dict) -> int:
    return lines["kept"] + lines["duplicates"] + sum(lines["filtered"].values()) + sum(lines["quarantined"].values())


def test_ids_follow_the_dumps_ids_and_rows_follow_user_time_and_line(workspace: Workspace, tmp_path: Path) -> None:
    done = Ingested(workspace, write(tmp_path, full()[::-1]))
    assert [(row["user"], row["user_id"], row["interactions"]) for row in done.users] == [
        (n, f"u{n}", 4) for n in range(4)
    ]
    assert [(row["item"], row["item_id"], row["title"]) for row in done.items] == [
        (n + 1, f"i{n}", f"Title {n}") for n in range(4)
    ]
    assert [(row["user"], row["item"]) for row in done.interactions] == [(u, i) for u in range(4) for i in range(1, 5)]
    first = done.interactions[0]
    assert first == {"user": 0, "item": 1, "timestamp": START * 1000, "rating": 5.0, "line": 16}


def test_exact_duplicates_collapse_to_the_first_line_whose_rating_counts(workspace: Workspace, tmp_path: Path) -> None:
    lines = [review("u0", "i0", 0, overall=2.0), *full(), review("u0", "i0", 0, overall=4.0)]
    done = Ingested(workspace, write(tmp_path, lines))
    assert len(done.interactions) == 16
    assert done.interactions[0]["line"] == 1
    assert done.interactions[0]["rating"] == 2.0
    assert done.report["lines"]["reviews"]["duplicates"] == 2
    assert done.report["before"] == {"users": 4, "items": 4, "interactions": 18, "distinct": 16}


def test_a_missing_rating_of_the_first_line_is_not_replaced_by_a_duplicates(
    workspace: Workspace, tmp_path: Path
) -> None:
    bare = review("u0", "i0", 0)
    del bare["overall"]
    done = Ingested(workspace, write(tmp_path, [bare, *full()]))
    assert done.interactions[0]["rating"] is None


def test_the_same_item_bought_again_at_another_time_stays(workspace: Workspace, tmp_path: Path) -> None:
    done = Ingested(workspace, write(tmp_path, [*full(), review("u1", "i0", 99)]))
    assert done.bought("u1") == ["i0", "i1", "i2", "i3", "i0"]
    assert done.report["repeat_purchases"] == 1


def test_ties_in_time_keep_the_order_of_lines_where_that_is_asked_for(workspace: Workspace, tmp_path: Path) -> None:
    lines = [review(f"u{u}", f"i{i}", 7) for u in range(4) for i in (2, 0, 3, 1)]
    done = Ingested(workspace, write(tmp_path, lines, ties="file"))
    assert done.bought("u3") == ["i2", "i0", "i3", "i1"]
    assert done.report["ties"] == {"order": "file", "moments": 4, "neighbours": 1.0, "last_items": 1.0}


@pytest.mark.parametrize("missing", ["absent", None, "NaN"])
def test_a_missing_rating_passes(workspace: Workspace, tmp_path: Path, missing: str | None) -> None:
    lines = full()
    for line in lines:
        if missing == "absent":
            del line["overall"]
        else:
            line["overall"] = float("nan") if missing else None  # NaN is no JSON, and real dumps have it
    done = Ingested(workspace, write(tmp_path, lines))
    assert len(done.interactions) == 16
    assert {row["rating"] for row in done.interactions} == {None}


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_rating_is_a_missing_one(workspace: Workspace, tmp_path: Path, empty: str) -> None:
    done = Ingested(workspace, write(tmp_path, [line | {"overall": empty} for line in full()]))  # type: ignore[operator]
    assert {row["rating"] for row in done.interactions} == {None}
    assert not done.quarantine


def test_ratings_that_are_not_positive_are_filtered_before_counting(workspace: Workspace, tmp_path: Path) -> None:
    lines = [*full(), review("u9", "i0", 1, overall=0), review("u9", "i1", 2, overall=-1), review("u9", "i2", 3)]
    done = Ingested(workspace, write(tmp_path, lines))
    assert "u9" not in {row["user_id"] for row in done.users}
    assert done.report["lines"]["reviews"]["filtered"]["rating"] == 2
    assert done.report["lines"]["reviews"]["filtered"]["user_core"] == 1


def test_the_core_filter_looks_at_counts_once(workspace: Workspace, tmp_path: Path) -> None:
    # rare has 3 buyers, but two of them are too short: one pass keeps the third's purchase, a k-core does not.
    lines = [*full(), review("u0", "rare", 99), review("x", "rare", 1), review("y", "rare", 2)]
    once = Ingested(workspace, write(tmp_path, lines))
    assert once.bought("u0")[-1] == "rare"
    assert once.report["core_rounds"] == 1
    assert once.report["lines"]["reviews"]["filtered"]["user_core"] == 2
    repeated = Ingested(workspace, write(tmp_path, lines, iterate_core=True))
    assert "rare" not in repeated.bought("u0")
    assert repeated.report["core_rounds"] == 3
    assert repeated.report["lines"]["reviews"]["filtered"]["item_core"] == 1


def test_users_too_short_after_the_filter_fall_out(workspace: Workspace, tmp_path: Path) -> None:
    lines = [*full(), review("short", "i0", 1), review("short", "i1", 2), review("short", "only", 3)]
    done = Ingested(workspace, write(tmp_path, lines))
    assert "short" not in {row["user_id"] for row in done.users}
    assert done.report["lines"]["reviews"]["filtered"] == {
        "blank": 0,
        "rating": 0,
        "user_core": 0,
        "item_core": 1,
        "min_length": 2,
    }


def test_an_item_without_a_title_stays_with_null(workspace: Workspace, tmp_path: Path) -> None:
    meta = [{"asin": "i0", "title": '<span class="a-size'}, {"asin": "i1"}, {"asin": "i2", "title": "Soap"}]
    done = Ingested(workspace, write(tmp_path, full(), meta))
    assert done.titles() == {"i0": None, "i1": None, "i2": "Soap", "i3": None}
    assert done.report["titles"] == {"with_title": 1, "coverage": 0.25, "different": 1, "no_line": 1}


def test_of_several_item_lines_the_first_clean_title_wins(workspace: Workspace, tmp_path: Path) -> None:
    meta = [
        {"asin": "i0", "title": ""},
        {"asin": "i0", "title": "First &amp; <b>best</b>"},
        {"asin": "i0", "title": "Second"},
        {"asin": "unreviewed", "title": "Nobody's"},
        *titles()[1:],
    ]
    done = Ingested(workspace, write(tmp_path, full(), meta))
    assert done.titles()["i0"] == "First & best"
    assert done.report["lines"]["items"] == {
        "read": 7,
        "kept": 4,
        "duplicates": 2,
        "filtered": {"blank": 0, "item_not_kept": 1},
        "quarantined": {},
    }


GARBAGE = {
    b'{"reviewerID": "u0", "asi': "not JSON",
    b"\xff\xfe\x00 binary": "not JSON",
    b"[1, 2]": "not an object",
    b'{"asin": "i0", "unixReviewTime": 1400000000}': "reviewerID is missing",
    b'{"reviewerID": "u0", "asin": null, "unixReviewTime": 1400000000}': "asin is missing",
    b'{"reviewerID": "", "asin": "i0", "unixReviewTime": 1400000000}': "reviewerID is not an id",
    b'{"reviewerID": "u\\u0000", "asin": "i0", "unixReviewTime": 1400000000}': "reviewerID is not an id",
    b'{"reviewerID": ["u"], "asin": "i0", "unixReviewTime": 1400000000}': "reviewerID is not an id",
    b'{"reviewerID": "\\ud800", "asin": "i0", "unixReviewTime": 1400000000}': "reviewerID is not an id",
    b'{"reviewerID": "u0", "asin": "i0"}': "unixReviewTime is missing",
    b'{"reviewerID": "u0", "asin": "i0", "unixReviewTime": "soon"}': "unixReviewTime is not a time",
    b'{"reviewerID": "u0", "asin": "i0", "unixReviewTime": NaN}': "unixReviewTime is not a time",
    b'{"reviewerID": "u0", "asin": "i0", "unixReviewTime": 1400000000000}': "unixReviewTime is outside 1970\u20132100",
    b'{"reviewerID": "u0", "asin": "i0", "unixReviewTime": -1}': "unixReviewTime is outside 1970\u20132100",
    b'{"reviewerID": "u0", "asin": "i0", "unixReviewTime": 1400000000, "overall": "good"}': "overall is not a number",
    b'{"reviewerID": "u0", "asin": "i0", "unixReviewTime": 1400000000, "overall": []}': "overall is not a number",
    b"[" * 100_000: "not JSON",
}


def test_unusable_lines_are_quarantined_with_number_and_reason(workspace: Workspace, tmp_path: Path) -> None:
    lines = [*full(), b"", *GARBAGE, b"   "]
    done = Ingested(workspace, write(tmp_path, lines, [b"nonsense", *titles()]))
    reviews = [row for row in done.quarantine if row["file"] == "reviews.json"]
    assert [(row["line"], row["reason"]) for row in reviews] == [
        (18 + n, reason) for n, reason in enumerate(GARBAGE.values())
    ]
    assert all(len(row["text"]) <= 200 and row["text"].isprintable() for row in done.quarantine)
    assert done.quarantine[-1] == {"file": "items.json", "line": 1, "reason": "not JSON", "text": "nonsense"}
    assert len(done.interactions) == 16


@pytest.mark.parametrize("zipped", [False, True])
def test_every_line_is_accounted_for(workspace: Workspace, tmp_path: Path, zipped: bool) -> None:
    lines = [*full(), b"", *GARBAGE, *full()[:3], review("v", "i0", 1), review("u0", "i0", 5, overall=0)]
    done = Ingested(workspace, write(tmp_path, lines, [b"nonsense", *titles(), *titles(9)], zipped=zipped))
    for lines_of in done.report["lines"].values():
        assert lines_of["read"] == accounted(lines_of)
    assert done.report["lines"]["reviews"]["read"] == len(lines)
    assert done.report["lines"]["items"]["read"] == 14


def test_a_sum_that_is_off_stops_ingest() -> None:
    lines = {"read": 5, "kept": 2, "duplicates": 1, "filtered": {"blank": 0}, "quarantined": {"not JSON": 1}}
    with pytest.raises(AssertionError, match="5 lines read, 4 accounted for"):
        reconcile("reviews", lines)


def test_the_report_has_lengths_density_and_hashes(workspace: Workspace, tmp_path: Path) -> None:
    lines = [*full(users=5), review("u0", "i0", 77), review("u0", "i1", 78)]
    done = Ingested(workspace, write(tmp_path, lines))
    assert done.report["after"] == {"users": 5, "items": 4, "interactions": 22, "density": 22 / 20}
    assert done.report["lengths"] == {
        "min": 4,
        "median": 4,
        "p80": 4,
        "max": 6,
        "mean": 4.4,
        "shorter_than_8": 1.0,
        "histogram": [[4, 4], [6, 1]],
    }
    assert done.report["files"]["reviews"]["name"] == "reviews.json"
    assert len(done.report["files"]["items"]["sha256"]) == 64
    assert done.summary["after"] == done.report["after"]
    assert done.summary["synthetic"] is False


def test_a_dataset_is_synthetic_only_if_all_its_users_are(workspace: Workspace, tmp_path: Path) -> None:
    made_up = [review(f"SYN-{u}", f"i{i}", i) for u in range(4) for i in range(4)]
    assert Ingested(workspace, write(tmp_path, made_up)).summary["synthetic"] is True
    assert Ingested(workspace, write(tmp_path, made_up + full())).summary["synthetic"] is False


def test_two_workspaces_get_the_same_bytes(tmp_path: Path) -> None:
    dataset = write(tmp_path, [*full(30, 20), *GARBAGE, *full(3)], titles(20))
    one, two = (Ingested(Workspace(tmp_path / name), dataset) for name in ("one", "two"))
    assert one.artefact.content == two.artefact.content
    assert one.artefact.path == two.artefact.path
    for path in sorted(one.folder.glob("*.parquet")):
        assert path.read_bytes() == (two.folder / path.name).read_bytes()


def test_unchanged_dumps_are_not_read_again_and_changed_ones_are(workspace: Workspace, tmp_path: Path) -> None:
    dataset = write(tmp_path, full())
    assert Ingested(workspace, dataset).artefact.unchanged is False
    assert Ingested(workspace, dataset).artefact.unchanged is True
    moved = write(tmp_path / "elsewhere", full(), noun="thing", split="temporal")
    assert Ingested(workspace, moved).artefact.unchanged is True
    changed = write(tmp_path, [*full(), review("u1", "i0", 99)])
    assert Ingested(workspace, changed).artefact.unchanged is False


def test_time_is_in_milliseconds(workspace: Workspace, tmp_path: Path) -> None:
    done = Ingested(workspace, write(tmp_path, full()))
    assert {row["timestamp"] % (DAY * 1000) for row in done.interactions} == {START * 1000 % (DAY * 1000)}


def test_no_work_file_stays(workspace: Workspace, tmp_path: Path) -> None:
    done = Ingested(workspace, write(tmp_path, full()))
    assert {path.name for path in done.folder.iterdir()} == {
        "interactions.parquet",
        "users.parquet",
        "items.parquet",
        "quarantine.parquet",
        "report.json",
        "manifest.json",
    }


def test_a_workspace_whose_path_looks_like_a_pattern(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "odd [x] * year=2014 'it''s'")
    assert len(Ingested(workspace, write(tmp_path, full())).interactions) == 16


def test_the_line_that_people_see_has_titles_ties_and_what_was_quarantined_where(
    workspace: Workspace, tmp_path: Path
) -> None:
    lines = [*full(), review("u0", "i0", 30), b"?"]
    meta = [{"asin": "i0", "title": "Soap"}, b"broken", b"{}"]
    done = Ingested(workspace, write(tmp_path, lines, meta))
    assert report.line("mine", done.summary) == (
        "mine: 4 users, 4 items, 17 interactions of 18 lines; titles for 25 % of the items; 7.7 % of neighbours share a"
        " time, ordered by hash; quarantined reviews.json: 1 review lines, items.json: 2 item lines (see"
        " quarantine.parquet)"
    )
    (warning,) = warnings("mine", done.summary)
    assert warning.startswith("Only 1 of 4 items of mine have a title (25 %)") and "3 have no line" in warning
    fine = Ingested(workspace, write(tmp_path / "fine", full()))
    assert report.line("mine", fine.summary).endswith("titles for 100 % of the items; quarantined nothing")
    assert not warnings("mine", fine.summary)


def test_a_share_never_reads_as_none_or_all_where_it_is_not() -> None:
    assert [percent(share) for share in (0, 1e-6, 0.022, 0.5, 0.99999, 1)] == [
        "0 %",
        "less than 0.1 %",
        "2.2 %",
        "50 %",
        "more than 99.9 %",
        "100 %",
    ]
