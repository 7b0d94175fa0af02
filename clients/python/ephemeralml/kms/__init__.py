"""The key policy of a model's KMS key: written, read as an attacker would, and put in place.

``policy`` writes one from measurements, roles and models. ``lint`` reads any and says who but an attested enclave gets
what. ``apply`` puts one in place, and is the only module here that needs boto3.
"""

from ephemeralml.kms.lint import Finding, lint_policy
from ephemeralml.kms.policy import KeyRoles, build_key_policy
from ephemeralml.kms.rules import RULES, Rule

__all__ = ["RULES", "Finding", "KeyRoles", "Rule", "build_key_policy", "lint_policy"]
