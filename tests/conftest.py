"""One whole development stack for every test that needs a running system: real processes, sockets and weights."""

from collections.abc import Iterator

import pytest

from ephemeral.trusted.policy import TrustPolicy
from ephemeral_devstack.stack import Stack, StackOptions
from ephemeralml import Client


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    state = tmp_path_factory.mktemp("stack")
    with Stack.start(StackOptions(state=state, listen="tcp://127.0.0.1:0")) as running:
        yield running


@pytest.fixture(scope="session")
def trust(stack: Stack) -> TrustPolicy:
    return TrustPolicy.load(stack.trust)


@pytest.fixture
def client(stack: Stack, trust: TrustPolicy) -> Iterator[Client]:
    with Client.connect(stack.address, trust=trust) as connected:
        yield connected
