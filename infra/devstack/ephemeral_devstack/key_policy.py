"""The key policy of the development stack: the product's own, with the publisher as administrator."""

from collections.abc import Sequence

from ephemeral.trusted.policy import Measurements
from ephemeralml.kms import KeyRoles, build_key_policy


def development_key_policy(
    *, publisher_arn: str, host_arn: str, measurements: Sequence[Measurements], model_ids: Sequence[str]
) -> str:
    """Return the policy document as JSON for `CreateKey` or `PutKeyPolicy`.

    Raises:
        ConfigError: as for `build_key_policy`.
    """
    roles = KeyRoles(host=host_arn, publisher=publisher_arn, admin=publisher_arn)
    return build_key_policy(measurements, roles, model_ids)
