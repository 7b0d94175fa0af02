"""The boot suite says what was asked for and whether it was met, and measures the product's own loading."""

import json
import subprocess
import sys

import pytest

from benchmarks.boot.suite import BootFigures, Figure, _starting

START = {"total": 3.0, "attestation": 0.1, "manifest": 0.1, "kms": 0.2, "fetch": 1.5, "decrypt": 0.2, "load": 0.3}


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("a", "s", 1.0, 0.9, at_most=1.0), "met"),
        (Figure("a", "s", 1.1, 0.9, at_most=1.0), "NOT met"),
        (Figure("a", "MB/s", 300, 400, at_least=300), "met"),
        (Figure("a", "MB/s", 299, 400, at_least=300), "NOT met"),
        (Figure("a", "s", 9.0, 9.0), ""),
    ],
)
def test_the_median_is_held_against_what_was_asked_for(figure: Figure, verdict: str) -> None:
    assert figure.verdict == verdict
    assert (verdict in BootFigures({"title": [figure]}, 1).markdown()) is True


def test_the_emulators_time_is_what_they_take_beyond_a_host_that_serves_from_memory() -> None:
    figures = {figure.name: figure.median for figure in _starting([START], 0.5)}
    emulated = figures["of it in the emulators of NSM, KMS and S3"]
    assert emulated == pytest.approx(0.1 + 0.2 + (1.5 - 0.5))
    assert figures["without their time"] == pytest.approx(3.0 - emulated)


@pytest.mark.slow
def test_a_load_is_the_products_own_and_leaves_the_weights_in_memory() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.boot.loading"], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    assert figures["bytes"] > 90_000_000
    assert figures["peak"] >= figures["steady"] > figures["bytes"]
    assert all(figures[name] > 0 for name in ("fetch", "hash", "build", "transport", "decryption"))
