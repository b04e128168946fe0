"""Malformed answers, each with the picks it yields. What is not surely meant is not picked."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmser_tasks.llm.answers import parse
from llmser_tasks.llm.prompts import PickQuestion, build_question

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


def _question(picks: int) -> PickQuestion:
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
    ("lines with opinions", "c02 fits\nc01 does not", "stop", [], []),
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
def test_corpus(question: PickQuestion, reply: str, finish: str, numbers: list[int], sources: list[str]) -> None:
    picks = parse(reply, question, finish).chosen
    assert ([pick.index + 1 for pick in picks], [pick.source for pick in picks]) == (numbers, sources)


TEXTS = {
    1: "Subway. Sandwiches, Fast Food. Sun City",
    2: "Subway. Sandwiches. Phoenix",
    3: "The Great Greek. Diners, Greek. Sun City",
    4: "Great Wall. Chinese",
}


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("The Great Greek", 3),
        ("the great greek.", 3),
        ("The Great Greek. Diners, Greek. Sun City", 3),
        ("The Great Greek. Diners", 3),
        ("Subway", None),
        ("Subway. Sandwiches", None),
        ("Subway. Sandwiches. Phoenix", 2),
        ("Great Wall, Chinese", 4),
        ("Sun City", None),
        ("Chinese", None),
        ("Great", None),
        ("The Great Greek. Chinese", None),
    ],
)
def test_a_title_is_matched_with_or_without_what_was_shown_beside_it(said: str, number: int | None) -> None:
    question = build_question(
        step="snf", prompt_version="t", instructions="x", history=["lamp"], picks=1, seed=None,
        candidates=[text.split(".")[0] for text in TEXTS.values()], texts=list(TEXTS.values()),
    )  # fmt: skip
    for reply in (json.dumps({"item": said}), json.dumps({"item": f"c{number or 4:02d}: {said}"})):
        chosen = parse(reply, question).chosen
        assert [one.index + 1 for one in chosen] == ([number] if number else [])


# (name, reply, finish reason, what a person would say was chosen, what is picked): never anything but what was meant
MORE = [
    # JSON, nearly
    ("bom", '\ufeff{"picks": ["c02"]}', "stop", [2], [2]),
    ("json5 single quotes and comma", "{'picks':['c02','c05',],}", "stop", [2, 5], [2, 5]),
    ("python tuple", "{'picks': ('c02', 'c05')}", "stop", [2, 5], [2, 5]),
    ("python set", '{"picks": {"c02", "c05"}}', "stop", [2, 5], []),
    ("picks as object", '{"picks": {"1": "c02", "2": "c05"}}', "stop", [2, 5], []),
    ("picks as object with booleans", '{"picks": {"c01": false, "c02": true}}', "stop", [2], []),
    ("picks as list of lists", '{"picks": [["c02"], ["c05"]]}', "stop", [2, 5], []),
    ("picks null", '{"picks": null}', "stop", [], []),
    ("picks empty string", '{"picks": ""}', "stop", [], []),
    ("picks a sentence", '{"picks": "c02 and c05 fit best"}', "stop", [2, 5], []),
    ("picks a sentence that reverses", '{"picks": "none of c02 and c05"}', "stop", [], []),
    ("key in capitals", '{"PICKS": ["c02"]}', "stop", [2], [2]),
    ("key singular", '{"pick": ["c02"]}', "stop", [2], [2]),
    ("key with space", '{"picks ": ["c02"]}', "stop", [2], [2]),
    ("key of rejected beside", '{"picks": ["c02"], "rejected": ["c05"]}', "stop", [2], [2]),
    ("rejected first", '{"rejected": ["c05"], "picks": ["c02"]}', "stop", [2], [2]),
    ("picks twice", '{"picks": ["c05"], "picks": ["c02"]}', "stop", [2], [2]),
    ("two objects, same", '{"picks": ["c02"]}{"picks": ["c02"]}', "stop", [2], [2]),
    ("two objects, array of", '[{"picks": ["c02"]}]', "stop", [2], []),
    ("array of ids as objects", '[{"id": "c02"}, {"id": "c05"}]', "stop", [2, 5], [2, 5]),
    ("objects with candidate key", '{"picks": [{"candidate": "c02"}, {"candidate": "c05"}]}', "stop", [2, 5], []),
    ("objects with rank", '{"picks": [{"rank": 1, "id": "c05"}, {"rank": 2, "id": "c02"}]}', "stop", [2, 5], [5, 2]),
    ("objects, scored", '{"picks": [{"id": "c02", "score": 0.9}, {"id": "c05", "score": 0}]}', "stop", [2, 5], [2, 5]),
    ("objects with reason", '{"picks": [{"id": "c02", "reason": "better than c05"}]}', "stop", [2], [2]),
    ("objects whose reason reverses", '{"picks": [{"id": "c02", "reason": "not c05"}]}', "stop", [2], [2]),
    ("object with id and another's title", '{"picks": [{"id": "c05", "title": "Umbrella"}]}', "stop", [], []),
    ("object with an id that is none", '{"picks": [{"id": 2}]}', "stop", [], []),
    ("object with no id", '{"picks": [{"title": "Umbrella"}]}', "stop", [12], [12]),
    ("escaped quotes", '{\\"picks\\": [\\"c02\\"]}', "stop", [2], [2]),
    ("json in a json string", '"{\\"picks\\": [\\"c02\\"]}"', "stop", [2], []),
    ("answer wrapped", '{"answer": {"picks": ["c02"]}}', "stop", [2], [2]),
    ("answer wrapped in a string", '{"answer": "{\\"picks\\": [\\"c02\\"]}"}', "stop", [2], []),
    ("tool call", '{"name": "answer", "arguments": {"picks": ["c02"]}}', "stop", [2], [2]),
    ("tool call as text", '<tool_call>{"name": "x", "arguments": {"picks": ["c02"]}}</tool_call>', "stop", [2], [2]),
    ("schema echoed", '{"type": "object", "properties": {"picks": {"type": "array"}}}', "stop", [], []),
    ("schema echoed with its ids", '{"properties": {"picks": {"items": {"enum": ["c01", "c02"]}}}}', "stop", [], []),
    ("nan", '{"picks": [NaN, "c02"]}', "stop", [2], [2]),
    ("undefined", '{"picks": [undefined, "c02"]}', "stop", [2], [2]),
    ("hex escape", '{"picks": ["\\u0063\\u0030\\u0032"]}', "stop", [2], [2]),
    ("bad escape", '{"picks": ["c02\\x"]}', "stop", [2], []),
    ("tab in string", '{"picks": ["c02\t"]}', "stop", [2], [2]),
    ("newline in string", '{"picks": ["c02\n", "c05"]}', "stop", [2, 5], [2, 5]),
    ("spaces in ids", '{"picks": [" c02 ", "c05 "]}', "stop", [2, 5], [2, 5]),
    ("hash before ids", '{"picks": ["#c02", "#c05"]}', "stop", [2, 5], [2, 5]),
    ("brackets around ids", '{"picks": ["[c02]", "(c05)"]}', "stop", [2, 5], [2, 5]),
    ("quotes around ids", '{"picks": ["\\"c02\\"", "\'c05\'"]}', "stop", [2, 5], [2, 5]),
    ("ids in capitals", '{"picks": ["C02", "C05"]}', "stop", [2, 5], []),
    ("ids with a dash", '{"picks": ["c-02", "c-05"]}', "stop", [2, 5], []),
    ("ids with a space", '{"picks": ["c 02", "c 05"]}', "stop", [2, 5], []),
    ("ids as words", '{"picks": ["candidate 02", "candidate 05"]}', "stop", [2, 5], []),
    ("ids without c", '{"picks": ["02", "05"]}', "stop", [2, 5], []),
    ("ids with decimals", '{"picks": ["c02.0"]}', "stop", [2], []),
    ("dash before an id", '{"picks": ["-c02"]}', "stop", [2], [2]),
    ("range in one element", '{"picks": ["c01-c03"]}', "stop", [1, 2, 3], []),
    ("range with dots in an element", '{"picks": ["c01..c03"]}', "stop", [1, 2, 3], []),
    ("ids with arrows", '{"picks": ["c02 > c05"]}', "stop", [2, 5], [2, 5]),
    ("alternatives in an element", '{"picks": ["c02 or c05"]}', "stop", [2, 5], []),
    ("not in an element", '{"picks": ["not c02", "c05"]}', "stop", [5], [5]),
    ("strike through", '{"picks": ["~~c02~~", "c05"]}', "stop", [5], [5]),
    ("html list", "<ul><li>c02</li><li>c05</li></ul>", "stop", [2, 5], [2, 5]),
    ("xml", "<picks><pick>c02</pick><pick>c05</pick></picks>", "stop", [2, 5], [2, 5]),
    ("yaml", "picks:\n  - c02\n  - c05", "stop", [2, 5], [2, 5]),
    ("yaml flow", "picks: [c02, c05]", "stop", [2, 5], [2, 5]),
    ("toml", 'picks = ["c02", "c05"]', "stop", [2, 5], [2, 5]),
    ("csv", "id,title\nc02,Red felt hat\nc05,Garden hose 50 feet", "stop", [2, 5], [2, 5]),
    ("table", "| id | title |\n| --- | --- |\n| c02 | Red felt hat |\n| c12 | Umbrella |", "stop", [2, 12], [2]),
    ("python code", 'picks = ["c02"]\nprint(picks)', "stop", [2], []),
    ("latex", r"\begin{itemize}\item c02 \item c05\end{itemize}", "stop", [2, 5], []),
    # prose
    ("polite", "Sure! Here is the answer: c02, c05.", "stop", [2, 5], [2, 5]),
    ("polite with a question", "c02 and c05. Would you like to know more?", "stop", [2, 5], []),
    ("with its reasons", "c02 (a hat goes with socks), c05 (a hose waters)", "stop", [2, 5], []),
    ("first, second", "First c02, second c05.", "stop", [2, 5], [2, 5]),
    ("rather than", "c02 rather than c05.", "stop", [2], []),
    ("instead of", "c02 instead of c05", "stop", [2], []),
    ("better than", "c02 is better than c05", "stop", [2], []),
    ("except", "All except c02.", "stop", [], []),
    ("but not", "c02 but not c05", "stop", [2], []),
    ("neither nor", "Neither c02 nor c05.", "stop", [], []),
    ("without", "Without c02 the list makes sense.", "stop", [], []),
    ("least likely", "The least likely is c02.", "stop", [], []),
    ("doubt", "I doubt c02.", "stop", [], []),
    ("question", "c02?", "stop", [2], []),
    ("wrong", "c02 is wrong.", "stop", [], []),
    ("irrelevant list", "Irrelevant: c02, c05", "stop", [], []),
    ("noise list", "Noise: c02, c05", "stop", [], []),
    ("removed list", "Removed c02 and c05", "stop", [], []),
    ("German", "Ich wähle c02 und c05.", "stop", [2, 5], []),
    ("German, reversed", "Auf keinen Fall c02, sondern c05.", "stop", [5], []),
    ("German, nicht", "c02 passt nicht.", "stop", [], []),
    ("French", "Je choisis c02 et c05.", "stop", [2, 5], []),
    ("French, reversed", "Je ne choisis pas c02.", "stop", [], []),
    ("Spanish", "Elijo c02 y c05.", "stop", [2, 5], []),
    ("Spanish, reversed", "Todos excepto c02.", "stop", [], []),
    ("Spanish, no", "No elijo c02.", "stop", [], []),
    ("Chinese", "我选择 c02 和 c05。", "stop", [2, 5], []),
    ("Chinese, except", "除了 c02 以外", "stop", [], []),
    ("Japanese", "c02とc05を選びます。", "stop", [2, 5], []),
    ("Japanese, reversed", "c02は選びません。", "stop", [], []),
    ("Russian", "Я выбираю c02.", "stop", [2], []),
    ("Russian, reversed", "Я не выбираю c02.", "stop", [], []),
    ("Portuguese, reversed", "Não escolho c02.", "stop", [], []),
    ("Italian, reversed", "Non scelgo c02.", "stop", [], []),
    ("Dutch, reversed", "Ik kies c02 niet.", "stop", [], []),
    ("Korean, reversed", "c02는 아닙니다.", "stop", [], []),
    ("Arabic, reversed", "لا أختار c02", "stop", [], []),
    ("Turkish, reversed", "c02 değil.", "stop", [], []),
    ("Polish, reversed", "Nie wybieram c02.", "stop", [], []),
    ("a plan, no answer", "First I will look at c02, then decide.", "stop", [], []),
    ("repeats the question", "Which of the candidates fits? Let us see c02.", "stop", [], []),
    ("id of the history", "The history holds c02.", "stop", [], []),
    ("full width", "ｃ０２", "stop", [], []),
    ("cyrillic с", "с02", "stop", [], []),
    ("emoji", "👉 c02 👈", "stop", [2], []),
    ("zero width inside", "c\u200b02", "stop", [], []),
    ("underlined", "__c02__, __c05__", "stop", [2, 5], []),
    ("numbered ids", "1) c02\n2) c05", "stop", [2, 5], [2, 5]),
    ("numbers only", "1. 2\n2. 5", "stop", [], []),
    ("title and id swapped", "Red felt hat (c05)", "stop", [], []),
    ("titles with commas", "Red felt hat, Umbrella", "stop", [2, 12], []),
    ("title in a sentence", "I would pick Red felt hat because it fits.", "stop", [2], []),
    ("title with not inside", '"Not without my daughter"', "stop", [6], [6]),
    ("a longer title", '"Red felt hat with feather"', "stop", [], []),
    ("a shorter title", '"Red hat"', "stop", [], []),
    ("series without number", '"Batman Volume"', "stop", [], []),
    ("series with roman number", '"Batman Volume II"', "stop", [4], []),
    ("thinking twice", '<think>c01</think><think>c05</think>{"picks": ["c02"]}', "stop", [2], [2]),
    ("thinking only", "<think>c02</think>", "stop", [], []),
    ("reasoning tag", '<reasoning>c01</reasoning>{"picks": ["c02"]}', "stop", [2], [2]),
    ("channel markers", '<|channel|>final<|message|>{"picks": ["c02"]}', "stop", [2], [2]),
    ("end token", '{"picks": ["c02"]}<|im_end|>', "stop", [2], [2]),
    ("assistant prefix", 'assistant: {"picks": ["c02"]}', "stop", [2], [2]),
    ("repeats itself", '{"picks": ["c02"]}\n' * 50, "stop", [2], [2]),
    ("loops in ids", '{"picks": ["c02", "c05", ' + '"c02", ' * 400, "length", [2, 5], [2, 5]),
    ("cut off in the fence", '```json\n{"picks": ["c02", "c05"', "length", [2, 5], [2, 5]),
    ("cut off in prose", "I choose c02 and c0", "length", [2], []),
    ("cut off after not", "I choose c02, not", "length", [], []),
    ("only a brace", "{", "length", [], []),
    ("only the key", '{"picks":', "length", [], []),
    ("only an open list", '{"picks": [', "length", [], []),
    ("server error page", "<html><head><title>502 Bad Gateway</title></head></html>", "stop", [], []),
    ("moderation notice", '{"flagged": true, "categories": ["c02"]}', "stop", [], []),
    ("base64", "eyJwaWNrcyI6IFsiYzAyIl19", "stop", [], []),
    ("control characters", '{"picks": ["c02"]}\x00\x07', "stop", [2], [2]),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "finish", "meant", "picked"), [case[1:] for case in MORE], ids=[c[0] for c in MORE])
def test_what_was_not_meant_is_not_picked(reply: str, finish: str, meant: list[int], picked: list[int]) -> None:
    found = [pick.index + 1 for pick in parse(reply, THREE, finish).chosen]
    assert set(found) <= set(meant)
    assert found == picked


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
def test_nothing_but_candidates_each_at_most_once(reply: str, finish: str | None, question: PickQuestion) -> None:
    indexes = [pick.index for pick in parse(reply, question, finish).chosen]
    assert all(0 <= index < len(TITLES) for index in indexes)
    assert len(set(indexes)) == len(indexes) <= question.picks


@given(st.lists(st.integers(0, 11), unique=True, min_size=1, max_size=3), st.data())
def test_a_truncated_answer_yields_a_prefix_of_what_was_meant(chosen: list[int], data: st.DataObject) -> None:
    whole = json.dumps({"picks": [f"c{i + 1:02d}" for i in chosen]})
    cut = data.draw(st.integers(0, len(whole)))
    indexes = [pick.index for pick in parse(whole[:cut], THREE, "length").chosen]
    assert indexes == chosen[: len(indexes)]
