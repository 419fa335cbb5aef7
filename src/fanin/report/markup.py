"""HTML from plain values: whatever is text is escaped, so that no name can become markup."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

__all__ = ["Html", "bullets", "facts", "joined", "table", "tag"]


class Html(str):
    """Text that is markup already. Only the functions of this module make it."""

    __slots__ = ()


def tag(name: str, *children: str, **attributes: str | bool) -> Html:
    """An element. Children that are not `Html` are escaped, and so are all values of attributes.

    Args:
        name: Such as ``p``.
        children: Texts and elements.
        attributes: ``class_`` stands for ``class`` and ``aria_label`` for ``aria-label``; True is an attribute
            without a value, False is none.

    Example:
        >>> tag("p", "1 < 2, ", tag("b", "always"), class_="note")
        '<p class="note">1 &lt; 2, <b>always</b></p>'
    """
    spelled = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not False}
    opened = "".join(f" {key}" if value is True else f' {key}="{escape(str(value))}"' for key, value in spelled.items())
    return Html(f"<{name}{opened}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Html:
    """Texts and elements one after the other, the texts escaped."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))


def bullets(lines: Iterable[str]) -> Html:
    """Sentences as a list; nothing for none."""
    items = [tag("li", line) for line in lines]
    return tag("ul", *items) if items else Html()


def facts(known: Mapping[str, str]) -> Html:
    """What is known, a term and its value each; empty values are left out."""
    return tag("dl", *(joined((tag("dt", key), tag("dd", value))) for key, value in known.items() if value))


def table(label: str, head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> Html:
    """A table that scrolls by itself where the window is narrow; the first cell of each row names the row.

    Args:
        label: What it holds, for those who cannot see it.
        head: Names of the columns.
        rows: As many texts each.
        right: Names of the columns that are set to the right, as numbers are.
    """
    numeric = [name in set(right) for name in head]

    def cell(index: int, text: str) -> Html:
        """A cell of the body."""
        side = "n" if numeric[index] else False
        return tag("td", text, class_=side) if index else tag("th", text, scope="row", class_=side)

    heads = [tag("th", name, scope="col", class_="n" if n else False) for name, n in zip(head, numeric, strict=True)]
    body = [tag("tr", *(cell(index, text) for index, text in enumerate(row))) for row in rows]
    inner = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body))
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=label)
