"""Formulas as MathML, which browsers draw themselves: no script is loaded from elsewhere."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.writers.html5 import HTML5Translator

__all__ = ["block", "inline"]


def inline(translator: HTML5Translator, node: nodes.Element) -> None:
    """A formula within a sentence."""
    _write(translator, node, as_block=False)


def block(translator: HTML5Translator, node: nodes.Element) -> None:
    """A formula on a line of its own."""
    _write(translator, node, as_block=True)


def _write(translator: HTML5Translator, node: nodes.Element, *, as_block: bool) -> None:
    translator.body.append(tex2mathml(node.astext(), as_block=as_block))
    raise nodes.SkipNode
