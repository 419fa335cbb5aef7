"""The blocks and roles that put results into a page."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective, SphinxRole

from fanin.studies import STUDIES, Judged
from fanin_docs.figures import FIGURES, svg
from fanin_docs.numbers import computed
from fanin_docs.stored import RESULTS, Stored, claim_of, number, stored

__all__ = ["Arms", "Claim", "Drawn", "StudyTable", "TheoryNumber", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table.

    Example:
        >>> table(("n", "law"), [("8", "he_normal")]).splitlines()
        ['| n | law |', '|---|---|', '| 8 | he_normal |']
    """
    first, *others = (f"| {' | '.join(line)} |" for line in (head, *rows))
    return "\n".join([first, "|---" * len(head) + "|", *others])


def link(record: Stored) -> str:
    """Which run of which study, leading to its description."""
    return f"[{record.answer.study}](/studies.md#{record.answer.study}), {record.answer.size}"


def provenance(record: Stored) -> str:
    """The study, its size, its seeds and when and where it was run, as a line of its own."""
    made, seeds = record.made, record.answer.claims[0].seeds
    return f"Study {link(record)}; {seeds} seeds; {made['date'][:10]}, {made['machine']}, fanin {made['fanin']}."


class _Measured(SphinxDirective, ABC):
    """A block whose argument is the name of a study; `told` says what it prints, in Markdown."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The block as nodes of the page.

        Raises:
            docutils.parsers.rst.DirectiveError: If there is no such study or result.
        """
        self.env.note_dependency(str(RESULTS))
        try:
            return self.parse_text_to_nodes(self.told(stored(self.arguments[0])))
        except LookupError as problem:
            raise self.error(str(problem)) from None

    @abstractmethod
    def told(self, record: Stored) -> str:
        """What is printed."""


class StudyTable(_Measured):
    """The claims of a study with their verdicts; with ``:main:`` those alone that its own verdict rests on."""

    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {"main": directives.flag}

    def told(self, record: Stored) -> str:
        """The study's claim and verdict, and a row for each part."""
        answer = record.answer
        shown = [claim for claim in answer.claims if claim.main or "main" not in self.options]
        rows = [(claim.claim, claim.verdict, *_numbers(claim)) for claim in shown]
        asked = f"**{answer.verdict.capitalize()}**: {STUDIES[answer.study].claim}"
        head = ("claim", "verdict", "effect", "95 % interval", "n")
        return f"{asked}\n\n{table(head, rows)}\n\n{provenance(record)}"


def _numbers(claim: Judged) -> tuple[str, str, str]:
    """Effect, interval and number of seeds."""
    return (
        f"{number(claim.effect)} {claim.unit}",
        _solid(f"{number(claim.low)} to {number(claim.high)}"),
        str(claim.seeds),
    )


class Arms(_Measured):
    """What each network of a study that is made of comparisons came to, on test data."""

    def told(self, record: Stored) -> str:
        """A row for each trial and arm, and what was trained."""
        trials = {name: each for name, each in record.answer.numbers.items() if "arms" in each}  # and not curves
        head = ("trial", "initializer", "test accuracy %", "lowest to highest", "learning rate", "failed")
        trained = "; ".join(
            f"{name}: {each['model']} on {each['task']}, {each['training']}" for name, each in trials.items()
        )
        return f"{table(head, list(_arms(trials)))}\n\nTrained: {trained}. {provenance(record)}"


def _arms(trials: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, trial in trials.items():
        for label, arm in trial["arms"].items():
            values = 100 * np.array(arm["test_accuracy"])
            failed = [f"{arm[how]} {how}" for how in ("stuck", "diverged") if arm[how]]
            yield (
                name, f"`{label}`", f"{values.mean():.2f}", _solid(f"{values.min():.2f} to {values.max():.2f}"),
                f"{arm['learning_rate']:g}", _solid(", ".join(failed) or "none"),
            )  # fmt: skip


def _solid(text: str) -> str:
    """The text with spaces at which no line breaks."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


class Drawn(SphinxDirective):
    """A figure of `fanin_docs.figures.FIGURES`, with its caption as content and ``:alt:`` for who cannot see it."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """The picture within the page, so that its lines and letters take the page's colour.

        Raises:
            docutils.parsers.rst.DirectiveError: If there is no such figure, no result, or no ``:alt:``.
        """
        self.env.note_dependency(str(RESULTS))
        name = self.arguments[0]
        if name not in FIGURES or "alt" not in self.options:
            raise self.error(f"a figure needs :alt: and one of the names {', '.join(FIGURES)}")
        try:
            picture = svg(name, self.options["alt"])
            records = [stored(study) for study in FIGURES[name].studies]
        except LookupError as problem:
            raise self.error(str(problem)) from None
        origin = f"Measured: {'; '.join(map(link, records))}." if records else FIGURES[name].origin
        caption = self.parse_inline(" ".join([*self.content, origin]))[0]
        figure = nodes.figure(classes=["drawn"])
        figure += [nodes.raw("", picture, format="html"), nodes.caption("", "", *caption)]
        return [figure]


class Claim(SphinxRole):
    """``study: claim`` becomes the claim with its verdict, effect, interval and number of seeds, and a link."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The nodes of the sentence's part."""
        self.env.note_dependency(str(RESULTS))
        study, _, words = self.text.partition(": ")
        try:
            record = stored(study)
            claim = claim_of(record, words)
        except LookupError as problem:
            return [], [self.inliner.reporter.error(str(problem), line=self.lineno)]
        effect, interval, seeds = _numbers(claim)
        numbers = f"{effect} (95 % interval {interval}, n = {seeds}; {link(record)})"
        told = f"*{claim.claim}* **{claim.verdict.capitalize()}**: {numbers}"
        parsed: tuple[list[nodes.Node], list[nodes.system_message]] = self.inliner.parse(
            told, self.lineno, self.inliner, self.inliner.parent
        )
        return parsed


class TheoryNumber(SphinxRole):
    """A few words, such as ``gain tanh``, become a number; see `fanin_docs.numbers`."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The number as text."""
        try:
            return [nodes.inline("", computed(self.text), classes=["theory"])], []
        except (LookupError, TypeError, ValueError) as problem:
            return [], [self.inliner.reporter.error(f"{self.text}: {problem}", line=self.lineno)]
