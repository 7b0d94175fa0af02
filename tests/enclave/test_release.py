"""RSA keys are made ahead and never given twice."""

import asyncio

import pytest

from ephemeral_enclave.release import RecipientKeys


@pytest.mark.parametrize("expected", [0, 1, 5])
async def test_every_call_to_kms_gets_a_key_of_its_own_however_many_were_expected(expected: int) -> None:
    keys = RecipientKeys(expected)
    taken = await asyncio.gather(*(keys.take() for _ in range(3)))
    assert len({key.spki_der for key in taken}) == 3
