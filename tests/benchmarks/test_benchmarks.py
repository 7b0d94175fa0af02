"""A figure is never printed without the commit and the machine, and is compared with its floor within a round."""

import io
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from benchmarks import __main__ as command
from benchmarks import provenance as origin
from benchmarks.provenance import Provenance, ProvenanceUnknown, provenance
from benchmarks.report import FloorFigures, as_json, markdown
from benchmarks.rounds import Case, Measured, measure
from benchmarks.verification import _signatures
from ephemeral_devstack.nsm import SimulatedNsm

CPU = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: A Processor\n"
FIGURES = FloorFigures({"t": [Measured("ours", "floor", 30.0, 20.0, 1.25, 1.2, 1.2)]}, 5)
SOURCE = Provenance(
    "c0ffee", (), "2026-01-01 00:00 UTC", "A Processor", 2, "Linux 6", "CPython 3.11", {}, "OpenSSL 4", 0.5
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for arguments in (("init", "--quiet"), (*author, "commit", "--quiet", "--allow-empty", "--message", "m")):
        subprocess.run(["git", "-C", str(root), *arguments], check=True)
    return root


@pytest.fixture
def cpu(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(CPU)
    return path


def test_outside_of_a_checkout_there_are_no_figures(tmp_path: Path, cpu: Path) -> None:
    with pytest.raises(ProvenanceUnknown, match="commit"):
        provenance(root=tmp_path, cpu_information=cpu)


def test_on_a_machine_that_does_not_name_its_processor_there_are_no_figures(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin.platform, "processor", lambda: "")
    with pytest.raises(ProvenanceUnknown, match="processor"):
        provenance(root=checkout, cpu_information=tmp_path / "absent")


@pytest.mark.parametrize("suite", sorted(command._SUITES))
def test_the_command_refuses_without_measuring_anything(
    suite: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(_packages: object) -> Provenance:
        raise ProvenanceUnknown("no commit")

    monkeypatch.setattr(command, "provenance", unknown)
    monkeypatch.setattr(command, "_SUITES", {suite: command.Suite(lambda _: pytest.fail("measured"), 1, ())})
    assert command.main([suite]) == 2
    printed = capsys.readouterr()
    assert (printed.out, "no commit" in printed.err) == ("", True)


def test_a_clean_tree_is_its_commit_and_a_dirty_one_is_named_as_such(checkout: Path, cpu: Path) -> None:
    clean = provenance(("click", "no-such-package"), checkout, cpu)
    assert list(clean.libraries) == ["click"]
    assert clean.cpu == "A Processor (family 25, model 1)"
    assert (clean.tree, len(clean.commit)) == (clean.commit, 40)
    (checkout / "changed.py").write_text("")
    dirty = provenance(("click", "no-such-package"), checkout, cpu)
    assert dirty.changed == ("changed.py",)
    assert "DIRTY" in markdown(FIGURES, dirty)
    assert json.loads(as_json(FIGURES, dirty))["source"]["changed"] == ["changed.py"]


def test_ratios_are_taken_within_a_round_and_their_median_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    # Round by round the floor takes 10, 100 and 10, the case twice that: a mean of either would say otherwise.
    durations = {"floor": [10, 100, 10], "case": [20, 200, 21]}
    clock, running = [0], [""]

    def run(name: str) -> None:
        clock[0] += durations[name].pop(0) if started else 0

    monkeypatch.setattr("benchmarks.rounds.thread_time_ns", lambda: clock[0])
    started: list[int] = []
    cases = [
        Case("floor", lambda: run("floor"), "floor"),
        Case("case", lambda: run("case"), "floor", lambda: running.append("before"), at_most=2.0),
    ]
    monkeypatch.setattr("benchmarks.rounds.gc.disable", lambda: started.append(1))
    floor, case = measure(cases, 3, io.StringIO())
    assert (floor.ratio, case.ratio, case.least_ratio, case.verdict) == (1.0, 2.0, 2.0, "met")
    assert running.count("before") == 4  # the first is not timed


def test_a_target_that_is_missed_says_so() -> None:
    assert FIGURES.tables["t"][0].verdict == "NOT met"
    assert "NOT met" in markdown(FIGURES, SOURCE)


def test_figures_say_how_busy_the_machine_was() -> None:
    quiet, busy = (markdown(FIGURES, replace(SOURCE, load=load)) for load in (0.5, 1.5))
    assert "load average 0.5 before it" in quiet
    assert ("Caution" in quiet, "Caution" in busy) == (False, True)


def test_the_floor_is_the_five_signatures_of_the_document() -> None:
    raw = SimulatedNsm({0: b"\x01" * 48}).attest()
    signatures = _signatures(raw)
    assert len(signatures) == 5
    for signed in signatures:
        signed.verify()
    for one, other in zip(signatures, (*signatures[1:], signatures[0]), strict=True):
        with pytest.raises(InvalidSignature):
            type(one)(one.key, one.signature, other.message).verify()


def test_writing_replaces_the_figures_of_one_suite_and_nothing_else() -> None:
    one, other = (command._START.format(suite) for suite in ("one", "other"))
    document = f"before\n{one}\nold\n{command._END}\nbetween\n{other}\nold\n{command._END}\nafter\n"
    once = command.replaced(document, "other", "new\n")
    assert once == (f"before\n{one}\nold\n{command._END}\nbetween\n{other}\n\nnew\n\n{command._END}\nafter\n")
    assert command.replaced(once, "other", "new\n") == once
    with pytest.raises(ValueError, match="marks of third"):
        command.replaced(document, "third", "new\n")


@pytest.mark.parametrize(
    ("suite", "title"),
    [("serving", "Targets"), ("verification", "Attestation document, cryptography for P-384")],
)
def test_the_published_figures_have_their_marks_commit_and_machine(suite: str, title: str) -> None:
    published = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    figures = published.partition(command._START.format(suite))[2].partition(command._END)[0]
    assert all(f"- {name}: " in figures for name in ("Commit", "Machine", "Python", "Libraries"))
    assert f"### {title}\n" in figures
