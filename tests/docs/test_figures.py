"""Figures: drawn from what is stored, one picture each, in colours that suit light and dark pages."""

import re
from xml.etree import ElementTree

import pytest
from fanin_docs.figures import FIGURES, svg
from fanin_docs.stored import stored

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_one_picture_in_the_colours_of_the_page(name: str) -> None:
    text = svg(name, 'dots < lines & "bars"')
    root = ElementTree.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert (root.get("role"), root.get("aria-label")) == ("img", 'dots < lines & "bars"')
    assert "currentColor" in text
    assert "#010203" not in text
    assert not re.search(r"(fill|stroke): #(ffffff|000000)", text) or name == "phases"
    assert not re.findall(r'(?:href|src)="(?!#|data:)', text)
    names = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(names) == len({*names})
    assert all(each and each.startswith(name) for each in names)
    used = {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)}
    assert used <= {*names}
    assert len(text) < 400_000


def test_a_figure_is_the_same_each_time() -> None:
    assert svg("dead", "dots") == svg("dead", "dots")


def test_every_seed_is_a_dot() -> None:
    numbers = stored("dead-units").answer.numbers
    seeds = sum(len(found[when]) for found in numbers.values() for when in ("start", "end"))
    assert svg("dead", "dots").count("<use ") >= seeds
