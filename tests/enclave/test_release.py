"""RSA keys are made ahead, never given twice, and gone from memory once they opened their one answer."""

import asyncio
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ephemeral_enclave.release import RecipientKeys
from tests.support.factor_search import holds_factor
from tests.support.invariants import tally

HOLDER = """
import sys
from ephemeral.trusted.cms import RecipientKey
from ephemeral_devstack.cms import seal_for_recipient
key = RecipientKey.generate()
print(key.spki_der.hex(), flush=True)
sys.stdin.readline()
with key.open(seal_for_recipient(bytes(32), key.spki_der)):
    pass
print("opened", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("expected", [0, 1, 5])
async def test_every_call_to_kms_gets_a_key_of_its_own_however_many_were_expected(expected: int) -> None:
    keys = RecipientKeys(expected)
    taken = await asyncio.gather(*(keys.take() for _ in range(3)))
    assert len({key.spki_der for key in taken}) == 3


def test_rsa_key_is_gone_from_memory_once_it_opened_an_answer() -> None:
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        key = load_der_public_key(bytes.fromhex(process.stdout.readline().strip()))
        assert isinstance(key, RSAPublicKey)
        modulus = key.public_numbers().n
        assert holds_factor(process.pid, modulus)  # the search must be able to find
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "opened\n"
        with tally("INV-9", 1):
            assert not holds_factor(process.pid, modulus)
