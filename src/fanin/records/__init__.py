"""The plain types that travel between the parts of fanin.

Frozen, hashable where they hold no arrays, and written to JSON and back without loss. Nothing else
crosses a layer except arrays and the user's own model.
"""

from fanin.records.calls import Call, Init, Value
from fanin.records.checks import SEVERITIES, Course, Finding, Outcome, Setup, Severity, Trial, Vitals
from fanin.records.models import OPS, Axis, InitialSignals, ModelInfo, Op, ParamInfo, Signals
from fanin.records.plans import Plan, PlanEntry
from fanin.records.runs import ModelSpec, Program, Run, RunResult, Settings, Task, to_plain

__all__ = [
    "OPS",
    "SEVERITIES",
    "Axis",
    "Call",
    "Course",
    "Finding",
    "Init",
    "InitialSignals",
    "ModelInfo",
    "ModelSpec",
    "Op",
    "Outcome",
    "ParamInfo",
    "Plan",
    "PlanEntry",
    "Program",
    "Run",
    "RunResult",
    "Settings",
    "Setup",
    "Severity",
    "Signals",
    "Task",
    "Trial",
    "Value",
    "Vitals",
    "to_plain",
]
