"""Each model has its own limits: what one model's callers send cannot crowd out another's."""

import pytest

from ephemeral.errors import Overloaded
from ephemeral_enclave.quota import ModelLimits, Quotas


@pytest.fixture
def quotas() -> Quotas:
    return Quotas({"small": ModelLimits(queued_requests=2, queued_texts=10), "other": ModelLimits()})


def test_requests_of_a_model_are_limited_and_come_free_again(quotas: Quotas) -> None:
    with quotas.admitted("small", 1), quotas.admitted("small", 1):
        with pytest.raises(Overloaded) as caught, quotas.admitted("small", 1):
            pass
        assert caught.value.code == "QUEUE_FULL"
    with quotas.admitted("small", 1):
        pass


def test_texts_of_a_model_are_limited_whatever_became_of_earlier_ones(quotas: Quotas) -> None:
    with quotas.admitted("small", 6):
        for _ in range(3):
            with pytest.raises(Overloaded), quotas.admitted("small", 5):
                pass
        with quotas.admitted("small", 4):
            pass
    with pytest.raises(ZeroDivisionError), quotas.admitted("small", 10):
        raise ZeroDivisionError
    with quotas.admitted("small", 10):
        pass


def test_full_model_leaves_the_others_alone(quotas: Quotas) -> None:
    with quotas.admitted("small", 10):
        for model_id in ("other", "not named"):
            with quotas.admitted(model_id, 1_000_000):
                pass
