"""What the pages of fanin put in when they are built: verdicts, figures, numbers of the theory, names, commands.

In a page:

- a ``study`` block prints the claims of one study with their verdicts, an ``arms`` block the accuracies it measured;
- a ``drawn`` block draws a figure, with its caption inside;
- the ``claim`` role gives one claim's verdict and effect in a sentence, the ``theory`` role one number of the theory;
- a ``public`` block documents the public names of a package, a ``commands`` block all commands with their help.

Nothing measured is typed into a page: it is read from docs/results/studies.json or computed by `fanin.theory`.
"""

from typing import Any

from sphinx.application import Sphinx

from fanin_docs.directives import Arms, Claim, Drawn, StudyTable, TheoryNumber
from fanin_docs.mathml import block, inline
from fanin_docs.reference import Commands, Public, short_signature

__all__ = ["setup"]

_DIRECTIVES = {"study": StudyTable, "arms": Arms, "drawn": Drawn, "public": Public, "commands": Commands}
_ROLES = {"claim": Claim(), "theory": TheoryNumber()}


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of all of them."""
    for name, directive in _DIRECTIVES.items():
        app.add_directive(name, directive)
    for name, role in _ROLES.items():
        app.add_role(name, role)
    app.connect("autodoc-process-signature", short_signature)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
