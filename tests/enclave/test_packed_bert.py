"""The packed engine against the reference, and against itself in other company."""

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load, save

from ephemeral.errors import ModelFormatError, RequestRefused
from ephemeral_enclave import linear, packed_bert
from ephemeral_enclave.batcher import Batcher
from ephemeral_enclave.bert_encoder import BertEncoder
from ephemeral_enclave.engine import Tokens
from ephemeral_enclave.engines import build_engine
from ephemeral_enclave.linear import BLOCK_ROWS, Linear, keep_rows_apart
from ephemeral_enclave.packed_bert import PackedBertEngine
from ephemeral_enclave.pipeline import Files, Pipeline, read_pipeline
from ephemeral_enclave.sentence_transformer import SentenceTransformerEngine
from ephemeral_enclave.tokenizer import encode, read_tokenizer
from tests.support import bert_folder, minilm

Vectors = npt.NDArray[np.float32]
WORDS = "patient pain report ledger breach café naïve 東京 مرحبا 🙂 Ω antidisestablishmentarianism 3.14159 a".split()  # noqa: SIM905


def texts() -> list[str]:
    """Make 2,000 texts: the odd ones, and mixtures of words from one word to more than fits."""
    rng = random.Random(5)
    odd = [
        " ",
        "a",
        "\0",
        "\n\t",
        "é",
        "e\u0301",
        "\u202ereversed",
        "中" * 300,
        "x" * 5000,
        "word " * 600,
        "[CLS] [SEP] [MASK]",
    ]
    lengths = [min(400, max(1, int(rng.lognormvariate(2.2, 0.9)))) for _ in range(2000 - len(odd))]
    return odd + [" ".join(rng.choices(WORDS, k=length)) for length in lengths]


@cache
def engine(dtype: torch.dtype = torch.float32) -> PackedBertEngine:
    files = minilm.files()
    return PackedBertEngine.from_files(files, read_pipeline(files), dtype)


@cache
def reference() -> tuple[list[Tokens], Vectors]:
    files = minilm.files()
    model = SentenceTransformerEngine.from_files(files, read_pipeline(files))
    rows = model.tokenize(texts())
    return rows, model.compute(rows)


def batches(rows: Sequence[Tokens], tokens: int) -> list[list[int]]:
    """Cut the places of rows, in a random order, into batches of about so many tokens."""
    order = random.Random(tokens).sample(range(len(rows)), len(rows))
    cut: list[list[int]] = [[]]
    for place in order:
        if sum(len(rows[other]) for other in cut[-1]) > tokens:
            cut.append([])
        cut[-1].append(place)
    return cut


def computed(packed: PackedBertEngine, rows: Sequence[Tokens], tokens: int = 1024, cores: int | None = None) -> Vectors:
    vectors = np.full((len(rows), packed.dimension), np.nan, np.float32)
    for batch in batches(rows, tokens):
        vectors[batch] = packed.compute([rows[place] for place in batch], cores)
    return vectors


def cosines(ours: Vectors, theirs: Vectors) -> npt.NDArray[np.float64]:
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return np.asarray((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


@pytest.mark.slow
def test_vectors_equal_the_reference_over_two_thousand_texts() -> None:
    rows, theirs = reference()
    assert engine().tokenize(texts()) == rows
    ours = computed(engine(), rows)
    assert cosines(ours, theirs).min() >= 0.9999999
    assert np.abs(ours - theirs).max() <= 1e-6


@pytest.mark.slow
def test_vectors_of_bfloat16_point_where_the_reference_does() -> None:
    rows, theirs = reference()
    assert cosines(computed(engine(torch.bfloat16), rows), theirs).min() >= 0.9998


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_vector_is_the_same_bits_in_any_company_and_with_any_number_of_threads(dtype: torch.dtype) -> None:
    packed = engine(dtype)
    rows = packed.tokenize(texts()[:11] + texts()[-85:])
    alone = np.stack([packed.compute([row])[0] for row in rows])
    for cores in (1, 2, 3, 4, 8):
        for tokens in (1, 300, 4096) if cores > 2 else (1, 40, 300, 1024, 4096):
            assert np.array_equal(computed(packed, rows, tokens, cores), alone), (cores, tokens)


def test_a_vector_is_the_same_bits_in_another_process() -> None:
    sample = texts()[20:60]
    program = (
        "import sys; from hashlib import sha256; from tests.enclave.test_packed_bert import engine, texts;"
        "e = engine(); print(sha256(e.compute(e.tokenize(texts()[20:60])[::-1])[::-1].tobytes()).hexdigest())"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == sha256(engine().compute(engine().tokenize(sample)).tobytes()).hexdigest()


def test_vectors_are_the_same_bits_while_other_threads_compute_and_without_compiling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed, rows = engine(), engine().tokenize(texts()[:120])
    alone = computed(packed, rows)
    with ThreadPoolExecutor(3) as threads:
        for vectors in threads.map(partial(computed, packed, rows), (40, 100, 256, 300, 512, 1024), (1, 2, 4) * 2):
            assert np.array_equal(vectors, alone)
    assert not isinstance(packed._encoder, BertEncoder)  # it is compiled
    monkeypatch.setattr(packed_bert, "scripted", lambda module, _samples: module)
    files = minilm.files()
    assert np.array_equal(computed(PackedBertEngine.from_files(files, read_pipeline(files)), rows), alone)


def test_without_the_prepacked_operators_the_documented_ones_give_the_same_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = engine().tokenize(texts()[:60])
    monkeypatch.setattr(linear, "can_prepack", lambda _dtype: False)
    files = minilm.files()
    plain = PackedBertEngine.from_files(files, read_pipeline(files))
    assert np.abs(computed(plain, rows) - computed(engine(), rows)).max() <= 1e-6
    alone = np.stack([plain.compute([row])[0] for row in rows])
    assert np.array_equal(computed(plain, rows), alone)


class Neighbourly(Linear):
    """A layer whose rows depend on how many there are."""

    def _compute(self, rows: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        return super()._compute(rows, residual) + 1e-7 * rows.shape[0]


def test_a_kernel_that_lets_rows_depend_on_their_number_always_gets_the_same_number() -> None:
    layer = Neighbourly(torch.randn(8, 16), torch.randn(8))
    assert not keep_rows_apart([layer], [layer])
    rows = torch.randn(2 * BLOCK_ROWS, 16)
    assert torch.equal(layer(rows)[:BLOCK_ROWS], layer(rows[:BLOCK_ROWS].clone()))
    sound = Linear(torch.randn(8, 16), torch.randn(8))
    assert keep_rows_apart([sound], [sound])
    assert (layer.in_blocks, sound.in_blocks) == (True, False)


def test_tokens_without_an_embedding_and_rows_too_long_are_refused() -> None:
    for row in ([101, 30_522, 102], [101, -1, 102], [101] * 513):
        with pytest.raises(RequestRefused):
            engine().compute([[101, 102], row])


def small(**config: object) -> Files:
    return {name: memoryview(bytearray(raw)) for name, raw in bert_folder.bert_files(**config).items()}


def pooled(*modes: str) -> Files:
    settings = b'{"word_embedding_dimension": 16, %s}' % b", ".join(
        b'"pooling_mode_%s": true' % m.encode() for m in modes
    )
    return {**small(), "1_Pooling/config.json": memoryview(bytearray(settings))}


@pytest.mark.parametrize("mode", ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"])
def test_every_pooling_equals_the_reference(mode: str) -> None:
    files = pooled(mode)
    pipeline = read_pipeline(files)
    assert PackedBertEngine.takes(pipeline)
    ours, theirs = (kind.from_files(files, pipeline) for kind in (PackedBertEngine, SentenceTransformerEngine))
    rows = ours.tokenize(["word1 word2 word3", "word9", "word4 word5"])
    assert np.abs(ours.compute(rows) - theirs.compute(rows)).max() <= 1e-6


@pytest.mark.parametrize(
    "files", [pooled("cls_token", "mean_tokens"), small(hidden_act="relu")], ids=["two poolings", "another activation"]
)
def test_what_the_packed_engine_does_not_know_the_reference_computes(files: Files) -> None:
    assert isinstance(build_engine(files), SentenceTransformerEngine)


def test_an_enclave_of_bert_models_never_loads_the_reference() -> None:
    program = (
        "import sys, ephemeral_enclave.server; print({'sentence_transformers', 'transformers'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()"


def test_an_empty_row_is_its_own_fault() -> None:
    with np.errstate(all="ignore"):
        assert np.isfinite(engine().compute([[101, 102], []])).all(1).tolist() == [True, False]


def overflowing() -> Files:
    """Make a model whose numbers overflow at word7, and which has no embedding for word59."""
    files = bert_folder.bert_files(vocab_size=63)
    weights = load(files["model.safetensors"])
    weights["embeddings.word_embeddings.weight"][bert_folder.WORDS.index("word7")] = 3e38
    return {name: memoryview(bytearray(raw)) for name, raw in {**files, "model.safetensors": save(weights)}.items()}


POISONS = {
    "not finite": "word1 word7",
    "no embedding": "word1 word59",
    "lone surrogate": "word1 \ud800",
    "no tokens": " \t ",
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
async def test_poison_at_every_place_of_a_real_batch_leaves_the_others_their_solo_bits(poison: str) -> None:
    packed = build_engine(overflowing())
    assert isinstance(packed, PackedBertEngine)
    sound = [" ".join(f"word{1 + (place * 5 + n) % 5}" for n in range(1 + place % 4)) for place in range(8)]
    alone = packed.compute(packed.tokenize(sound))
    assert np.isfinite(alone).all()
    batcher = Batcher(32)
    for place in range(8):
        asked = [*sound[:place], poison, *sound[place:]]
        jobs = (batcher.submit(packed, [text], at) for at, text in enumerate(asked))
        answers = await asyncio.wait_for(asyncio.gather(*jobs, return_exceptions=True), 60)
        assert isinstance(answers.pop(place), RequestRefused)
        assert np.array_equal(np.concatenate([answer.result.vectors for answer in answers]), alone)
    batcher.close()


async def test_text_of_ten_megabytes_is_computed_cut_and_beside_the_others() -> None:
    packed, batcher = engine(), Batcher(8)
    asked = ["before", "pain " * 2_000_000, "after"]
    answers = await asyncio.gather(*(batcher.submit(packed, [text], text[:9]) for text in asked))
    cut = ["before", "pain " * 600, "after"]
    assert np.array_equal(
        np.concatenate([answer.result.vectors for answer in answers]), packed.compute(packed.tokenize(cut))
    )
    batcher.close()


def test_rows_of_one_token_and_more_than_512_of_them_are_the_same_bits_in_any_company() -> None:
    packed = engine()
    rows = [[token] for token in range(1000, 1300)] + [[101, token] for token in range(1000, 1300)] + [[101] * 256] * 2
    alone = np.stack([packed.compute([row])[0] for row in rows[::7]])
    assert np.array_equal(packed.compute(rows)[::7], alone)
    assert np.array_equal(packed.compute(rows[::-1])[::-1][::7], alone)


def test_text_without_tokens_is_refused_before_any_engine_sees_it() -> None:
    tokenizer = read_tokenizer(memoryview(json.dumps(bert_folder.TOKENIZER).encode()), 16)
    with pytest.raises(RequestRefused, match="no tokens"):
        encode(tokenizer, ["word1", " "])


@pytest.mark.parametrize("longest", [1, 2])
def test_limit_without_room_for_a_text_is_refused_at_load(longest: int) -> None:
    special = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    raw = json.dumps({**bert_folder.TOKENIZER, "post_processor": special}).encode()
    with pytest.raises(ModelFormatError) as caught:
        read_tokenizer(memoryview(raw), longest)
    assert caught.value.code == "CONFIG_MALFORMED"
    assert len(encode(read_tokenizer(memoryview(raw), 3), ["word1 word2"])[0]) == 3


def test_pipeline_type_is_what_both_engines_read() -> None:
    assert isinstance(read_pipeline(minilm.files()), Pipeline)
