"""An answer that is cut off is said to be, in text and as JSON."""

import json

from dalm.cli import app, run


def test_an_answer_that_is_cut_off_is_said(people, tiny_models, tmp_path, capsys):
    index = str(tmp_path / "index")
    encoder = ["--retriever-name-or-path", str(tiny_models.encoder)]
    assert run(app, ["index", str(people), "--index-dir", index, *encoder]) == 0
    line = ["ask", index, "Where does Ada live?", "--max-new-tokens"]
    generator = ["--generator-name-or-path", str(tiny_models.generator)]
    capsys.readouterr()
    assert run(app, [*line, "2", *generator]) == 0
    assert "the answer is cut off at 2 tokens (--max-new-tokens)\n" in capsys.readouterr().out
    assert run(app, [*line, "2", *generator, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finish_reason"] == "length"
