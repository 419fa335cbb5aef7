"""fanin: start every neural network well, and prove it.

``fanin.sample`` draws initial weights; ``fanin.plan`` and ``fanin.init`` decide and write those of a whole model,
``fanin.audit`` says which laws its weights follow; ``fanin.compare`` trains one network under many initializers and
says which is better, by how much and how surely. Importing fanin loads no framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fanin.errors import FaninError

if TYPE_CHECKING:
    from fanin.api import audit, check, compare, describe, init, plan, sample
    from fanin.experiments.tasks import make_task
    from fanin.initializers.specs import canonical
    from fanin.records import Init, Plan
    from fanin.report.updates import plot_updates

__all__ = [
    "FaninError",
    "Init",
    "Plan",
    "__version__",
    "audit",
    "canonical",
    "check",
    "compare",
    "describe",
    "init",
    "make_task",
    "plan",
    "plot_updates",
    "sample",
]

__version__ = "0.5.0"

_HOME = {
    "Init": "fanin.records",
    "Plan": "fanin.records",
    "audit": "fanin.api",
    "canonical": "fanin.initializers.specs",
    "check": "fanin.api",
    "compare": "fanin.api",
    "describe": "fanin.api",
    "init": "fanin.api",
    "make_task": "fanin.experiments.tasks",
    "plan": "fanin.api",
    "plot_updates": "fanin.report.updates",
    "sample": "fanin.api",
}
"""Where each public name lives; loaded when it is first asked for, so that importing fanin costs little."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fanin' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
