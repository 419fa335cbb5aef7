from html.parser import HTMLParser

import pytest

from fanin.report.markup import Html, bullets, facts, joined, table, tag

NASTY = "</td><script>alert('1')</script>\" onload=\"x & y"


class Reader(HTMLParser):
    """Tags, attributes and texts as a browser sees them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts = [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.parametrize(
    ("made", "tags"),
    [
        (tag("p", NASTY), ["p"]),
        (joined((NASTY, tag("b"))), ["b"]),
        (bullets([NASTY]), ["ul", "li"]),
        (facts({NASTY: NASTY}), ["dl", "dt", "dd"]),
        (table(NASTY, [NASTY], [[NASTY]], [NASTY]), ["div", "table", "thead", "tr", "th", "tbody", "tr", "th"]),
    ],
)
def test_texts_are_never_markup(made, tags):
    read = Reader(made)
    assert read.tags == tags
    assert NASTY in "".join(read.texts)


def test_attributes_are_escaped_and_spelled():
    read = Reader(tag("div", class_=NASTY, aria_label="a", hidden=True, id=False))
    assert read.attributes == {"class": NASTY, "aria-label": "a", "hidden": None}


def test_markup_in_markup_stays():
    assert tag("p", tag("b", "a<b")) == "<p><b>a&lt;b</b></p>"
    assert isinstance(joined([tag("p")]), Html)


def test_a_text_that_was_cut_from_markup_is_a_text_again():
    assert tag("p", tag("b", "x")[:3]) == "<p>&lt;b&gt;</p>"


def test_nothing_for_no_lines_and_empty_facts():
    assert bullets([]) == ""
    assert facts({"a": "", "b": "c"}) == "<dl><dt>b</dt><dd>c</dd></dl>"


def test_a_table_can_be_reached_and_its_cells_are_named():
    made = table("Numbers", ("who", "how many"), [("a", "1"), ("b", "2")], ("how many",))
    assert 'tabindex="0"' in made
    assert 'aria-label="Numbers"' in made
    assert made.count('scope="col"') == made.count('scope="row"') == 2
    assert '<td class="n">1</td>' in made
