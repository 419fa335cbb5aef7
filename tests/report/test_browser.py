"""The pages in a real browser: what is drawn, read, printed and reached, and that nothing is asked for."""

import dataclasses
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fanin.doctor import Checkup
from fanin.records import ModelInfo, Op, ParamInfo, Setup, Trial, Vitals
from fanin.report import checkup, study
from fanin.report.html import html
from fanin.report.panels import panels
from fanin.studies import Contrast, Evidence, Study

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed")

RATES = (0.01, 0.1, 1.0)
NAMES = ("zeros", "random_normal(stddev=0.01)", "glorot_uniform", "he_normal")
PAGES = ("compare", "check", "study")
NASTY = "<script>alert(1)</script>'\""


def quality(name, seed, rate):
    if name == "zeros":
        return 0.2
    return None if (name, rate) == ("he_normal", 1.0) else 0.6 + 0.01 * (seed % 8) + 0.1 * (rate == 0.1)


@pytest.fixture(scope="module")
def results(fabricate):
    made = fabricate(quality, init=NAMES, lr=RATES)
    return dataclasses.replace(made, notes=(NASTY,))


def a_checkup():
    """What a check of a network of two layers may find."""
    ops = (
        Op("input", (), (8, 3)),
        Op("weight", (0,), (8, 4), (NASTY,), "hidden"),
        Op("activation", (1,), (8, 4), (), "hidden", "relu"),
    )
    vitals = Vitals(
        tuple("abc"), (1.0, 0.5, 0.25), (0.001, 0.01, 0.1), cosine=(0.1, 0.2, 0.6), rank=(2.0, 1.5, 1.0),
        highest=(np.ones(3), np.ones(4), np.array([0.0, 1.0, 1.0, 1.0])),
    )  # fmt: skip
    weight = ParamInfo(NASTY, (3, 4), "float32", ("in", "out"), "dense")
    trial = Trial((1.25, 1.0, 0.5), updates={NASTY: (-3.0, -math.inf)})
    return Checkup((), ModelInfo("keras", (weight,), ops, (2,)), vitals, Setup(), trial, (NASTY,))


def a_study():
    """A study of two claims with the curves of two networks."""
    side = {"median": [0.5, 0.75], "low": [0.4, 0.7], "high": [0.6, 0.8]}
    curve = {"epochs": [1, 2], "train_accuracy": side, "val_accuracy": side, "train_loss": side, "val_loss": side}
    gains = np.linspace(2, 3, 8)
    long = "A claim that takes many words to say, so that it does not fit into one line of a narrow window."
    contrasts = tuple(Contrast(claim, NASTY, "more", gains, 1.0, "points") for claim in (long, NASTY))
    numbers = {"curves": {"he_normal + relu": curve, NASTY: curve}}
    return Study(
        "own", "Is it?", "It is.", ("me",), "Looked.", "More.", "Less.", lambda _: Evidence(contrasts, numbers)
    )


@pytest.fixture(scope="module")
def urls(results, tmp_path_factory):
    own = a_study()
    texts = {
        "compare": html(results, "fanin compare"),
        "check": checkup.page(a_checkup()),
        "study": study.page(own, own()),
    }
    folder: Path = tmp_path_factory.mktemp("pages")
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: (folder / f"{name}.html").as_uri() for name in texts}


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, urls):
    """Open a page of the three in a window of its own; what goes wrong on it and what it asks for is kept."""
    contexts = []

    def opened(name, width=1280, **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.problems, page.requests = [], []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto(urls[name])
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_is_drawn_and_nothing_goes_wrong(visit, urls, name):
    page = visit(name)
    marks = page.eval_on_selector_all(
        "figure .chart",
        "all => all.map(e => e.querySelectorAll('svg [aria-label] :is(path, circle, line, rect)').length)",
    )
    assert len(marks) >= 3
    assert min(marks) >= 2
    assert page.problems == []
    assert page.requests == [urls[name]]


def test_lines_are_as_many_as_the_data_says(visit, results):
    """The curves of each seed and the median of each initializer, in a picture for each initializer."""
    page = visit("compare")
    (chart,) = next(panel for panel in panels(results) if panel.name == "curves").charts
    figure = page.locator("figure[data-panel=curves]")
    assert figure.locator(".apart svg").count() == len(NAMES)
    assert figure.locator(".apart h4").all_text_contents() == list(NAMES)
    assert figure.locator("svg g[aria-label=line] path").count() == len(chart.lines)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_scrolls_sideways(visit, name, width):
    page = visit(name, width)
    for details in page.locator("details").all():
        details.evaluate("e => e.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert all(box["width"] <= width for box in (svg.bounding_box() for svg in page.locator(".chart svg").all()))


def test_charts_follow_the_window(visit):
    page = visit("compare")
    page.set_viewport_size({"width": 360, "height": 900})
    page.wait_for_function("document.querySelector('.chart svg').getBoundingClientRect().width < 360")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function("document.querySelector('.chart svg').getBoundingClientRect().width > 400")
    assert page.problems == []


@pytest.mark.parametrize(("name", "panel", "words"), [
    ("compare", "forest", "95 % interval"), ("compare", "rates", "quartiles:"), ("compare", "arrival", "step"),
    ("compare", "signals", "10 to 90 %:"), ("check", "losses", "training step"), ("study", "curves", "epoch"),
])  # fmt: skip
def test_hovering_shows_what_a_mark_is(visit, name, panel, words):
    page = visit(name, color_scheme="dark")
    chart = page.locator(f"figure[data-panel={panel}] .chart").first
    chart.scroll_into_view_if_needed()
    assert chart.locator("[aria-label=tip]").text_content() == ""
    box = chart.locator("[aria-label=dot] > *").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("e => e.querySelector('[aria-label=tip]').textContent !== ''", arg=chart.element_handle())
    assert words in chart.locator("[aria-label=tip]").text_content()
    ground = chart.locator("[aria-label=tip] path").first.evaluate("e => getComputedStyle(e).fill")
    text = chart.locator("[aria-label=tip] text").first.evaluate("e => getComputedStyle(e).fill")
    assert (luminance(text) + 0.05) / (luminance(ground) + 0.05) >= 4.5


def test_the_keyboard_reaches_figures_details_and_tables(visit):
    page = visit("compare")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.className || document.activeElement.localName"))
        if reached[-1] == "summary":
            page.keyboard.press("Enter")
    assert reached[0] == "skip"
    assert {"chart", "summary", "scroll", "command"} <= set(reached)
    assert page.locator("figure[data-panel=forest] ~ details[open]").count() == 1


def test_arrow_keys_read_a_chart_point_by_point(visit, results):
    page = visit("compare")
    figure = page.locator("figure[data-panel=rates]")
    figure.locator(".chart").focus()
    page.keyboard.press("ArrowRight")
    first = figure.locator("output").text_content()
    assert first.startswith("zeros, chosen\nlearning rate 0.01: ")
    page.keyboard.press("ArrowRight")
    assert figure.locator("output").text_content().startswith("zeros\nlearning rate 0.1: ")
    page.keyboard.press("ArrowLeft")
    assert figure.locator("output").text_content() == first


def luminance(colour):
    """Of WCAG 2.2, for a colour as a browser writes it."""
    shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def colours(page, selector):
    """Text and background of the first element, looking through transparent ones."""
    return page.eval_on_selector(selector, """e => {
      const text = getComputedStyle(e).color;
      while (getComputedStyle(e).backgroundColor === "rgba(0, 0, 0, 0)") e = e.parentElement;
      return [text, getComputedStyle(e).backgroundColor];
    }""")  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(visit, scheme):
    page = visit("compare", color_scheme=scheme)
    for selector in (".verdict", ".lead", ".brand", ".caption", "thead th", "td", "summary", "dt", "code"):
        text, ground = map(luminance, colours(page, selector))
        assert (ground < 0.05) == (scheme == "dark"), selector
        low, high = sorted((text, ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector


def test_without_javascript_all_numbers_are_in_tables(visit, results):
    page = visit("compare", java_script_enabled=False)
    assert page.locator(".chart svg").count() == 0
    assert "Drawings need JavaScript" in page.locator("noscript").inner_text()
    for panel in panels(results):
        section = page.locator("section.plot", has=page.locator(f"figure[data-panel={panel.name}]"))
        section.locator("summary").click()
        assert section.locator("table").first.is_visible()


def test_paper_shows_what_is_folded_and_is_white(visit):
    page = visit("compare", color_scheme="dark")
    table = page.locator("details table").last
    assert not table.is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    assert table.is_visible()
    assert luminance(colours(page, ".verdict")[1]) == 1
    assert luminance(colours(page, ".verdict")[0]) < 0.05


def test_names_are_shown_as_they_are(visit):
    page = visit("study")
    assert page.problems == []
    assert NASTY in page.locator("figure[data-panel=curves] .legend").text_content()
    assert NASTY in page.locator("tbody").first.text_content()
