"""One SIMULATED KMS per test module; each test makes its own KMS key."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ephemeral_devstack.nsm import SimulatedAuthority, SimulatedNsm
from tests.support.simulated_kms import PCRS, SimulatedKms, running_kms


@pytest.fixture(scope="module")
def root() -> SimulatedAuthority:
    return SimulatedAuthority.new_root(datetime.now(UTC) - timedelta(days=1))


@pytest.fixture(scope="module")
def nsm(root: SimulatedAuthority) -> SimulatedNsm:
    return SimulatedNsm(PCRS, root=root)


@pytest.fixture(scope="module")
def module_kms(nsm: SimulatedNsm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedKms]:
    with running_kms(nsm, tmp_path_factory.mktemp("kms")) as kms:
        yield kms


@pytest.fixture
def kms(module_kms: SimulatedKms) -> SimulatedKms:
    module_kms.plan()
    return module_kms
