"""What is said of the server itself."""


def test_a_server_says_that_it_runs_and_what_it_serves(http):
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/ready").json() == {"status": "ready", "generation": 1}


def test_errors_have_the_shape_of_the_api(http):
    missing = http.get("/nowhere")
    assert missing.status_code == 404
    assert missing.json()["error"]["type"] == "invalid_request_error"
    wrong = http.post("/health")
    assert (wrong.status_code, "GET" in wrong.headers["allow"]) == (405, True)
    assert set(wrong.json()["error"]) == {"message", "type", "param", "code"}
