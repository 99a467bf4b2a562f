"""The report's pages in a browser, made from the notebooks as they are in the repository."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_study import ROOT

from cifar_helpers import results
from cifar_helpers.runner import report

NAMES = ["index", *sorted(path.stem for path in (ROOT / "notebooks").glob("0*.ipynb"))]
NOTEBOOKS = NAMES[1:]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the pages."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    finished = {"status": "finished", "seconds": 60}
    record = {
        "status": "finished",
        "arguments": {},
        "data": results.published()[0].record["dataset"] | {"notice": "Published records."},
        "quick": False,
        "versions": {"python": "3"},
        "started": "2026-01-02T03:04:05+00:00",
        "notebooks": {
            name: {**finished, "output": f"notebooks/{name}.ipynb"} for name in NOTEBOOKS
        },
    }
    report.write_pages(folder, record, report.read_results(ROOT))
    return folder / "html"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra [browser]")
    with playwright.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, BROWSERS)), driver.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("there is no Chromium on the search path and none of Playwright's")
        opened = driver.chromium.launch(executable_path=found)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, site):
    """Opens a page by name, 1280 pixels wide unless told otherwise, and notes what it does."""
    pages = []

    def visit(name: str, width: int = 1280, **settings) -> SimpleNamespace:
        page = browser.new_page(viewport={"width": width, "height": 800}, **settings)
        pages.append(page)
        noted = SimpleNamespace(page=page, errors=[], requests=[])
        page.on("pageerror", lambda error: noted.errors.append(str(error)))
        page.on("console", lambda line: noted.errors.append(line.text))
        page.on("request", lambda request: noted.requests.append(request.url))
        page.goto((site / f"{name}.html").as_uri())
        return noted

    yield visit
    for page in pages:
        page.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_loads_without_error_and_asks_for_nothing_else(visit, site, name):
    noted = visit(name)
    assert noted.errors == []
    asked = [url for url in noted.requests if not url.startswith("data:")]
    assert asked == [(site / f"{name}.html").as_uri()]


@pytest.mark.parametrize("name", NAMES)
def test_every_image_is_shown_and_has_an_alt_text(visit, name):
    read = "images => images.map(image => [image.naturalWidth, image.alt])"
    images = visit(name).page.eval_on_selector_all("img", read)
    assert images
    for width, words in images:
        assert width > 0
        # What nbconvert writes where a notebook has none.
        assert words and words != "No description has been provided for this image"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_does_not_scroll_sideways(visit, name, width):
    noted = visit(name, width)
    noted.page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
    assert noted.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", NAMES)
def test_every_link_within_the_site_leads_somewhere(visit, site, name):
    links = visit(name).page.eval_on_selector_all(
        "a", "all => all.map(a => a.getAttribute('href'))"
    )
    assert all(links)
    for link in links:
        file, _, anchor = link.partition("#")
        if re.match("https?:", link):
            continue
        page = site / (file or f"{name}.html")
        assert page.is_file(), link
        assert not anchor or f'id="{anchor}"' in page.read_text(encoding="utf-8"), link


def test_next_leads_from_the_index_through_all_notebooks_and_previous_back(visit):
    page = visit("index").page
    for direction, names in (("next", NOTEBOOKS), ("prev", NOTEBOOKS[-2::-1])):
        for name in names:
            page.locator(f"a[rel={direction}]").first.click()
            assert page.url.endswith(f"/{name}.html")
    page.get_by_text("All notebooks of this run").first.click()
    assert page.url.endswith("/index.html")


def test_code_is_folded_until_the_reader_asks_for_it(visit):
    page = visit(NOTEBOOKS[0]).page
    code = page.get_by_text("import numpy as np").first
    assert not code.is_visible()
    page.locator("summary", has_text="Code").nth(1).click()
    assert code.is_visible()
    page.get_by_role("button", name="Show all code").click()
    assert page.locator("details:not([open])").count() == 0
    page.get_by_role("button", name="Hide all code").click()
    assert not code.is_visible()


def test_the_network_of_a_notebook_is_shown_as_code_at_once(visit):
    page = visit(NOTEBOOKS[0]).page
    assert page.get_by_text("keras.Model(images, x").first.is_visible()


def test_code_unfolds_without_scripts(visit):
    page = visit(NOTEBOOKS[0], java_script_enabled=False).page
    assert not page.get_by_role("button").first.is_visible()
    page.locator("summary").nth(1).click()
    assert page.get_by_text("import numpy as np").first.is_visible()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing_serious(visit, name, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
    page = visit(name, width).page
    page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
    violations = axe().run(page).response["violations"]
    grave = {
        each["id"]: [node["html"][:200] for node in each["nodes"]]
        for each in violations
        if each["impact"] in ("serious", "critical")
    }
    assert not grave, json.dumps(grave, indent=1)
