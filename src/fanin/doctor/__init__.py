"""Says why a network does not train: facts about its start, causes before symptoms, and cures that were tried."""

from fanin.doctor.checkup import Checkup, lines
from fanin.doctor.examine import examined
from fanin.doctor.facts import Patient, array_of, ends_in_weights
from fanin.doctor.table import CHECKS, Check

__all__ = ["CHECKS", "Check", "Checkup", "Patient", "array_of", "ends_in_weights", "examined", "lines"]
