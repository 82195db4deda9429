"""The page with the pair that `dalm demo` trains, where one is there.

DALM_DEMO is the index and the generator of the line that the demo prints, with a blank between.
"""

import os

import pytest

from dalm.config import Serve
from dalm.serving.server import open_service
from tests.serving.conftest import listening

DEMO = os.environ.get("DALM_DEMO")


@pytest.mark.skipif(DEMO is None, reason="DALM_DEMO names no index and generator of a demo")
def test_it_answers_from_the_right_sheet_of_the_toy_domain(reader):
    index, generator = (DEMO or "").split()
    settings = Serve(generator_name_or_path=generator, max_new_tokens=16, precision="fp32")
    with listening(open_service(index, settings)) as url:
        reader.open(url)
        reader.ask("Which oil does the pump at Tavumbra need?")
        assert reader.text(".answer") == "wumird"
        assert "Tavumbra: the skerrow" in reader.text("button.passage")
        reader.click("button.passage")
        assert "It takes suthe wumird" in reader.text(".pinned")
        reader.press("Ranks")
        reader.press("Details")
        reader.until("document.querySelector('.prompt')")
        assert "Which oil does the pump at Tavumbra need?" in reader.text(".prompt")
        assert reader.browser.complaints() == []
