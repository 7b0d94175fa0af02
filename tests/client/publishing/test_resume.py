"""An upload that is cut goes on where it stopped: same ciphertext, same data key, only the parts that S3 lacks."""

import fcntl
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from ephemeral.errors import ConfigError, StorageUnavailable
from ephemeral.trusted.ed25519 import SigningKey
from ephemeral.trusted.manifest import verify_manifest
from ephemeralml.key_file import create_signing_key, read_signing_key
from ephemeralml.publishing.release import PublishedModel
from tests.client.test_cli import run
from tests.support.bert_folder import bert_files, write_files
from tests.support.publishing_account import BUCKET, Account
from tests.support.s3_front import Answered, Asked, Fault, S3Front
from tests.support.simulated_kms import MODEL_ID

PARTS = [1, 2, 3, 4]  # of 8 MiB, the last one shorter


class PartGate:
    """Carries some parts of an upload to S3; others are cut off, or held until the client goes."""

    def __init__(self, front: S3Front) -> None:
        self.url = front.url
        self.sent: list[int] = []  # numbers of the parts that S3 took
        self.enough = threading.Event()
        self._most: int | None = None
        self._admitted = itertools.count(1)
        self._beyond = Fault(resets=True)
        front.fault, front.seen = self._fault, self._seen

    def close_after(self, most: int | None, *, holding: bool = False) -> None:
        """Carry `most` more parts, None: all; forget what was sent."""
        self.sent.clear()
        self.enough.clear()
        self._most, self._admitted = most, itertools.count(1)
        self._beyond = Fault(hangs=holding, resets=not holding)

    def _fault(self, asked: Asked) -> Fault | None:
        if self._most is None or part_number(asked) is None or next(self._admitted) <= self._most:
            return None
        return self._beyond

    def _seen(self, asked: Asked, answered: Answered) -> None:
        number = part_number(asked)
        if number is not None and answered.status == 200:
            self.sent.append(number)
            if len(self.sent) == self._most:
                self.enough.set()


def part_number(asked: Asked) -> int | None:
    found = re.search(r"[?&]partNumber=(\d+)", asked.path) if asked.command == "PUT" else None
    return int(found[1]) if found else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("large") / "model", bert_files(vocab_size=26_000, hidden_size=256))


@pytest.fixture
def large(account: Account, folder: Path) -> Account:
    return replace(account, folder=folder)


@pytest.fixture
def gate(account: Account) -> Iterator[PartGate]:
    with S3Front(account.s3_url).running() as front:
        yield PartGate(front)


def published(account: Account, gate: PartGate, work: Path) -> PublishedModel:
    return account.publish(s3=account.s3_at(gate.url), work=work)


def cut_after(parts: int, account: Account, gate: PartGate, work: Path) -> None:
    gate.close_after(parts)
    with pytest.raises(StorageUnavailable, match="goes on where this one stopped"):
        published(account, gate, work)
    gate.close_after(None)


def require_whole(account: Account, model: PublishedModel) -> None:
    manifest = verify_manifest(model.manifest, [account.publisher.verifying_key]).manifest
    assert sha256(account.stored(model.container_key)).digest() == manifest.container.sha256


def test_killed_command_goes_on_with_the_parts_that_s3_has(
    large: Account, gate: PartGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "publisher.pem"
    create_signing_key(key)
    for name, value in {**large.environment, "AWS_ENDPOINT_URL_S3": gate.url, "XDG_CACHE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    options = ["model", "upload", "--model", str(large.folder), "--id", MODEL_ID, "--version", str(large.version)]
    options += ["--kms-key", large.key_arn, "--bucket", BUCKET, "--publisher-key", str(key), "--json"]
    before = large.data_keys()
    gate.close_after(2, holding=True)
    command = [sys.executable, "-c", "from ephemeralml.cli import main; main()", *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        assert gate.enough.wait(60)
        process.send_signal(signal.SIGKILL)
    had = sorted(gate.sent)
    assert len(had) == 2
    assert large.objects() == set()

    gate.close_after(None)
    again = run(*options)
    assert again.returncode == 0, again.stderr
    assert sorted(gate.sent) == [number for number in PARTS if number not in had]
    assert large.data_keys() == before + 1
    answer = json.loads(again.stdout)
    container = large.stored(answer["container_key"])
    signed = verify_manifest(large.stored(answer["manifest_key"]), [read_signing_key(key).verifying_key])
    assert sha256(container).digest() == signed.manifest.container.sha256
    left = [path for path in (tmp_path / "ephemeralml").rglob("*") if path.is_file()]
    assert left == []


def test_progress_of_the_second_run_begins_with_what_is_there(large: Account, gate: PartGate, tmp_path: Path) -> None:
    cut_after(3, large, gate, tmp_path / "work")
    pieces: list[int] = []
    model = large.publish(s3=large.s3_at(gate.url), work=tmp_path / "work", progress=pieces.append)
    assert len(gate.sent) == 1
    assert sum(pieces) == model.container_bytes
    require_whole(large, model)


def test_part_that_somebody_replaced_meanwhile_is_sent_again(large: Account, gate: PartGate, tmp_path: Path) -> None:
    work = tmp_path / "work"
    cut_after(2, large, gate, work)
    upload = json.loads((work / "upload.json").read_text())
    where = {"Bucket": BUCKET, "Key": upload["key"], "UploadId": upload["upload_id"]}
    replaced, *_ = large.s3.list_parts(**where)["Parts"]
    large.s3.upload_part(**where, PartNumber=replaced["PartNumber"], Body=bytes(replaced["Size"]))
    model = published(large, gate, work)
    assert len(gate.sent) == 3
    assert replaced["PartNumber"] in gate.sent
    require_whole(large, model)


def test_upload_that_s3_forgot_begins_anew_under_the_same_data_key(
    large: Account, gate: PartGate, tmp_path: Path
) -> None:
    before, work = large.data_keys(), tmp_path / "work"
    cut_after(2, large, gate, work)
    upload = json.loads((work / "upload.json").read_text())
    large.s3.abort_multipart_upload(Bucket=BUCKET, Key=upload["key"], UploadId=upload["upload_id"])
    model = published(large, gate, work)
    assert sorted(gate.sent) == PARTS
    assert large.data_keys() == before + 1
    require_whole(large, model)


@pytest.mark.parametrize("name", ["container.bin", "draft.json"])
def test_ciphertext_that_was_damaged_on_disk_is_never_uploaded(
    large: Account, gate: PartGate, tmp_path: Path, name: str
) -> None:
    work = tmp_path / "work"
    cut_after(2, large, gate, work)
    path = work / name
    path.write_bytes(path.read_bytes()[:-2])
    model = published(large, gate, work)
    assert sorted(gate.sent) == PARTS  # sealed anew, into an object of its own
    require_whole(large, model)


def test_journal_that_cannot_be_read_costs_an_upload_and_nothing_else(
    large: Account, gate: PartGate, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    cut_after(2, large, gate, work)
    (work / "upload.json").write_text("[")
    require_whole(large, published(large, gate, work))
    assert sorted(gate.sent) == PARTS


def test_the_key_given_last_signs_what_was_sealed_before(large: Account, gate: PartGate, tmp_path: Path) -> None:
    work = tmp_path / "work"
    cut_after(2, large, gate, work)
    other = replace(large, publisher=SigningKey.generate())
    require_whole(other, published(other, gate, work))
    assert len(gate.sent) == 2


def test_two_commands_never_share_a_folder(account: Account, tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(ConfigError) as caught:
            account.publish(work=tmp_path)
    finally:
        os.close(handle)
    assert caught.value.code == "PUBLISHING_RUNNING"
