"""One account per test module, and a version of its own for each test."""

from collections.abc import Iterator

import pytest

from tests.support.publishing_account import Account, running_account


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with running_account(tmp_path_factory.mktemp("account")) as account:
        yield account


@pytest.fixture
def account(services: Account) -> Account:
    services.kms.plan()
    return services.fresh()
