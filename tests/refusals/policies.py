"""Trust policies that would not protect."""

from collections.abc import Iterator

from ephemeral.errors import PolicyError
from tests.refusals.case import Case, Family

AWS = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
PCR = ["a0" * 48, "a1" * 48, "a2" * 48]
ZERO = "00" * 48
BUILD = f"""
[[measurements]]
label = "release 1"
pcr0 = "{PCR[0]}"
pcr1 = "{PCR[1]}"
pcr2 = "{PCR[2]}"
"""
MINIMAL = "version = 1\n" + BUILD
FULL = f"""version = 1
max_document_age_seconds = 60

[[roots]]
name = "lab"
sha256 = "{"0c" * 32}"
evaluation = true

[[roots]]
name = "test"
sha256 = "{"0d" * 32}"
evaluation = true
{BUILD}pcr8 = "{"a8" * 48}"

[[models]]
model_id = "all-MiniLM-L6-v2"
min_version = 3
manifest_sha256 = "{"0e" * 32}"
"""


def cases() -> Iterator[Case]:
    """Yield every case of the family."""
    yield Case("control", "A19", "a policy that names one build", MINIMAL.encode(), {})
    yield Case("control-full", "A19", "a policy with roots, builds, models and an age", FULL.encode(), {})
    for name, threat, says, code, text in _rows():
        yield Case(name, threat, says, text.encode(), {}, PolicyError, code)


def _rows() -> Iterator[tuple[str, str, str, str, str]]:
    missing, syntax, kind, age = "POLICY_MISSING_KEY", "POLICY_SYNTAX", "POLICY_TYPE", "POLICY_AGE"
    yield "empty", "A19", "an empty file", missing, ""
    yield "not-toml", "A19", "not TOML", syntax, "version = "
    yield "key-twice", "A1", "a key stands twice", syntax, "version = 1\n" + MINIMAL
    yield "no-version", "A19", "no version", missing, BUILD
    yield "version-2", "A19", "another version of the format", "POLICY_VERSION", MINIMAL.replace("= 1", "= 2", 1)
    yield "version-true", "A19", "the version is true", kind, MINIMAL.replace("= 1", "= true", 1)
    yield "no-build", "A19", "no build at all: an empty list never means any", "POLICY_EMPTY", "version = 1\n"
    for index in range(3):
        line = f'pcr{index} = "{PCR[index]}"\n'
        yield f"no-pcr{index}", "A19", f"PCR{index} is not pinned", missing, MINIMAL.replace(line, "")
        yield (
            f"pcr{index}-zero",
            "A18",
            f"PCR{index} is zero: that accepts debug enclaves",
            "POLICY_DEBUG",
            MINIMAL.replace(PCR[index], ZERO),
        )
    yield "pcr-sha256", "A19", "PCR1 has 32 bytes", "POLICY_LENGTH", MINIMAL.replace(PCR[1], "a1" * 32)
    yield "pcr-not-hex", "A19", "PCR1 is not hex", kind, MINIMAL.replace(PCR[1], "zz" * 48)
    yield "pcr8-short", "A21", "PCR8 has 47 bytes", "POLICY_LENGTH", FULL.replace("a8" * 48, "a8" * 47)
    unknown = "POLICY_UNKNOWN_KEY"
    yield "key-unknown", "A19", "a key that the format does not have", unknown, "allow_debug = true\n" + MINIMAL
    yield "key-misspelt", "A19", "PCR8 is misspelt, so it would not be pinned", unknown, FULL.replace("pcr8", "pcr_8")
    yield (
        "root-key-unknown",
        "A28",
        "a key more in a root",
        unknown,
        FULL.replace("evaluation = true", "evaluation = true\nmock = true"),
    )
    yield (
        "root-silent",
        "A28",
        "a simulated root that does not say evaluation",
        "POLICY_ROOT",
        FULL.replace("evaluation = true", ""),
    )
    yield "root-denies", "A28", "a simulated root that denies it", "POLICY_ROOT", FULL.replace("= true", "= false")
    aws = f'\n[[roots]]\nname = "aws"\nsha256 = "{AWS}"\n'
    simulated = MINIMAL + aws + "evaluation = true\n"
    yield "root-aws-evaluation", "A28", "the AWS root is called simulated", "POLICY_ROOT", simulated
    says = "a simulated root beside the AWS root could vouch for production builds"
    yield "roots-mixed", "A28", says, "POLICY_MIXED_ROOTS", FULL + aws
    yield "root-short", "A11", "a root's digest has 20 bytes", "POLICY_LENGTH", FULL.replace("0d" * 32, "0d" * 20)
    yield "root-nameless", "A11", "a root has no name", "POLICY_NAME", FULL.replace('"test"', '""')
    duplicate = "POLICY_DUPLICATE"
    yield "label-twice", "A19", "two builds have one label", duplicate, MINIMAL + BUILD.replace("a0", "b0")
    yield "build-twice", "A19", "one build stands twice", duplicate, MINIMAL + BUILD.replace("release 1", "again")
    yield "root-twice", "A11", "two roots have one name", duplicate, FULL.replace('"test"', '"lab"')
    yield "age-zero", "A16", "documents may have no age", age, FULL.replace("seconds = 60", "seconds = 0")
    yield (
        "age-long",
        "A16",
        "documents may be older than their certificates",
        age,
        FULL.replace("seconds = 60", "seconds = 10801"),
    )
    yield "age-float", "A16", "the age is a float", kind, FULL.replace("seconds = 60", "seconds = 60.5")
    yield "model-nameless", "E2", "a model has no id", missing, FULL.replace('model_id = "all-MiniLM-L6-v2"\n', "")
    yield (
        "model-version-zero",
        "E2",
        "a model's least version is zero",
        "POLICY_MODEL",
        FULL.replace("min_version = 3", "min_version = 0"),
    )
    yield (
        "model-digest-short",
        "E10",
        "a manifest's digest has 31 bytes",
        "POLICY_LENGTH",
        FULL.replace("0e" * 32, "0e" * 31),
    )
    window = "not_before = 2026-02-01T00:00:00Z\nnot_after = 2026-01-01T00:00:00Z\n"
    yield "window-empty", "A19", "a build's window ends before it begins", "POLICY_WINDOW", MINIMAL + window
    publisher = f'[[publishers]]\nname = "models"\npublic_key = "{"00" * 32}"\n'
    yield (
        "publisher-low-order",
        "E4",
        "a publisher's key for which anyone could sign",
        "POLICY_KEY",
        MINIMAL + publisher,
    )
    local = MINIMAL + "not_before = 2026-02-01T00:00:00\n"
    yield "time-without-zone", "A19", "a build's window begins at a time without zone", "POLICY_TIME", local


FAMILY = Family(
    "policies",
    "Trust policies (TOML, UTF-8) that would not protect whoever holds them. SPEC section 6.",
    cases,
)
