"""Who may see what, and who may change what: every route, every role, expected against seen."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from filled_warehouse import BROKEN, DATASET, FINISHED, HOSTILE, STUCK, STUDY, USERS
from served_page import ROLES, Page

from llmser_tasks.core.handle import Warehouse
from llmser_tasks.warehouse.tables import acceptance

RUN, SHOP, ASKED = (quote(name, safe="") for name in (FINISHED, DATASET, STUDY))
PAGES = ["/", f"/run?run={RUN}", f"/dataset?dataset={SHOP}", f"/report/{RUN}", "/studies", f"/study?study={ASKED}"]
DATA = [
    "/api/titles", "/api/overview", "/api/runs", f"/api/runs?dataset={SHOP}", f"/api/drift?dataset={SHOP}",
    f"/api/published?dataset={SHOP}", f"/api/run?run={RUN}", "/api/studies", f"/api/study?study={ASKED}",
    f"/api/results?run={RUN}", f"/api/costs?run={RUN}", f"/api/users?run={RUN}",
]  # fmt: skip
STATIC = ["/static/page.js", "/static/page.css", "/static/icon.svg", "/static/vendor/chart-4.6.1.umd.min.js"]
TABLES = [
    f"/csv/{name}?run={RUN}&dataset={SHOP}&study={ASKED}"
    for name in (
        "datasets", "runs", "drift", "steps", "batches", "metrics", "means", "comparisons", "earlier", "omega",
        "reliability", "pseudo-items", "user-texts", "histories", "recommendations", "costs", "group-costs",
        "answer-quality", "published", "kept-back", "studies", "cells", "main-table",
    )
]  # fmt: skip
ROUTES = [*PAGES, *DATA, *STATIC, *TABLES]
CLEAR = "/api/v2/dags/llmser/clearTaskInstances"
ACCEPT = "/llmser/api/accept"
PLUGIN = Path(__file__).parents[2] / "plugins" / "llmser_page.py"


@pytest.mark.parametrize("role", [None, *ROLES])
def test_every_route_asks_for_a_login_and_no_more_than_reading(page: Page, role: str | None) -> None:
    expected = 401 if role is None else 200
    with page.client(role) as client:
        seen = {route: client.get(f"/llmser{route}").status_code for route in ROUTES}
    assert seen == dict.fromkeys(ROUTES, expected)


def test_the_routes_above_are_all_there_are(page: Page) -> None:
    declared = set(re.findall(r'@app\.(?:get|post|put|patch|delete)\("(/[a-z]*)', PLUGIN.read_text()))
    assert declared == {"/" + route.split("/")[1].split("?")[0] for route in ROUTES}
    writing = re.findall(r"@app\.(?:post|put|patch|delete)\((.*)\)", PLUGIN.read_text())
    assert writing == ['"/api/accept", dependencies=[may_clear, Depends(same_origin)]'], "the others read"


@pytest.mark.parametrize(
    ("role", "expected"), [(None, 401), ("viewer", 403), ("user", 200), ("op", 200), ("admin", 200)]
)
def test_only_who_may_clear_tasks_may_rerun(page: Page, role: str | None, expected: int) -> None:
    body = {"dag_run_id": BROKEN, "task_ids": [["snf", 1]], "dry_run": True}
    with page.client(role) as client:
        assert client.post(CLEAR, json=body).status_code == expected
        if role is not None:
            assert client.get(f"/llmser/api/run?run={BROKEN}").json()["may_clear"] is (expected == 200)


@pytest.mark.parametrize(
    ("role", "expected"), [(None, 401), ("viewer", 403), ("user", 200), ("op", 200), ("admin", 200)]
)
def test_only_who_may_clear_tasks_may_accept_and_exactly_what_they_list(
    page: Page, filled: Warehouse, role: str | None, expected: int
) -> None:
    acceptance.revoke(filled, BROKEN)
    with page.client(role) as client:
        answer = client.post(ACCEPT, json={"run": BROKEN, "batches": [["snf", 3]]})
    assert answer.status_code == expected
    if expected == 200:
        assert answer.json() == [{"step": "snf", "batch": 3, "label": "users 30–39", "missing": 4}]
    accepted = {batch for batch in range(5) if acceptance.is_accepted(filled, BROKEN, "snf", batch)}
    assert accepted == ({3} if expected == 200 else set())
    acceptance.revoke(filled, BROKEN)


def test_who_accepted_what_stands_in_airflows_audit_log(page: Page, filled: Warehouse) -> None:
    with page.client("op") as client:
        client.post(ACCEPT, json={"run": BROKEN, "batches": [["snf", 1]]}).raise_for_status()
        noted = client.get("/api/v2/eventLogs", params={"event": "llmser_accept", "order_by": "-when"}).json()
    latest = noted["event_logs"][0]
    assert (latest["dag_id"], latest["run_id"], latest["owner"]) == ("llmser", BROKEN, "op")
    assert latest["extra"] == "1 batch of snf (users 10–19), at most 4 users without an answer"
    acceptance.revoke(filled, BROKEN)


FROM_ELSEWHERE = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "null"},
]


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
def test_pages_of_other_sites_accept_nothing(page: Page, filled: Warehouse, headers: dict[str, str]) -> None:
    with page.client("admin") as client:
        answer = client.post(ACCEPT, json={"run": BROKEN, "batches": [["snf", 3]]}, headers=headers)
    assert answer.status_code == 403 and answer.json() == {"detail": "Only LLMSeR's own page may ask for this."}
    assert not acceptance.any_accepted(filled, BROKEN)


def test_a_page_of_this_origin_may_accept(page: Page, filled: Warehouse) -> None:
    for headers in ({"Sec-Fetch-Site": "same-origin", "Origin": page.url}, {"Origin": page.url}):
        with page.client("user") as client:
            answer = client.post(ACCEPT, json={"run": BROKEN, "batches": [["snf", 3]]}, headers=headers)
        assert answer.status_code == 200
    acceptance.revoke(filled, BROKEN)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_what_a_form_could_send_accepts_nothing(page: Page, filled: Warehouse, kind: str) -> None:
    body = json.dumps({"run": BROKEN, "batches": [["snf", 3]]})
    with page.client("admin") as client:
        assert client.post(ACCEPT, content=body, headers={"Content-Type": kind}).status_code == 422
    assert not acceptance.any_accepted(filled, BROKEN)


@pytest.mark.parametrize(
    ("run", "batches", "status"),
    [
        (BROKEN, [["snf", 1], ["snf", 2]], 409),  # batch 2 is done
        (BROKEN, [["snf", 2**40]], 409),
        (BROKEN, [["train_base", -1]], 422),
        (BROKEN, [], 422),
        (STUCK, [["snf", 0]], 409),
        ("none\0", [["snf", 1]], 409),
    ],
)
def test_what_has_not_failed_is_not_accepted(
    page: Page, filled: Warehouse, run: str, batches: list[object], status: int
) -> None:
    with page.client("admin") as client:
        answer = client.post(ACCEPT, json={"run": run, "batches": batches})
    assert answer.status_code == status
    assert not acceptance.any_accepted(filled, BROKEN)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_what_a_form_of_another_site_could_send_clears_nothing(page: Page, kind: str) -> None:
    """Forms cannot send JSON, and Airflow's cookie does not even travel with what other sites send."""
    with page.client("admin") as client:
        body = json.dumps({"dag_run_id": BROKEN, "task_ids": [["snf", 1]], "dry_run": False})
        assert not client.post(CLEAR, content=body, headers={"Content-Type": kind}).is_success
    with page.client("admin") as client:  # Airflow closes the connection after such a body
        task = client.get(f"/api/v2/dags/llmser/dagRuns/{BROKEN}/taskInstances/snf/1").json()
    assert task["state"] == "failed"


@pytest.mark.parametrize("route", [*PAGES, *DATA[:1], *STATIC[:1], *TABLES[:1], "/nowhere", "/api/run?run=none"])
def test_nothing_foreign_may_load_run_or_frame(page: Page, route: str) -> None:
    with page.client("viewer") as client:
        headers = client.get(f"/llmser{route}").headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'self'" in policy
    assert "unsafe-inline" not in policy or route.startswith("/report/")
    assert "unsafe-eval" not in policy and "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_a_csv_is_exact_and_complete(page: Page) -> None:
    with page.client("viewer") as client:
        answer = client.get(f"/llmser/csv/pseudo-items?run={RUN}")
        scores = list(csv.DictReader(io.StringIO(client.get(f"/llmser/csv/reliability?run={RUN}").text)))
        metrics = list(csv.DictReader(io.StringIO(client.get(f"/llmser/csv/metrics?run={RUN}").text)))
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="pseudo-items.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(scores) == USERS
    assert {row["title"] for row in rows} == {HOSTILE}
    assert [float(row["omega"]) for row in scores] == [number / USERS for number in range(USERS)]
    assert len(metrics) == 4 * 2 * 2 * 8 * 5


def test_what_is_not_there_is_said_in_a_sentence(page: Page) -> None:
    with page.client("viewer") as client:
        run = client.get("/llmser/api/run?run=<b>none</b>")
        report = client.get("/llmser/report/<b>none")
        table = client.get("/llmser/csv/secrets?run=x")
        without = client.get("/llmser/csv/metrics")
        file = client.get("/llmser/static/../page.py")
    assert run.status_code == report.status_code == table.status_code == without.status_code == file.status_code == 404
    assert run.json()["detail"].startswith("There is no run '<b>none</b>' in the warehouse")
    assert "&lt;b&gt;none" in report.text and "<b>" not in report.text
    assert "There is no table 'secrets'" in table.text or "There is no table &#x27;secrets&#x27;" in table.text
    assert "of one run; say which" in without.text


ODD = ["%00", "a%00b", "%FF", "%ED%A0%80", "%1b%5B31m", "..%2F..%2Fetc%2Fpasswd", "../..", "'", "%25s", "", "x" * 8000]
TEXTS = {  # every text that a route takes, where it stands in the address
    "/{}", "/static/{}", "/report/{}", "/csv/{}?run=x&dataset=x&study=x",
    "/api/runs?dataset={}", "/api/runs?started=2026-01-01T00:00:00Z&before={}", "/api/runs?started={}&before=x",
    "/api/drift?dataset={}", "/api/published?dataset={}", "/api/run?run={}", "/api/results?run={}",
    "/api/costs?run={}", "/api/users?run={}", f"/api/users?run={RUN}&search={{}}", f"/api/users?run={RUN}&order={{}}",
    f"/api/users?run={RUN}&omega={{}}&after=x", f"/api/users?run={RUN}&omega=nan&after={{}}",
    *(f"{table.split('?')[0]}?run={{}}&dataset={{}}&study={{}}" for table in TABLES), "/api/study?study={}",
}  # fmt: skip


def test_no_address_whatever_stands_in_it_is_more_than_not_found(page: Page) -> None:
    with page.client("viewer") as client:
        seen = {
            (place, odd[:20]): client.get(f"/llmser{place.replace('{}', odd)}").status_code
            for place in sorted(TEXTS)
            for odd in ODD
        }
    assert {asked: status for asked, status in seen.items() if status not in {200, 400, 401, 404, 422}} == {}
    assert seen["/report/{}", "%00"] == seen["/api/run?run={}", "a%00b"] == 404


def test_every_text_that_a_route_takes_is_tried_above() -> None:
    routes = re.findall(r'@app\.get\("([^"]+)"\)[^"]*?def \w+\(([^)]*)\)', PLUGIN.read_text(encoding="utf-8"))
    for route, parameters in routes:
        for name, kind in re.findall(r"(\w+): (str|datetime|Literal|float)", parameters):
            path = re.sub(r"\{[^}]*\}", "{}", route)
            places = [place for place in TEXTS if place.split("?")[0] == path or path == "/csv/{}"]
            assert any("{}" in path or f"{name}={{}}" in place for place in places), f"{route} {name}: {kind}"


def test_users_come_in_order_a_few_at_a_time(page: Page) -> None:
    with page.client("viewer") as client:

        def all_users(**how: str) -> list[dict[str, object]]:
            found: list[dict[str, object]] = []
            more: dict[str, str] = {}
            while rows := client.get("/llmser/api/users", params={"run": FINISHED, **how, **more}).json():
                found += rows
                more = {"after": rows[-1]["user_id"], "omega": repr(rows[-1]["omega"])}
            return found

        by_id, most, least = all_users(), all_users(order="most"), all_users(order="least")
        searched = client.get("/llmser/api/users", params={"run": FINISHED, "search": "user <u>23"}).json()
    assert [row["user_id"] for row in by_id] == [f"user <u>{number:02d}</u>" for number in range(USERS)]
    assert [row["omega"] for row in least] == sorted(number / USERS for number in range(USERS))
    assert most == least[::-1]
    assert [row["user_id"] for row in searched] == ["user <u>23</u>", "user <u>24</u>"]
    assert by_id[0]["history"] == [{"item": "item 1", "title": HOSTILE}, {"item": "item 2", "title": HOSTILE}]
    assert by_id[0]["pseudo"] == [{"item": "item 0", "title": HOSTILE, "source": "strict"}]
