"""The vectors other implementations are built against: remade by the product, and by code that shares none of it."""

import ast
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pyhpke import AEADId, CipherSuite, KDFId, KEMId, KEMKey, KEMKeyPair

from ephemeral.protocol import LABEL_C2S, LABEL_S2C, LABEL_SESSION_ID
from ephemeral.trusted.policy import TrustPolicy
from ephemeral_enclave.engines import fingerprint
from ephemeralml import verify_bundle
from tests.vectors import authority, evidence_cases, generate, independent, independent_documents, independent_evidence
from tests.vectors.cases import VectorFile, plain
from tests.vectors.independent import Refused

FILES = {file.name: file for file in generate.FILES}
DERIVE = independent.DERIVE | independent_documents.DERIVE | independent_evidence.DERIVE
REFUSE = independent.REFUSE | independent_documents.REFUSE
NAMES = pytest.mark.parametrize("name", sorted(FILES))


def content(name: str) -> Any:
    return json.loads((generate.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def test_every_file_has_a_generator_and_every_generator_a_file() -> None:
    assert {path.stem for path in generate.FOLDER.glob("*.json")} == set(FILES)


@NAMES
def test_the_product_remakes_the_file_byte_for_byte(name: str) -> None:
    written = (generate.FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert generate.text(FILES[name]) == written, "run python -m tests.vectors.generate and say in CHANGELOG.md why"


@NAMES
def test_an_implementation_without_the_products_code_derives_the_same(name: str) -> None:
    for case in content(name)["cases"]:
        assert plain(DERIVE[name](case["inputs"])) == case["outputs"], case["name"]


@pytest.mark.parametrize("name", sorted(name for name, file in FILES.items() if file.refuse))
def test_an_implementation_without_the_products_code_refuses_the_same(name: str) -> None:
    for case in content(name)["refused"]:
        with pytest.raises(Refused) as caught:
            REFUSE[name](case["inputs"])
        assert str(caught.value) == case["code"], case["name"]


@NAMES
def test_a_file_says_what_it_is_and_which_section_it_belongs_to(name: str) -> None:
    file = content(name)
    assert file["description"]
    sections = file["spec"].removeprefix("docs/SPEC.md, section ").split(" and ")
    headings = (Path(__file__).parents[2] / "docs" / "SPEC.md").read_text()
    for section in sections:
        assert f"\n## {section} " in headings or f"\n### {section} " in headings


@pytest.mark.parametrize("module", [independent, independent_documents, independent_evidence], ids=lambda m: m.__name__)
def test_the_second_implementation_shares_no_code_with_the_product(module: Any) -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    roots = {name.partition(".")[0] for name in imported}
    assert not roots & {
        "ephemeral",
        "ephemeralml",
        "ephemeral_enclave",
        "ephemeral_devstack",
        "cbor2",
        "pyhpke",
        "google",
    }
    assert {name for name in imported if name.startswith("tests")} <= {
        "tests.vectors.independent",
        "tests.vectors.independent_documents",
    }


@pytest.mark.parametrize("case", content("key-schedule")["cases"], ids=lambda case: case["name"])
def test_an_hpke_library_comes_to_the_same_keys(case: dict[str, dict[str, str]]) -> None:
    given = {name: bytes.fromhex(value) for name, value in (case["inputs"] | case["outputs"]).items()}
    suite = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)
    ephemeral = X25519PrivateKey.from_private_bytes(given["ephemeral_private_key"])
    pair = KEMKeyPair(
        KEMKey.from_pyca_cryptography_key(ephemeral), KEMKey.from_pyca_cryptography_key(ephemeral.public_key())
    )
    recipient = suite.kem.deserialize_public_key(given["kem_public_key"])
    encapsulated, context = suite.create_sender_context(recipient, given["info"], eks=pair)
    assert encapsulated == given["encapsulated_key"]
    for name, label, size in (("c2s", LABEL_C2S, 32), ("s2c", LABEL_S2C, 32), ("session_id", LABEL_SESSION_ID, 16)):
        assert context.export(label + given["th"], size) == given[name]


def test_an_enclave_takes_the_fingerprint_of_its_libraries_as_the_vector_does() -> None:
    libraries = [version(name) for name in ("torch", "transformers", "sentence-transformers", "tokenizers")]
    inputs = {"protocol_version": "1", "enclave_version": "1", "libraries": libraries, "config_digest": "00" * 32}
    assert fingerprint() == DERIVE["build"](inputs)["fingerprint"]


@pytest.mark.parametrize("case", content("bundle")["cases"], ids=lambda case: case["name"])
def test_the_bundles_verify_under_the_policy_of_the_vectors(case: dict[str, dict[str, str]]) -> None:
    verified = verify_bundle(
        bytes.fromhex(case["outputs"]["bundle"]), TrustPolicy.parse(evidence_cases.FULL), now=authority.AT
    )
    verified.report.require()


def test_what_is_written_depends_on_nothing_but_the_inputs() -> None:
    file: VectorFile = FILES["key-schedule"]
    assert file.build() == file.build()
