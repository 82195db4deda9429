from dalm.llm.language_model import key_of, object_of, response_format


def test_a_key_is_of_all_parts_whatever_the_order_of_their_names():
    same = key_of("a", {"x": 1, "y": [2]})
    assert same == key_of("a", {"y": [2], "x": 1})
    others = [key_of("b", {"x": 1, "y": [2]}), key_of("a", {"x": 1, "y": [3]}), key_of("a", {})]
    assert len({same, *others}) == 4
    assert len(same) == 32


def test_a_schema_allows_its_fields_and_no_others():
    text = {"type": "string"}
    made = response_format("names", object_of({"first": text, "last": text}))
    assert made["json_schema"]["name"] == "names"
    assert made["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"first": text, "last": text},
        "required": ["first", "last"],
        "additionalProperties": False,
    }
