"""The load generator counts what happened, looks at what was answered, and judges figures by what was asked for."""

import asyncio
import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from benchmarks.serving import environments, tables, usage
from benchmarks.serving.environments import EnvironmentFailed, environment, requirements
from benchmarks.serving.generating import Sample, generator
from benchmarks.serving.generator import Load
from benchmarks.serving.http_client import HttpClient, HttpError
from benchmarks.serving.in_process import InProcess
from benchmarks.serving.load import (
    Outcome,
    Refused,
    Summary,
    Vector,
    WrongAnswer,
    closed_loop,
    open_loop,
    percentile,
    summary,
)
from benchmarks.serving.reference import EVERY, TOLERANCE, checker
from benchmarks.serving.servers import SERVERS, Running
from benchmarks.serving.targets import Serving, middle, targets
from benchmarks.serving.texts import MIXED, Text, model_folder, texts
from benchmarks.serving.visit import MIX, POINTS, Point, Visit, order

VECTOR = np.eye(1, 384, dtype=np.float32)[0]


class Answering:
    """A client whose answers are made here; `behaviour` may raise."""

    def __init__(self, behaviour: Callable[[str], object] = lambda _text: None) -> None:
        self.behaviour = behaviour
        self.running = self.most_running = 0

    async def embed(self, text: str) -> Callable[[], Vector]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        self.behaviour(text)
        return lambda: VECTOR


class Endpoint(BaseHTTPRequestHandler):
    """An embeddings route: the text says what comes back."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = {"busy": 429, "broken": 500}.get(request["input"], 200)
        body = json.dumps({"data": [{"embedding": VECTOR.tolist()}]}).encode()
        self.send_response(status)
        if request["input"] == "endless":
            self.end_headers()
            self.close_connection = True
            return
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def accept(_number: int, _answer: Callable[[], Vector]) -> None:
    """Look at nothing."""


@pytest.mark.parametrize("lengths", ["16", "128", MIXED])
def test_texts_have_exactly_the_tokens_they_say(lengths: str) -> None:
    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    made = texts(lengths, 64)
    assert [len(tokenizer.encode(each.text).ids) for each in made] == [each.tokens for each in made]
    assert made == texts(lengths, 64)
    assert len({each.text for each in made}) == 64
    assert (len({each.tokens for each in made}) > 20) is (lengths == MIXED)


def test_a_percentile_is_a_latency_that_happened() -> None:
    hundred = [float(n) for n in range(1, 101)]
    assert [percentile(hundred, p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert [percentile([7.0], p) for p in (1, 50, 99)] == [7, 7, 7]
    assert math.isnan(percentile([], 50))


def test_only_what_ends_within_the_window_has_failed_or_has_a_latency() -> None:
    outcomes = [
        Outcome(8.0, 9.9, 100, ""),
        Outcome(9.0, 10.5, 16, ""),
        Outcome(10.0, 10.6, 16, "refused"),
        Outcome(10.0, 10.7, 16, "HttpError: HTTP 500"),
        Outcome(11.0, 12.0, 100, ""),
    ]
    found = summary(outcomes, 10.0, 2.0, in_parts=True)
    assert (found.p50_ms, found.p99_ms) == (1500, 1500)
    assert (found.refused, found.failures) == (1, 1)


def test_an_answer_counts_by_the_part_of_its_time_within_the_window() -> None:
    begun_before, ended_after = Outcome(8.0, 12.0, 100, ""), Outcome(12.0, 20.0, 16, "")
    around, without = Outcome(9.0, 19.0, 10, ""), Outcome(8.0, 10.0, 100, "")
    found = summary([begun_before, ended_after, around, without], 10.0, 4.0, in_parts=True)
    assert (found.answered, found.tokens) == (pytest.approx(0.5 + 0.25 + 0.4), pytest.approx(50 + 4 + 4))
    assert found.per_second == pytest.approx(1.15 / 4)


@pytest.mark.parametrize("start", [100.0, 100.3, 100.9])
def test_what_a_server_answers_does_not_depend_on_where_the_window_cuts_its_batches(start: float) -> None:
    outcomes = [Outcome(at, at + 1.0, 16, "") for at in range(95, 110) for _ in range(32)]
    assert summary(outcomes, start, 2.5, in_parts=True).per_second == pytest.approx(32)


def test_an_open_loop_whose_queue_grows_is_not_flattered() -> None:
    """Each answer takes a second longer than the last: parts of those that end after the window are no goodput."""
    outcomes = [Outcome(begun, 2 * begun + 1.0, 16, "") for begun in range(20)]
    assert summary(outcomes, 10.0, 4.0, in_parts=False).answered == 2
    assert summary(outcomes, 10.0, 4.0, in_parts=True).answered > 2.5


async def test_a_closed_loop_keeps_one_request_of_each_client_in_flight() -> None:
    clients = [Answering() for _ in range(4)]
    found = await closed_loop(clients, texts("16", 8), accept, warm=0.0, seconds=0.1)
    assert found.answered > 4
    assert {client.most_running for client in clients} == {1}
    assert all(client.running == 0 for client in clients)


async def test_in_a_closed_loop_a_refused_client_waits_as_long_as_it_was_told() -> None:
    def behave(text: str) -> None:
        if text == "busy":
            raise Refused(60.0)

    sent = [Text("right", 16), Text("busy", 16)]
    found = await closed_loop([Answering(behave)] * 2, sent, accept, warm=0.0, seconds=0.2)
    assert found.answered + found.refused <= 3  # and then both clients wait


async def test_an_open_loop_does_not_wait_for_answers() -> None:
    client = Answering()
    found = await open_loop([client], texts("16", 8), accept, rate=5000, warm=0.0, seconds=0.2)
    assert client.most_running > 1
    assert 0 < found.answered <= 2000


async def test_refusals_faults_and_wrong_answers_are_counted_apart() -> None:
    def behave(text: str) -> None:
        if text == "busy":
            raise Refused
        if text == "paused":
            raise Refused(by_client=True)
        if text == "broken":
            raise HttpError("HTTP 500")

    def check(number: int, _answer: Callable[[], Vector]) -> None:
        if number == 2:
            raise WrongAnswer("it is not the reference's vector")

    sent = [Text(text, 16) for text in ("busy", "broken", "wrong", "right", "paused")]
    found = await closed_loop([Answering(behave)], sent, check, warm=0.0, seconds=0.2)
    refusals = {"refused", "refused by the client"}
    assert set(found.faults) == {*refusals, "HttpError: HTTP 500", "WrongAnswer: it is not the reference's vector"}
    assert 0 < found.answered <= found.refused + 1
    assert 0 < found.unsent < found.refused
    assert found.failures == sum(found.faults.values()) - found.refused


def test_of_the_answers_a_sample_is_looked_at_in_every_respect() -> None:
    check = checker(np.stack([VECTOR, VECTOR]))
    other = np.roll(VECTOR, 1)
    check(0, lambda: VECTOR)
    check(EVERY, lambda: VECTOR + np.float32(TOLERANCE / 2) * other)
    check(1, lambda: pytest.fail("parsed"))
    for answer, fault in ((VECTOR[:383], "values"), (2 * VECTOR, "length"), (other, "reference")):
        with pytest.raises(WrongAnswer, match=fault):
            check(EVERY, lambda answer=answer: answer)
    with pytest.raises(WrongAnswer):
        check(0, lambda: np.full(384, np.nan, np.float32))


async def test_the_http_client_reuses_its_connection_and_tells_busy_from_broken(port: int) -> None:
    client = await HttpClient.connect("127.0.0.1", port, "m")
    for _ in range(2):
        assert np.array_equal((await client.embed("text"))(), VECTOR)
    with pytest.raises(Refused):
        await client.embed("busy")
    with pytest.raises(HttpError, match="500"):
        await client.embed("broken")
    with pytest.raises(HttpError, match="Content-Length"):
        await client.embed("endless")
    await client.close()


async def test_the_http_client_connects_again_when_the_server_ended_a_connection_that_idled() -> None:
    ended = asyncio.Event()
    connections = 0

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        *_, length = (await reader.readuntil(b"\r\n\r\n")).split()
        await reader.readexactly(int(length))
        body = json.dumps({"data": [{"embedding": VECTOR.tolist()}]}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
        client = await HttpClient.connect(*server.sockets[0].getsockname(), "m")
        for _ in range(2):
            assert np.array_equal((await client.embed("text"))(), VECTOR)
            await asyncio.wait_for(ended.wait(), 10)
            assert await asyncio.wait_for(client._reader.read(), 10) == b""
            ended.clear()
        await client.close()
    assert connections == 2


def test_the_generators_process_sends_a_load_to_a_server(port: int, tmp_path: Path) -> None:
    reference = tmp_path / "reference.npz"
    np.savez(reference, **{"16": np.stack([VECTOR] * 32)})
    server = Running("http", f"http://127.0.0.1:{port}", (), ())
    with generator(server, reference) as clients:
        for load in (Load("16", 2, 0.0, 0.2), Load("16", 1, 0.0, 0.2, rate=5.0)):
            sample = clients.run(load)
            assert sample.summary.faults == {}
            assert sample.generator_cores > 0
            assert sample.pace > 0
        assert sample.summary.answered <= 5


def test_a_process_uses_time_and_memory_and_so_do_its_children() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'b=bytearray(64<<20); print(1); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "1\n"
        assert usage.peak_bytes([parent.pid]) > 64 << 20
        assert usage.cpu_seconds([parent.pid]) > 0
        parent.communicate("\n")


def test_an_environment_that_pip_cannot_make_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "requirements-absent.txt"
    pins.write_text(f"{tmp_path}/no-such-wheel-1.0-py3-none-any.whl\n")
    monkeypatch.setattr(environments, "requirements", lambda _name: pins)
    with (tmp_path / "progress").open("w") as progress, pytest.raises(EnvironmentFailed, match="absent could not"):
        environment("absent", tmp_path, progress)
    assert not (tmp_path / "absent" / "pins.sha256").exists()


@pytest.mark.parametrize("name", ["infinity", "fastapi", "plot"])
def test_every_package_of_an_environment_is_pinned(name: str) -> None:
    assert all(line.count("==") == 1 for line in requirements(name).read_text().splitlines())


def _sample(per_second: float, p50_ms: float = 10.0, p99_ms: float = 20.0) -> Sample:
    return Sample(Summary(1.0, per_second, 100, p50_ms, p50_ms, p99_ms, {"refused": 3}), 1.0, 0.1, per_second)


def _visit(per_second: float, p50_ms: float = 10.0) -> Visit:
    samples = {point: [_sample(per_second, p50_ms) for _ in range(point.turns)] for point in POINTS}
    return Visit(
        samples,
        700 << 20,
        500 << 20,
        _sample(0.95 * per_second),
        _sample(90),
        _sample(30),
        _sample(30, 10.0, 50.0),
        _sample(70),
    )


def _serving(*sealed: Visit) -> Serving:
    def peers(speeds: Sequence[float]) -> list[Visit]:
        return [_visit(speed, 9.0) for speed in speeds]

    rounds = len(sealed)
    visits = {
        "sealed": sealed,
        "unsealed": peers([100.0] * rounds),
        "infinity": peers([40.0] * rounds),
        "fastapi": peers([20.0] * rounds),
    }
    return Serving(visits, InProcess(200.0, 160.0, 0.8))


def test_figures_on_the_good_side_of_every_bound_meet_every_target() -> None:
    assert [target.name for target in targets(_serving(_visit(90))) if not target.met] == []


def test_figures_on_the_bad_side_meet_no_target_and_the_report_says_so() -> None:
    slow = Visit(
        {point: [_sample(30, 12.0)] * point.turns for point in POINTS},
        700 << 20,
        601 << 20,
        _sample(20),
        _sample(90),
        _sample(30),
        _sample(30, 1, 61),
        _sample(20),
    )
    serving = Serving(_serving(slow).visits, InProcess(200.0, 138.0, 0.69))
    judged = targets(serving)
    assert [target.name for target in judged if target.met] == []
    assert tables.markdown(serving).count("| NOT met |") == len(judged) == 10


def test_a_figure_is_the_median_of_the_rounds() -> None:
    by_infinity = targets(_serving(_visit(90), _visit(10), _visit(80)))[0]
    assert by_infinity.figure == pytest.approx(2.0)


@pytest.mark.parametrize("drifts", [(1.0, 1.0, 1.0), (1.0, 2.0, 4.0), (4.0, 0.5, 1.0)])
def test_neither_drift_between_turns_nor_one_disturbed_turn_moves_a_ratio(drifts: Sequence[float]) -> None:
    speeds = {"sealed": 90.0, "unsealed": 100.0, "infinity": 40.0, "fastapi": 20.0}
    turns = {name: [_sample(speed * drift) for drift in drifts] for name, speed in speeds.items()}
    turns["sealed"][-1] = _sample(1.0)
    visits = {name: [replace(_visit(90), samples=dict.fromkeys(POINTS, turns[name]))] for name in speeds}
    found = [target.figure for target in targets(Serving(visits, InProcess(200.0, 160.0, 0.8)))]
    assert found[:5] == pytest.approx([2.25, 2.25, 2.25, 4.5, 90.0])


def test_the_goodput_is_held_against_the_turn_just_before_it() -> None:
    steady = _visit(90)
    doubled = replace(steady, samples={**steady.samples, MIX: [_sample(45), _sample(90)]}, overload=_sample(81))
    goodput = next(target for target in targets(_serving(doubled)) if "goodput" in target.name)
    assert goodput.figure == pytest.approx(90)


@pytest.mark.parametrize("turn", range(0, 10, 2))
def test_over_two_turns_every_server_has_the_same_mean_place_and_another_begins_then(turn: int) -> None:
    names = ["a", "b", "c", "d"]
    there, back = order(names, turn), order(names, turn + 1)
    assert sorted(there) == names
    assert {there.index(name) + back.index(name) for name in names} == {3}
    assert order(names, turn + 2)[0] != there[0]


def test_the_last_turn_before_the_stress_ends_with_the_server_that_is_put_under_it() -> None:
    assert order(list(SERVERS), sum(point.turns for point in POINTS) - 1)[-1] == "sealed"


def test_a_turn_without_a_figure_leaves_the_median_unknown() -> None:
    assert math.isnan(middle([math.nan, 1.0, 2.0]))
    assert middle([2.0, 1.0, 4.0]) == 2.0


def test_a_peer_that_answered_nothing_is_not_beaten() -> None:
    serving = _serving(_visit(90))
    silent = Serving({**serving.visits, "fastapi": [_visit(0)]}, serving.in_process)
    assert not next(target for target in targets(silent) if "FastAPI" in target.name).met


def test_a_latency_that_could_not_be_measured_is_no_met_target() -> None:
    nothing = _visit(90, math.nan)
    assert not next(target for target in targets(_serving(nothing)) if target.unit == "ms").met


def test_every_server_and_every_failure_stands_in_the_tables() -> None:
    failing = _visit(90)
    failing.samples[POINTS[1]][0].summary.faults["HttpError: HTTP 500"] = 7
    serving = _serving(failing)
    report = tables.markdown(serving)
    assert all(report.count(f"| {name} |") == len(POINTS) + 2 for name in tables.NAMES.values())
    assert "| 7 |" in report
    assert json.loads(json.dumps(tables.plain(serving)))["in_process"] == asdict(serving.in_process)
    assert json.loads(json.dumps(tables.drawn(serving)))["points"] == [str(point) for point in POINTS]


def test_points_read_as_a_sentence() -> None:
    assert [str(Point("16", 1, 3.0, 2)), str(Point(MIXED, 64, 8.0, 2))] == [
        "16 tokens, 1 client",
        "mixed lengths, 64 clients",
    ]
