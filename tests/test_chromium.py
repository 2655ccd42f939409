"""The page in a real browser, where there is one: `.ci/chromium FOLDER`, PNEUMOJAX_CHROMIUM=FOLDER."""

import os
from pathlib import Path

import pytest

FOLDER = os.environ.get("PNEUMOJAX_CHROMIUM", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="PNEUMOJAX_CHROMIUM=FOLDER says where .ci/chromium unpacked one")

LARGEST = 3_000_000  # bytes of a page of three trials
NOT_LOADED = "[...document.images].filter(i => !(i.complete && i.naturalWidth)).map(i => i.alt)"
NO_CAPTION = "[...document.querySelectorAll('table')].filter(t => !t.caption).map(t => t.innerText.slice(0, 40))"
NO_ALT = "[...document.images].filter(i => !i.alt.trim()).length"
# Text whose contrast with what is behind it is below 4.5, or 3 where it is large (WCAG 2.1, AA).
PALE = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.offsetParent) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const [a, b] = [luminance(parse(style.color)), luminance(behind(element))];
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < (large ? 3 : 4.5)) found.push(text.slice(0, 40));
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    libraries = ":".join(sorted({str(path.parent) for path in Path(FOLDER, "usr/lib").rglob("*.so*")}))
    with sync_playwright() as tools:
        made = tools.chromium.launch(
            executable_path=f"{FOLDER}/usr/lib/chromium/chromium-headless-shell",
            args=["--no-sandbox"],
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
        )
        yield made
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_of_three_trials(browser, whole, width):
    path, asked = whole / "report.html", []
    assert path.stat().st_size < LARGEST
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.images.length") > 10
    assert page.evaluate("document.querySelectorAll('table').length") > 5
    assert page.evaluate(NOT_LOADED) == page.evaluate(NO_CAPTION) == page.evaluate(PALE) == []
    assert page.evaluate(NO_ALT) == 0
    page.add_style_tag(content="p { color: #bbb } body { min-width: 1500px }")  # these can fail
    assert page.evaluate(PALE) != []
    assert page.evaluate("document.documentElement.scrollWidth") > width
    page.close()
