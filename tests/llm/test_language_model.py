from dalm.llm.language_model import object_schema, response_format


def test_a_schema_allows_its_fields_and_no_others():
    text = {"type": "string"}
    made = response_format("names", object_schema({"first": text, "last": text}))
    assert made["json_schema"]["name"] == "names"
    assert made["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"first": text, "last": text},
        "required": ["first", "last"],
        "additionalProperties": False,
    }
