"""Every rule of the linter: what is wrong, what an attacker does with it, and how to mend it. Ids are stable."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule by its id; `attack` is in the words of whoever profits."""

    id: str
    title: str
    attack: str
    fix: str


_PIN = "pin PCR0, PCR1 and PCR2 together with StringEqualsIgnoreCase, as `ephemeralml kms policy` writes it"
_NAMED = "name the roles that need it, one by one, by ARN"

_RELEASE = (
    Rule(
        "KMS-001",
        "Decrypt is allowed without any condition on an enclave's measurements",
        "The host calls Decrypt itself, without a Recipient, and reads the data key: every model is open to it.",
        _PIN,
    ),
    Rule(
        "KMS-002",
        "a measurement is compared with ...IfExists, which holds when there is none",
        "The host leaves Recipient out of the call; the key is absent, the condition holds, the data key comes plain.",
        "remove IfExists",
    ),
    Rule(
        "KMS-003",
        "a measurement is compared with ForAllValues:, which holds for no value at all",
        "The host leaves Recipient out of the call: all of no values match, and the data key comes plain.",
        "use the operator without ForAllValues: (a measurement has one value)",
    ),
    Rule(
        "KMS-004",
        "a measurement is compared with a wildcard or a policy variable",
        "The attacker builds an enclave that prints its data keys, until its hash fits the pattern (for * it does at "
        "once); a variable such as ${aws:PrincipalTag/pcr0} takes its value from a tag that the caller's account sets.",
        "write the 96 characters of each measurement",
    ),
    Rule(
        "KMS-005",
        "not all of PCR0, PCR1 and PCR2 are pinned in this one statement",
        "What is not pinned may be anything: PCR1 and PCR2 tell kernel and application apart, and statements are "
        "alternatives, so PCR0 in one and PCR1 in another pin one register each, not both.",
        _PIN,
    ),
    Rule(
        "KMS-006",
        "PCRs of several builds stand in independent lists",
        "Every combination of the lists is accepted: PCR0 of one build with PCR1 of another is nobody's build.",
        "write one statement per build, with one value per PCR",
    ),
    Rule(
        "KMS-007",
        "an all-zero measurement is accepted",
        "Zero PCRs are those of an enclave in debug mode: the host attaches a console and reads its memory.",
        "take the PCRs of the image as it runs without --debug-mode",
    ),
    Rule(
        "KMS-008",
        "a measurement can never match",
        "Nothing is released by it: the enclave stays locked out, and whoever is called at night to mend that widens "
        "the policy. KMS compares with 96 lower-case hex characters.",
        "write 96 hex characters, in lower case or with StringEqualsIgnoreCase, and only one set per PCR",
    ),
    Rule(
        "KMS-009",
        "a measurement is compared with a negated operator",
        "Everything except the listed values is accepted, a call without any attestation included.",
        "list what is accepted, with StringEqualsIgnoreCase",
    ),
    Rule(
        "KMS-010",
        "Null says true where an enclave is to be let in",
        'The condition holds only when there is no attestation: the host decrypts, the enclave is refused. "Null": '
        '"true" means that the key is absent.',
        'say "false", or better: pin the PCRs, which cannot be absent then',
    ),
    Rule(
        "KMS-011",
        "a NitroTPM measurement stands where an enclave's belongs",
        "NitroTPM attests an EC2 instance, whose operator is the very one the enclave protects from.",
        "use kms:RecipientAttestation:PCR0, PCR1 and PCR2",
    ),
    Rule(
        "KMS-012",
        "a measurement must be present, but may be any",
        "The attacker runs an enclave of its own, attested like any other, that prints the data key.",
        _PIN,
    ),
)

_DENY = (
    Rule(
        "KMS-101",
        "no explicit Deny stops calls without attestation",
        "One more Allow, an IAM policy behind an account statement, or a grant, and the data key comes plain. Only a "
        "Deny outlasts what others add.",
        'add Deny, Principal "*", Action kms:Decrypt and kms:ReEncrypt*, Condition Null '
        'kms:RecipientAttestation:ImageSha384 "true"',
    ),
    Rule(
        "KMS-102",
        "the Deny does not cover every action that opens a data key",
        "ReEncryptFrom takes no attestation: it hands the data key over under a key of the attacker's, where Decrypt "
        "is allowed.",
        "let the Deny name kms:Decrypt and kms:ReEncrypt*",
    ),
    Rule(
        "KMS-103",
        "the Deny does not cover every principal",
        "Whoever it leaves out, by name or by account, is not stopped by it.",
        'write Principal "*" in the Deny, and no NotPrincipal',
    ),
    Rule(
        "KMS-104",
        "the Deny has a further condition that a caller can escape",
        "Conditions of one statement must all hold: the attacker sends a request for which the other one does not.",
        "let the absence of the attestation be the Deny's only condition",
    ),
    Rule(
        "KMS-105",
        "the Deny's condition on the attestation is the wrong way round",
        'Calls without attestation do not meet it: "Null": "false" means that the key is present, and a positive '
        "comparison never holds for an absent key.",
        'write Null kms:RecipientAttestation:ImageSha384 "true" in the Deny',
    ),
)

_POWER = (
    Rule(
        "KMS-201",
        "a wildcard allows more than one way to the data keys",
        "kms:* and the like hold Decrypt, CreateGrant, ReEncryptFrom and what AWS adds next year.",
        "list the actions",
    ),
    Rule(
        "KMS-202",
        "NotAction in an Allow",
        "Everything but the listed actions is allowed, now and whenever AWS adds one.",
        "list what is allowed under Action",
    ),
    Rule(
        "KMS-203",
        "CreateGrant is allowed",
        "A grant carries no condition on measurements and stands outside this policy: its holder grants Decrypt to "
        "anyone, whose own enclave then prints the data key.",
        "remove it; nothing here needs a grant",
    ),
    Rule(
        "KMS-204",
        "ReEncryptFrom is allowed",
        "It hands a data key over under another KMS key, without attestation; that one's policy is the attacker's.",
        "remove it; a new release has a new data key",
    ),
    Rule(
        "KMS-205",
        "ImportKeyMaterial is allowed",
        "Whoever supplies the key material knows it, and decrypts every wrapped data key without KMS.",
        "use key material that KMS made",
    ),
    Rule(
        "KMS-206",
        "ReplicateKey is allowed",
        "A replica in another region has a key policy of its own, and opens the same data keys.",
        "remove it, and create the key as a single-region key",
    ),
    Rule(
        "KMS-207",
        "who may have data keys released may also change or destroy the key",
        "The host's role is in the attacker's hands by assumption: it puts a policy without conditions, then decrypts.",
        "give PutKeyPolicy, ScheduleKeyDeletion and the like to an administrator's role that may not decrypt",
    ),
    Rule(
        "KMS-208",
        "who may have data keys released may also wrap them",
        "The host makes a data key whose plaintext it knows, and what is encrypted under it, it reads.",
        "give GenerateDataKey and Encrypt to the publisher's role alone",
    ),
    Rule(
        "KMS-210",
        "everyone is allowed",
        "Any AWS account on earth may call this; the right enclave, run by a stranger on a stranger's host, included.",
        _NAMED,
    ),
    Rule(
        "KMS-211",
        "a whole account is allowed",
        "An account as principal hands the decision to IAM: whoever may write IAM policies there decides, without "
        "touching this policy. The Deny here still refuses Decrypt without attestation; grants, other actions and "
        "other enclaves it does not.",
        _NAMED,
    ),
    Rule(
        "KMS-212",
        "NotPrincipal in an Allow",
        "Everyone but the listed is allowed, strangers included.",
        _NAMED,
    ),
    Rule(
        "KMS-213",
        "a principal is neither a role nor a user by ARN",
        "A service or a federation acts for whoever talks it into that; an id without a name is a principal that was "
        "deleted.",
        _NAMED,
    ),
)

_CONTEXT = (
    Rule(
        "KMS-301",
        "the encryption context need not name an allowed model",
        "Data keys of other models, or wrapped under no context at all, go through the same statement: the enclave "
        "is given a key for what it was not meant to serve.",
        "require kms:EncryptionContext:model_id with StringEquals and the ids",
    ),
    Rule(
        "KMS-302",
        "the encryption context may lack a part or carry more",
        "A data key whose context names no version or no content fits every version: an old release is passed off as "
        "the new one.",
        "require model_id, version and content_sha256, and with ForAllValues on kms:EncryptionContextKeys nothing else",
    ),
)

_FORM = (
    Rule(
        "KMS-401",
        "a name occurs twice in one object",
        "Readers differ in which one they take: the reviewer sees the condition, KMS the one without.",
        "keep one",
    ),
    Rule(
        "KMS-402",
        "Version is not 2012-10-17",
        "Under another version, or none, the same words mean other things.",
        'write "Version": "2012-10-17"',
    ),
    Rule(
        "KMS-403",
        'Resource is missing or not "*"',
        "KMS stores such a statement, and it has no effect: a Deny that is read by people and by nobody else.",
        'write "Resource": "*", which in a key policy is this key',
    ),
    Rule(
        "KMS-404",
        "a condition key does not exist",
        "It is never in a request: a condition that looks strict always holds or never does. In a Deny with Null or a "
        "negated operator it stops everyone; in an Allow with IfExists nobody.",
        "correct the name: kms:RecipientAttestation:PCR0 to PCR31 and ImageSha384, kms:EncryptionContext:NAME",
    ),
    Rule(
        "KMS-405",
        "a condition operator does not exist, or cannot compare this key",
        "Nothing can be said about what it lets through.",
        "use StringEquals, StringEqualsIgnoreCase or Null",
    ),
    Rule(
        "KMS-406",
        "the policy or a statement cannot be read",
        "AWS may read it otherwise than its author.",
        "use Version, Id, Statement; and Sid, Effect, Principal, Action, Resource, Condition",
    ),
)

_BUILDS = (
    Rule(
        "KMS-501",
        "a build is accepted that the given measurements do not name",
        "An image that was withdrawn, or never reviewed, still gets data keys.",
        "remove its statement",
    ),
    Rule(
        "KMS-502",
        "a build that the given measurements name is not released to",
        "Nobody gains, but that enclave will not start; a policy in a hurry is widened.",
        "write the policy again from the measurements",
    ),
)

RULES: Final = MappingProxyType({rule.id: rule for rule in (*_RELEASE, *_DENY, *_POWER, *_CONTEXT, *_FORM, *_BUILDS)})
"""All rules by id."""
