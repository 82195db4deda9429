"""The page in a real browser, of real servers; the generator's server says what a test wants."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.eval.report.conftest import Browser
from tests.llm.stub_server import Stub
from tests.llm.stub_server import serving as stub_serving
from tests.serving.conftest import Serving, build_index

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
ANSWER = f"Ada lives in Ulm [1], as {HOSTILE} says [1, 9] and **no one** else."
ROWS = [
    {
        "Passage": f"Ada lives in Ulm. {HOSTILE}",
        "Title": f"People {HOSTILE}",
        "source": f"{HOSTILE}.pdf",
        "page": 12,
        "headings": ["Chapter 1", HOSTILE],
        "document": "people",
    },
    {
        "Passage": "Ada keeps one owl, in Ulm.",
        "Title": "Owls",
        "source": "owls.pdf",
        "page": 1,
        "document": "owls",
    },
    {
        "Passage": "Bela keeps two cats.",
        "Title": "Pets",
        "source": "pets.txt",
        "document": "pets",
        "start": 0,
        "end": 20,
    },
    {
        "Passage": "Cyrus keeps a dog.",
        "Title": "Pets",
        "source": "pets.txt",
        "document": "pets",
        "start": 21,
        "end": 39,
    },
    {
        "Passage": "Dora keeps a red fox.",
        "Title": "Pets",
        "source": "pets.txt",
        "document": "pets",
        "start": 40,
        "end": 61,
    },
]


@pytest.fixture(scope="session")
def page_index(tiny_models: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of `ROWS`; what changes it takes a copy."""
    folder = tmp_path_factory.mktemp("page")
    table = folder / "rows.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return build_index(folder / "index", table, tiny_models.encoder)


@pytest.fixture(scope="session")
def _stub() -> Iterator[Stub]:
    with stub_serving() as stub:
        yield stub


@pytest.fixture
def generator(_stub: Stub) -> Stub:
    """The generator's server, which answers `ANSWER` at once unless a test wants otherwise."""
    _stub.plan.clear()
    _stub.delay = 0.0
    _stub.write = lambda _: ANSWER
    return _stub


@pytest.fixture(scope="session")
def cited(serving: Serving, _stub: Stub) -> Callable[..., Any]:
    """Serve an index with answers that cite; further options may be given."""

    def served(index: Path, **options: Any) -> Any:
        generator = {"generator_url": _stub.url, "generator_model": "stub", "citations": True}
        return serving(index, **(generator | {"reader_passages": 3} | options))

    return served


@pytest.fixture(scope="session")
def address(cited: Callable[..., Any], page_index: Path) -> Iterator[str]:
    """The address of a server whose documents can't be changed."""
    with cited(page_index) as url:
        yield url


class Page:
    """What a reader does with the page, and sees on it."""

    def __init__(self, browser: Browser) -> None:
        self.browser, self.driver, self.run = browser, browser.driver, browser.run

    def open(self, address: str, path: str = "/", *, ready: bool = True) -> None:
        """Open it as a new reader would."""
        self.browser.size(1280, 800)
        storage = {"origin": address, "storageTypes": "local_storage"}
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", storage)
        self.go(address + path, ready=ready)

    def go(self, url: str, *, ready: bool = True) -> None:
        self.driver.get(url)
        if ready:
            self.until("document.body.classList.contains('is-ready')")

    def until(self, script: str, *arguments: object) -> Any:
        """Wait until a script gives something true; return it."""
        return WebDriverWait(self.driver, 20, 0.03).until(
            lambda _: self.run(f"return {script}", *arguments), script
        )

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def press(self, label: str, within: str = "body") -> None:
        """Press the button with this text or name."""
        self.run(
            "const [label, within] = arguments;"
            "[...document.querySelectorAll(`${within} button`)].find(button =>"
            "button.textContent === label || button.ariaLabel === label).click()",
            *(label, within),
        )

    def type(self, *keys: str) -> None:
        """Type where the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def ask(self, question: str, turns: int = 1) -> None:
        """Ask, and wait for the end of the answer."""
        self.find("#question").send_keys(question + Keys.ENTER)
        self.finished(turns)

    def finished(self, turns: int = 1) -> None:
        self.until(
            f"document.querySelectorAll('.turn').length === {turns}"
            " && document.getElementById('stop').hidden"
        )

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        found: list[str] = self.run(script, selector)  # type: ignore[assignment]
        return found

    def shown(self, selector: str) -> bool:
        script = "return document.querySelector(arguments[0])?.checkVisibility() ?? false"
        return bool(self.run(script, selector))

    def focused(self, selector: str) -> bool:
        return bool(self.run("return document.activeElement.matches(arguments[0])", selector))


@pytest.fixture
def reader(browser: Browser) -> Page:
    """A browser in which no page is open yet."""
    return Page(browser)


@pytest.fixture
def page(reader: Page, address: str, generator: Stub) -> Page:
    """The page as a new reader finds it."""
    reader.open(address)
    return reader
