import json

import pytest

from dalm.eval.quality_gates import Gate, GateError
from dalm.eval.summary import enforce_gates, training_logs


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "run" / "retriever"
    folder.mkdir(parents=True)
    return folder


def test_the_log_of_the_run_that_trained_a_model_is_found(model):
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (model.parent / "metrics.jsonl").write_text(text + '{"step": 3, "lo')
    found = training_logs((str(model), str(model.parent / "nowhere"), "some/model", None))
    assert found == {str(model.parent): lines}


def test_a_damaged_log_is_left_out_of_the_report(model, caplog):
    (model.parent / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    assert training_logs((str(model),)) == {}
    assert "metrics.jsonl, line 2 is damaged" in caplog.text
    assert "the report leaves it out" in caplog.text


def test_a_failed_gate_fails_the_command_if_it_decides():
    enforce_gates([Gate("a", True), Gate("b", False, decides=False)])
    with pytest.raises(GateError, match="1 of 2 gates failed"):
        enforce_gates([Gate("a", True), Gate("b", False)])
