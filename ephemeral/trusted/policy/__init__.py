"""What a verifier accepts: roots of trust, measurements as whole builds, models.

An empty list never means "anything", a debug enclave is never acceptable, and a simulated root must say so.
"""

from ephemeral.trusted.policy.rules import (
    AWS_NITRO_ROOT_G1,
    AcceptedModel,
    Measurements,
    Publisher,
    RootOfTrust,
    refuse_debug,
)
from ephemeral.trusted.policy.signed import VerifiedPolicy, is_signed, sign_policy, verify_policy
from ephemeral.trusted.policy.trust import TrustPolicy

__all__ = [
    "AWS_NITRO_ROOT_G1",
    "AcceptedModel",
    "Measurements",
    "Publisher",
    "RootOfTrust",
    "TrustPolicy",
    "VerifiedPolicy",
    "is_signed",
    "refuse_debug",
    "sign_policy",
    "verify_policy",
]
