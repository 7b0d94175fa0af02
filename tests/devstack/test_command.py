"""``python -m ephemeral_devstack`` as the README shows it: the commands it prints work, and Ctrl-C ends everything."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest


@pytest.mark.slow
def test_printed_commands_work_and_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ephemeral_devstack", "--state", str(tmp_path), "--listen", "tcp://127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stack:
        try:
            printed = until(stack, "Ctrl-C stops everything")
            zones = psutil.Process(stack.pid).children(recursive=True)
            assert "SIMULATED" in printed
            commands = [line.strip() for line in printed.splitlines() if re.match(r"  /", line)]
            assert [Path(shlex.split(line)[0]).name for line in commands] == [
                "ephemeralml",
                "ephemeralml",
                "buf",
                "buf",
            ]
            answers = [run(line) for line in commands]
        finally:
            stack.send_signal(signal.SIGINT)
        assert stack.wait(60) == 0
    embed, attest, methods, hello = answers
    assert "receipt verified" in embed
    assert "SIMULATED development stack" in attest
    assert "FAIL" not in attest
    assert "ephemeralml.v1.InferenceService/Infer" in methods
    assert "attestationDocument" in hello
    assert not [zone for zone in zones if zone.is_running()]


def until(process: "subprocess.Popen[str]", mark: str) -> str:
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if mark in line:
            return printed
    raise AssertionError(f"ended early: {printed}")


def run(command: str) -> str:
    ended = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
