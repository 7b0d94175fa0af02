"""The refusal pack: inputs that must be refused, and controls that must not, run against this installation's verifiers.

::

    data/          one JSON file per family, and pack.json, which says what belongs to the pack
    pack.py        files -> Case
    verifiers.py   family -> the public function that an application would call
    run.py         Case -> Outcome -> Summary

Each input is sound and validly signed under a public test PKI but for one fault, so it is refused for that fault alone.
"""

from ephemeralml.selftest.pack import FAMILIES, Case, Expected, load
from ephemeralml.selftest.run import Outcome, Summary, run_case

__all__ = ["FAMILIES", "Case", "Expected", "Outcome", "Summary", "load", "run_case"]
