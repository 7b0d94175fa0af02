"""What a client may put into a request, before anything of it is computed."""

import pytest

from ephemeral.errors import RequestRefused
from ephemeral.protocol import MAX_TEXTS
from ephemeral.wire import EmbedRequest, InferenceRequest
from ephemeral_enclave.inference import parse_request


def request(texts: list[str]) -> bytes:
    return InferenceRequest(salt=bytes(32), model_id="m", embed=EmbedRequest(texts=texts)).SerializeToString()


def test_as_many_texts_as_allowed_are_taken() -> None:
    assert len(parse_request(request(["a"] * MAX_TEXTS)).embed.texts) == MAX_TEXTS


@pytest.mark.parametrize("count", [MAX_TEXTS + 1, 1_000_000])
def test_more_texts_than_allowed_are_refused_by_their_number_alone(count: int) -> None:
    with pytest.raises(RequestRefused, match=f"{count} texts; at most {MAX_TEXTS}") as refused:
        parse_request(request([""] * count))
    assert refused.value.code == "TOO_LARGE"
