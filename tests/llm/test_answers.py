"""Malformed answers, each with the picks it yields. What is not surely meant is not picked."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmser_tasks.llm.answers import parse
from llmser_tasks.llm.prompts import Question, build_question

TITLES = [
    "Blue cotton socks",  # c01
    "Red felt hat",  # c02
    "Batman Volume 1",  # c03
    "Batman Volume 2",  # c04
    "Garden hose 50 feet",  # c05
    "Not without my daughter",  # c06
    "Wool scarf",  # c07
    "Wool scarf",  # c08, the same title again
    "The very hungry caterpillar board book",  # c09
    None,  # c10
    "Lens mount c12 adapter",  # c11
    "Umbrella",  # c12
]


def _question(picks: int) -> Question:
    return build_question(
        step="snf", prompt_version="t", instructions="x", history=["lamp"], candidates=TITLES, picks=picks, seed=None
    )


THREE, ONE = _question(3), _question(1)
S, R, P, F = "strict", "repaired", "id-pattern", "fuzzy"

# (name, reply, finish reason, expected numbers, expected sources)
MANY = [
    ("as asked", '{"picks": ["c01", "c05"]}', "stop", [1, 5], [S, S]),
    ("spaced out", ' \n{\n "picks" : [ "c01" ,\n "c05" ] }\n', "stop", [1, 5], [S, S]),
    ("none", '{"picks": []}', "stop", [], []),
    ("too many", '{"picks": ["c01", "c02", "c03", "c04"]}', "stop", [1, 2, 3], [S, S, S]),
    ("duplicates", '{"picks": ["c01", "c01", "c02", "c01"]}', "stop", [1, 2], [S, S]),
    ("out of range", '{"picks": ["c13", "c00", "c99", "c02"]}', "stop", [2], [S]),
    ("all out of range", '{"picks": ["c55"]} c01', "stop", [], []),
    ("bare integers", '{"picks": [1, 5]}', "stop", [], []),
    ("wrong width", '{"picks": ["c1", "c005", "c02"]}', "stop", [2], [S]),
    ("nulls and objects", '{"picks": [null, {}, [], true, 1.5, "c02"]}', "stop", [2], [R]),
    ("other key beside", '{"why": "c03 fits", "picks": ["c02"]}', "stop", [2], [R]),
    ("one unknown key", '{"recommendations": ["c02", "c01"]}', "stop", [2, 1], [R, R]),
    ("a key that reverses", '{"excluded": ["c02", "c01"]}', "stop", [], []),
    ("a key that reverses, spelt out", '{"not_recommended": ["c02"]}', "stop", [], []),
    ("two unknown keys", '{"good": ["c02"], "bad": ["c01"]}', "stop", [], []),
    ("nested", '{"result": {"picks": ["c02", "c01"]}}', "stop", [2, 1], [R, R]),
    ("bare list", '["c02", "c01"]', "stop", [2, 1], [R, R]),
    ("bare list of numbers", "[2, 1]", "stop", [], []),
    ("objects with ids", '{"picks": [{"id": "c02", "title": "Red felt hat"}, {"id": "c01"}]}', "stop", [2, 1], [P, R]),
    ("object whose title is another's", '{"picks": [{"id": "c02", "title": "Garden hose 50 feet"}]}', "stop", [], []),
    ("ids with titles", '{"picks": ["c02: Red felt hat", "c01 - Blue cotton socks"]}', "stop", [2, 1], [P, P]),
    ("id with another's title", '{"picks": ["c02: Blue cotton socks", "c05"]}', "stop", [5], [S]),
    ("titles", '{"picks": ["Red felt hat", "Garden hose 50 feet"]}', "stop", [2, 5], [F, F]),
    ("titles in capitals", '{"picks": ["RED FELT HAT"]}', "stop", [2], [F]),
    ("title with a slip", '{"picks": ["The very hungry catepillar board book"]}', "stop", [9], [F]),
    ("invented titles", '{"picks": ["Green trousers", "Batman Volume 3", "Garden hose 100 feet"]}', "stop", [], []),
    ("ambiguous title", '{"picks": ["Wool scarf", "Umbrella"]}', "stop", [12], [F]),
    ("neighbouring titles", '{"picks": ["Batman Volume 2", "Batman Volume 1"]}', "stop", [4, 3], [F, F]),
    ("untitled", '{"picks": ["(untitled)", ""]}', "stop", [], []),
    ("ids in one string", '{"picks": "c02, c01"}', "stop", [2, 1], [P, P]),
    ("echo of the data", '{"history": ["lamp"], "candidates": [{"id": "c01", "title": "Blue socks"}]}', "stop", [], []),
    ("echo, then the answer", '{"candidates": [{"id": "c01"}]}\n{"picks": ["c02"]}', "stop", [2], [R]),
    ("fence", '```json\n{"picks": ["c02", "c01"]}\n```', "stop", [2, 1], [R, R]),
    ("fence after prose", 'Here you are:\n```json\n{"picks": ["c02"]}\n```\nEnjoy!', "stop", [2], [R]),
    ("fence without end", '```json\n{"picks": ["c02"]}', "stop", [2], [R]),
    ("prose around", 'I looked at c01. {"picks": ["c02", "c05"]} I left c03 out.', "stop", [2, 5], [R, R]),
    ("draft, then final", '{"picks": ["c01"]} No, wait: {"picks": ["c02"]}', "stop", [2], [R]),
    ("single quotes", "{'picks': ['c02', 'c01']}", "stop", [2, 1], [R, R]),
    ("no quotes", "{picks: [c02, c01]}", "stop", [2, 1], [R, R]),
    ("trailing comma", '{"picks": ["c02", "c01",]}', "stop", [2, 1], [R, R]),
    ("no closing brace", '{"picks": ["c02", "c01"]', "stop", [2, 1], [R, R]),
    ("comment", '{"picks": ["c02", // likely\n "c01"]}', "stop", [2, 1], [R, R]),
    ("cut off between", '{"picks": ["c02", "c01", ', "length", [2, 1], [R, R]),
    ("cut off in an id", '{"picks": ["c02", "c0', "length", [2], [R]),
    ("cut off after an id's c", '{"picks": ["c02", "c', "length", [2], [R]),
    ("cut off before a quote", '{"picks": ["c02", "c01', "length", [2, 1], [R, R]),
    ("cut off at the key", '{"pic', "length", [], []),
    ("cut off in a title", '{"picks": ["Red felt hat", "Batman Volume ', "length", [2], [F]),
    ("cut off in a title that fits", '{"picks": ["The very hungry caterpillar board boo', "length", [], []),
    ("list of ids", "c02, c01", "stop", [2, 1], [P, P]),
    ("list of too many ids", "c02 c01 c03 c04", "stop", [2, 1, 3], [P, P, P]),
    ("brackets", "[c02], [c01]", "stop", [2, 1], [P, P]),
    ("numbered lines", "1. c02 - Red felt hat\n2. c01 - Blue cotton socks", "stop", [2, 1], [P, P]),
    ("bulleted lines", "My picks:\n\n* **c02**: Red felt hat\n* **c05**: Garden hose 50 feet", "stop", [2, 5], [P, P]),
    ("lines with a title that says not", "c06: Not without my daughter\nc02: Red felt hat", "stop", [6, 2], [P, P]),
    ("lines with another's title", "c02: Garden hose 50 feet\nc01: Blue cotton socks", "stop", [1], [P]),
    ("lines under a heading that reverses", "Rejected:\nc02\nc01", "stop", [], []),
    ("line that takes back", "c02 fits\nc01 does not", "stop", [2], [P]),
    ("sentence", "The best ones are c02 and c01.", "stop", [2, 1], [P, P]),
    ("sentence that reverses", "Anything but c02 and c01.", "stop", [], []),
    ("sentence with not", "I would not choose c02.", "stop", [], []),
    ("sentence with n't", "c02 doesn't fit.", "stop", [], []),
    ("sentence in Chinese that reverses", "不要选 c02", "stop", [], []),
    ("sentence naming too many", "We have c01, c02, c03, c04 and c05 here.", "stop", [], []),
    ("range", "I choose c01 - c05.", "stop", [], []),
    ("range in words", "c01 to c05", "stop", [], []),
    ("alternatives", "c01 or c05", "stop", [], []),
    ("sentence cut off", "The best one is c02, while c01 is", "length", [], []),
    ("capital letter may be a title", "Canon C12 lens", "stop", [], []),
    ("id that stands in a title", "The adapter c12 is good", "stop", [], []),
    ("id inside a word", "abc02 and c021", "stop", [], []),
    ("other digits", "c０２ and c٠٢", "stop", [], []),
    ("titles line by line", "1. Red felt hat\n2. Garden hose 50 feet", "stop", [2, 5], [F, F]),
    ("title in quotes", 'I think of "Red felt hat".', "stop", [2], [F]),
    ("title in bold", "I think of **Red felt hat**.", "stop", [2], [F]),
    ("title in quotes, reversed", 'Never "Red felt hat".', "stop", [], []),
    ("titles line by line, cut off", "Red felt hat\nThe very hungry caterpillar board boo", "length", [2], [F]),
    ("refusal", "I'm sorry, but I can't help with that.", "stop", [], []),
    ("thinking", '<think>c01? no.</think>\n{"picks": ["c02"]}', "stop", [2], [R]),
    ("thinking without end", '<think>c01 maybe, {"picks": ["c01"]}', "length", [], []),
    ("thinking whose start was lost", 'hm, c01</think>{"picks": ["c02"]}', "stop", [2], [R]),
    ("format repeated", '{"picks": ["ID", "ID", ...]}', "stop", [], []),
    ("empty", "", "stop", [], []),
    ("white space", " \n ", "stop", [], []),
    ("null", "null", "stop", [], []),
    ("number", "3", "stop", [], []),
    ("error object", '{"error": "c02 is unknown"}', "stop", [], []),
    ("html", "<html><body>c02</body></html>", "stop", [2], [P]),
    ("deep", "[" * 15_000, "stop", [], []),
    ("keys without end", '{"picks":' * 2_000, "stop", [], []),
    ("very long", "c02 " * 100_000, "stop", [2], [P]),
]  # fmt: skip

SINGLE = [
    ("as asked", '{"item": "c02"}', "stop", [2], [S]),
    ("out of range", '{"item": "c13"}', "stop", [], []),
    ("the other shape", '{"picks": ["c02", "c01"]}', "stop", [2], [R]),
    ("list", '{"item": ["c02", "c01"]}', "stop", [2], [R]),
    ("cut off", '{"item": "c02', "length", [2], [R]),
    ("cut off in the id", '{"item": "c0', "length", [], []),
    ("integer", '{"item": 2}', "stop", [], []),
    ("null", '{"item": null}', "stop", [], []),
    ("title", '{"item": "Red felt hat"}', "stop", [2], [F]),
    ("object", '{"item": {"id": "c02", "title": "Red felt hat"}}', "stop", [2], [P]),
    ("id alone", "c02", "stop", [2], [P]),
    ("id in a JSON string", '"c02"', "stop", [2], [R]),
    ("sentence", "The masked item is c02.", "stop", [2], [P]),
    ("sentence with two", "After c01 comes c02.", "stop", [], []),
    ("sentence with a reason", "It is c02, because c05 came before.", "stop", [], []),
    ("the same twice", "c02. Yes, c02.", "stop", [2], [P]),
    ("title alone", "Red felt hat", "stop", [2], [F]),
    ("two titles in quotes", '"Red felt hat" follows "Umbrella"', "stop", [], []),
    ("label", "Answer: c02", "stop", [2], [P]),
    ("boxed", r"\boxed{c02}", "stop", [2], [P]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("question", "reply", "finish", "numbers", "sources"),
    [(THREE, *case[1:]) for case in MANY] + [(ONE, *case[1:]) for case in SINGLE],
    ids=[f"many: {case[0]}" for case in MANY] + [f"one: {case[0]}" for case in SINGLE],
)
def test_corpus(question: Question, reply: str, finish: str, numbers: list[int], sources: list[str]) -> None:
    picks = parse(reply, question, finish)
    assert ([pick.index + 1 for pick in picks], [pick.source for pick in picks]) == (numbers, sources)


pieces = st.sampled_from(
    [
        '{"picks": [',
        '"c01"',
        "c02",
        '"c99"',
        ", ",
        "]",
        "}",
        "```",
        "not ",
        "Red felt hat",
        "\n",
        "1. ",
        '{"item": ',
        "c0",
    ]
)


@given(
    st.one_of(st.text(), st.lists(pieces, max_size=12).map("".join), st.recursive(st.text(), st.lists).map(json.dumps)),
    st.sampled_from(["stop", "length", None]),
    st.sampled_from([THREE, ONE]),
)
@example('{"picks": ["\\ud800"]}', "stop", THREE)
def test_nothing_but_candidates_each_at_most_once(reply: str, finish: str | None, question: Question) -> None:
    indexes = [pick.index for pick in parse(reply, question, finish)]
    assert all(0 <= index < len(TITLES) for index in indexes)
    assert len(set(indexes)) == len(indexes) <= question.picks


@given(st.lists(st.integers(0, 11), unique=True, min_size=1, max_size=3), st.data())
def test_a_truncated_answer_yields_a_prefix_of_what_was_meant(chosen: list[int], data: st.DataObject) -> None:
    whole = json.dumps({"picks": [f"c{i + 1:02d}" for i in chosen]})
    cut = data.draw(st.integers(0, len(whole)))
    indexes = [pick.index for pick in parse(whole[:cut], THREE, "length")]
    assert indexes == chosen[: len(indexes)]
