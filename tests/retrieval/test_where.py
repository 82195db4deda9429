"""Conditions on passages: what they say, and what is refused."""

import pytest

from dalm.errors import UserError
from dalm.retrieval.where import FIELDS, parse_condition

COLUMNS = {**FIELDS, "price": float, "new": bool, "Part No": str, "in": str}
PUMP = {
    "id": "7",
    "title": "It's a pump",
    "source": "manual.pdf",
    "page": 12,
    "price": 9.5,
    "new": True,
    "Part No": "A-1",
    "in": "x",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("page = 12", True),
        ("page == 12 AND source = 'manual.pdf'", True),
        ("page <> 12 or page < 0", False),
        ("page != 12 or price >= 9.5", True),
        ("not page > 10", False),
        ("not (page > 10 and price < 9)", True),
        ("page > 10 or page > 1 and page < 0", True),  # `and` binds closer
        ("(page > 10 or page > 1) and page < 0", False),
        ("page in (1, 12)", True),
        ("page not in (1, 12)", False),
        ("title = 'It''s a pump'", True),
        ("title like 'It%p_mp'", True),
        ("title like 'it%'", False),
        ("title not like '%valve%'", True),
        ("source like 'manual_pdf'", True),
        ("source like 'manual.%' and source like '%.pdf'", True),
        ("document is null", True),
        ("page is not null", True),
        ("document = 'x'", None),
        ("not document = 'x'", None),
        ("document = 'x' or page = 12", True),
        ("document = 'x' and page = 12", None),
        ("document = 'x' and page = 1", False),
        ("document in ('x')", None),
        ("document like '%'", None),
        ("new = true", True),
        ("new != TRUE", False),
        ("price = 9.5 and price > -1", True),
        ("page < 1.2e1", False),
        ("price < 1e21", True),
        ("\"Part No\" = 'A-1' and \"in\" = 'x'", True),
        ("`Part No` = 'A-1'", True),
    ],
)
def test_a_condition_holds_as_in_sql(text, expected):
    assert parse_condition(text, COLUMNS).holds(PUMP) is expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "nothing is no column; there are id, text"),
        ("pages = 1", "pages is no column"),
        ("page", "a comparison is expected after page"),
        ("page =", "a whole number, not nothing"),
        ("page = '12'", "a whole number, not '12'"),
        ("page = 1.5", "a whole number, not 1.5"),
        ("page = 1e400", "too large"),
        ("page = 9223372036854775808", "too large"),
        ("source = manual.pdf", "'.pdf' can't be read"),
        ("source = 12", "a text in single quotes, not 12"),
        ("new = 1", "true or false, not 1"),
        ("page like 1", "no texts"),
        ("(page = 1", "')' is expected before 'the end'"),
        ("page = 1)", "')' is unexpected"),
        ("page = 1 page = 2", "'page' is unexpected"),
        ("page in ()", "a whole number, not )"),
        ("page in 1", "'(' is expected before '1'"),
        ("page is 1", "'null' is expected"),
        ("source = 'a'; drop table passages", "can't be read"),
        ("source = 'a", "can't be read"),
        ("(" * 9999 + "page = 1", "nested too deeply"),
        ("not " * 9999 + "page = 1", "nested too deeply"),
    ],
)
def test_what_is_no_condition_is_refused(text, problem):
    with pytest.raises(UserError, match="--where") as refused:
        parse_condition(text, COLUMNS)
    assert problem in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("source = 'it''s' and page > 1", "((<source> = 'it''s') AND (<page> > 1))"),
        ("not (page in (1, 2) or new = false)", "(NOT ((<page> IN (1, 2)) OR (<new> = FALSE)))"),
        ("title like '5\\%' or title is null", "((<title> LIKE '5\\\\%') OR (<title> IS NULL))"),
        ("price > 1", "(<price> > 1.0)"),
    ],
)
def test_sql_has_its_own_spelling(text, sql):
    assert parse_condition(text, COLUMNS).sql(lambda name: f"<{name}>") == sql
