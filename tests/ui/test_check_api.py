"""Checks by programs, over HTTP."""

from __future__ import annotations

import time
import urllib.request

import pytest
from gradio_client import Client, handle_file

from mia_hub.checking.verdicts import CANNOT_TELL, EVIDENCE


def test_the_api_gives_the_same_answer(app, checker, images):

    client = Client(app.url, verbose=False)
    described = client.view_api(return_format="dict")["named_endpoints"]["/check"]
    assert "in the model's training set?" in described["description"] and "JSON" in described["description"]
    inputs = {"several": None, "model": "demo", "nonmembers": None, "api_name": "/check"}
    expected = checker.check([images.nonmembers[3]])[0]
    *_, results = client.predict(handle_file(images.nonmembers[3]), **inputs)
    assert results["images"][0]["p_value"] == pytest.approx(expected.p_value, rel=1e-9)
    assert results["images"][0]["verdict"] == expected.verdict and results["reference"]["n_nonmembers"] > 20
    several = [handle_file(path) for path in images.nonmembers[:6]]
    *_, results = client.predict(None, **inputs | {"several": several, "question": "As a set"})
    assert results["set"]["p_value"] == pytest.approx(checker.check_set(images.nonmembers[:6]).p_value, rel=1e-9)
    answer, *_, nothing = client.predict(handle_file(images.cut), **inputs)
    assert "damaged or cut short" in str(answer) and nothing is None


@pytest.mark.slow
def test_a_page_whose_connection_broke_off_is_still_answered(app, images):

    client = Client(app.url, verbose=False)
    with urllib.request.urlopen(f"{app.url}gradio_api/heartbeat/{client.session_hash}", timeout=30) as heartbeat:
        assert heartbeat.read(11) == b"data: ALIVE"
    time.sleep(2)  # for the server to see that it ended
    *_, results = client.predict(handle_file(images.nonmembers[3]), None, "demo", None, api_name="/check")
    assert results["images"][0]["verdict"] in (EVIDENCE, CANNOT_TELL)
