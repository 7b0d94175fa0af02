"""What is refused before anything leaves the machine is what the enclave's own loader refuses, for the same reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from ephemeral.errors import ModelFormatError
from ephemeral_enclave.engine import Engine
from ephemeral_enclave.engines import build_engine
from ephemeral_enclave.pipeline import read_pipeline
from ephemeral_enclave.sentence_transformer import SentenceTransformerEngine
from ephemeralml.publishing.checks import check_bfloat16, check_model, inspect_model
from tests.support import minilm
from tests.support.bert_folder import MODULES, bert_files, tensors, write_files
from tests.support.tiny_model import save_tiny_model

Files = dict[str, bytes]
Change = Callable[[Files], object]
WEIGHTS, LAST = "model.safetensors", "pooler.dense.bias"


def with_json(name: str, **changes: Any) -> Change:
    return lambda files: files.update({name: json.dumps({**json.loads(files.get(name, b"{}")), **changes}).encode()})


def with_raw(name: str, raw: bytes) -> Change:
    return lambda files: files.update({name: raw})


def without(name: str) -> Change:
    return lambda files: files.pop(name)


def with_tensors(**changes: Any) -> Change:
    """Replace tensors by name; None takes one away."""
    held = {name.replace("__", "."): value for name, value in changes.items()}
    kept = {name: value for name, value in {**tensors(), **held}.items() if value is not None}
    return with_raw(WEIGHTS, save(kept))


def with_header(edit: Callable[[dict[str, Any]], object]) -> Change:
    def change(files: Files) -> None:
        raw = files[WEIGHTS]
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        edit(header)
        changed = json.dumps(header).encode()
        files[WEIGHTS] = len(changed).to_bytes(8, "little") + changed + raw[8 + size :]

    return change


def with_modules(*modules: Any) -> Change:
    return with_raw("modules.json", json.dumps(list(modules)).encode())


def shifted(header: dict[str, Any]) -> None:
    header[LAST]["data_offsets"] = [offset + 4 for offset in header[LAST]["data_offsets"]]


def bfloat16(files: Files) -> None:
    """Store the weights as bfloat16, which is the upper half of each float32, with an infinity at the end."""
    header: dict[str, Any] = {}
    data = b""
    for name, value in load(files[WEIGHTS]).items():
        halves = (value.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(halves)],
        }
        data += halves
    raw = json.dumps(header).encode()
    files[WEIGHTS] = len(raw).to_bytes(8, "little") + raw + data


def infinite_bfloat16(files: Files) -> None:
    bfloat16(files)
    files[WEIGHTS] = files[WEIGHTS][:-2] + b"\x80\x7f"


BERT_PROCESSING = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}},
}


def with_special_tokens(processor: dict[str, object], length: int) -> Change:
    def change(files: Files) -> None:
        with_json("tokenizer.json", post_processor=processor)(files)
        files["sentence_bert_config.json"] = b'{"max_seq_length": %d}' % length

    return change


GOOD: dict[str, Change] = {
    "as it is": lambda _: None,
    "half precision": lambda files: files.update({WEIGHTS: save(tensors(np.float16))}),
    "bfloat16": bfloat16,
    "stored buffer": with_tensors(embeddings__position_ids=np.arange(32, dtype=np.int64)[None]),
    "no sentence_bert_config.json": without("sentence_bert_config.json"),
    "no max_seq_length": with_raw("sentence_bert_config.json", b'{"max_seq_length": null}'),
    "room for one token": with_special_tokens(BERT_PROCESSING, 3),
    "no default prompt": with_json("config_sentence_transformers.json", default_prompt_name=None),
    "new spelling of pooling": with_raw("1_Pooling/config.json", b'{"embedding_dimension": 16, "pooling_mode": "cls"}'),
    "two pooling modes": with_json("1_Pooling/config.json", pooling_mode_max_tokens=True),
    "no normalisation": with_modules(*MODULES[:2]),
    "pickle beside the weights": with_raw("pytorch_model.bin", b"\x80\x04N."),
}
# The enclave's loader must refuse these too, with the same code.
BAD: dict[str, tuple[str, Change]] = {
    "no weights": ("FILE_MISSING", without(WEIGHTS)),
    "pickle in place of the weights": (
        "FILE_MISSING",
        lambda files: files.update({"pytorch_model.bin": files.pop(WEIGHTS)}),
    ),
    "no tokenizer": ("FILE_MISSING", without("tokenizer.json")),
    "no config": ("FILE_MISSING", without("config.json")),
    "no modules": ("FILE_MISSING", without("modules.json")),
    "no pooling configuration": ("FILE_MISSING", without("1_Pooling/config.json")),
    "config that is no JSON": ("JSON_MALFORMED", with_raw("config.json", b"{")),
    "config that is a list": ("JSON_MALFORMED", with_raw("config.json", b"[]")),
    "config that is not UTF-8": ("JSON_MALFORMED", with_raw("config.json", b'{"\xff": 1}')),
    "duplicate key": (
        "JSON_MALFORMED",
        lambda files: files.update({"config.json": b'{"vocab_size": 64, ' + files["config.json"][1:]}),
    ),
    "NaN": ("JSON_MALFORMED", with_raw("config.json", b'{"layer_norm_eps": NaN}')),
    "JSON nested too deeply": ("JSON_MALFORMED", with_raw("tokenizer.json", b"[" * 100_000)),
    "huge tokenizer": ("JSON_TOO_LARGE", with_raw("tokenizer.json", b" " * (8 * 1024 * 1024 + 1))),
    "code of its own": ("ARCHITECTURE_UNSUPPORTED", with_json("config.json", auto_map={"AutoModel": "evil.Model"})),
    "unknown architecture": ("ARCHITECTURE_UNSUPPORTED", with_json("config.json", model_type="no-such")),
    "no architecture": ("ARCHITECTURE_UNSUPPORTED", with_json("config.json", model_type=None)),
    "a million layers": ("CONFIG_MALFORMED", with_json("config.json", num_hidden_layers=1_000_000)),
    "layers as text": ("CONFIG_MALFORMED", with_json("config.json", num_hidden_layers="one")),
    "heads that do not divide": ("CONFIG_MALFORMED", with_json("config.json", num_attention_heads=3)),
    "unknown activation": ("CONFIG_MALFORMED", with_json("config.json", hidden_act="no-such")),
    "padding outside the vocabulary": ("CONFIG_MALFORMED", with_json("config.json", pad_token_id=64)),
    "epsilon as text": ("CONFIG_MALFORMED", with_json("config.json", layer_norm_eps="small")),
    "more layers than weights": ("TENSORS_MISMATCH", with_json("config.json", num_hidden_layers=2)),
    "another width": ("TENSORS_MISMATCH", with_json("config.json", intermediate_size=64)),
    "tensor missing": ("TENSORS_MISMATCH", with_tensors(pooler__dense__bias=None)),
    "tensor of another shape": ("TENSORS_MISMATCH", with_tensors(pooler__dense__bias=np.zeros(8, np.float32))),
    "tensor of integers": ("TENSORS_MISMATCH", with_tensors(pooler__dense__bias=np.zeros(16, np.int64))),
    "stray tensor": ("TENSORS_MISMATCH", with_tensors(stray=np.zeros(1, np.float32))),
    "infinity": ("TENSORS_NOT_FINITE", with_tensors(pooler__dense__bias=np.full(16, np.inf, np.float32))),
    "not a number, in half precision": (
        "TENSORS_NOT_FINITE",
        with_tensors(pooler__dense__bias=np.full(16, np.nan, np.float16)),
    ),
    "infinity in bfloat16": ("TENSORS_NOT_FINITE", infinite_bfloat16),
    "weights cut short": ("SAFETENSORS_MALFORMED", lambda files: files.update({WEIGHTS: files[WEIGHTS][:-1]})),
    "bytes left over": ("SAFETENSORS_MALFORMED", lambda files: files.update({WEIGHTS: files[WEIGHTS] + b"x"})),
    "empty weights": ("SAFETENSORS_MALFORMED", with_raw(WEIGHTS, b"")),
    "a claim of 10 GB": ("SAFETENSORS_MALFORMED", with_raw(WEIGHTS, (10**10).to_bytes(8, "little") + b"{}")),
    "300,000 tensors": (
        "SAFETENSORS_MALFORMED",
        with_header(lambda header: header.update({f"t{n}": header[LAST] for n in range(300_000)})),
    ),
    "5,000 tensors": (
        "SAFETENSORS_MALFORMED",
        with_header(
            lambda header: header.update(
                {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(5000)}
            )
        ),
    ),
    "hole": ("SAFETENSORS_MALFORMED", with_header(shifted)),
    "overlap": ("SAFETENSORS_MALFORMED", with_header(lambda header: header.update(again=header[LAST]))),
    "unknown type": ("SAFETENSORS_MALFORMED", with_header(lambda header: header[LAST].update(dtype="F8_E5M2"))),
    "negative shape": ("SAFETENSORS_MALFORMED", with_header(lambda header: header[LAST].update(shape=[-16]))),
    "shape of another size": ("SAFETENSORS_MALFORMED", with_header(lambda header: header[LAST].update(shape=[17]))),
    "key beside the shape": ("SAFETENSORS_MALFORMED", with_header(lambda header: header[LAST].update(x=1))),
    "regular expression that never ends": (
        "TOKENIZER_UNSUPPORTED",
        with_json("tokenizer.json", pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}}),
    ),
    "replacement that grows": ("TOKENIZER_UNSUPPORTED", with_json("tokenizer.json", normalizer={"type": "Replace"})),
    "tokenizer model not on the list": (
        "TOKENIZER_UNSUPPORTED",
        with_json("tokenizer.json", model={"type": "Unigram"}),
    ),
    "decoder not on the list": ("TOKENIZER_UNSUPPORTED", with_json("tokenizer.json", decoder={"type": "ByteLevel"})),
    "too many added tokens": ("TOKENIZER_UNSUPPORTED", with_json("tokenizer.json", added_tokens=[{}] * 4097)),
    "no vocabulary": ("TOKENIZER_MALFORMED", with_json("tokenizer.json", model={"type": "WordPiece"})),
    "modules that are no list": ("MODULES_MALFORMED", with_raw("modules.json", b"{}")),
    "no transformer first": ("MODULES_MALFORMED", with_modules(*MODULES[1:])),
    "module without a type": ("MODULES_MALFORMED", with_modules(MODULES[0], {"path": "1_Pooling"})),
    "module of another kind": (
        "MODULE_UNSUPPORTED",
        with_modules(*MODULES, {"path": "3_Dense", "type": "sentence_transformers.models.Dense"}),
    ),
    "module of its own": ("MODULE_UNSUPPORTED", with_modules(*MODULES[:2], {"path": "x", "type": "evil.Module"})),
    "default prompt": (
        "MODULE_UNSUPPORTED",
        with_json("config_sentence_transformers.json", default_prompt_name="query"),
    ),
    "more positions than the model has": (
        "CONFIG_MALFORMED",
        with_raw("sentence_bert_config.json", b'{"max_seq_length": 33}'),
    ),
    "length that is no number": (
        "CONFIG_MALFORMED",
        with_raw("sentence_bert_config.json", b'{"max_seq_length": "16"}'),
    ),
    "length without room for a text": ("CONFIG_MALFORMED", with_special_tokens(BERT_PROCESSING, 2)),
    "length without room beside a template": ("CONFIG_MALFORMED", with_special_tokens(TEMPLATE, 1)),
    "lower-casing of its own": (
        "MODULE_UNSUPPORTED",
        with_raw("sentence_bert_config.json", b'{"max_seq_length": 16, "do_lower_case": true}'),
    ),
    "unknown pooling": (
        "CONFIG_MALFORMED",
        with_raw("1_Pooling/config.json", b'{"word_embedding_dimension": 16, "pooling_mode": "no-such"}'),
    ),
    "pooling without a width": ("CONFIG_MALFORMED", with_raw("1_Pooling/config.json", b'{"pooling_mode": "mean"}')),
}
# The enclave would load these, and could not serve them well.
STRICTER: dict[str, tuple[str, Change]] = {
    "token that the model has no row for": (
        "TOKENIZER_UNSUPPORTED",
        with_json("tokenizer.json", added_tokens=[{**dict.fromkeys(("single_word", "lstrip"), False), "id": 64}]),
    ),
    "pooling of another width": ("CONFIG_MALFORMED", with_json("1_Pooling/config.json", word_embedding_dimension=8)),
    "decoder": ("CONFIG_MALFORMED", with_json("config.json", is_decoder=True)),
    "architecture that is not checked here": ("ARCHITECTURE_UNSUPPORTED", with_json("config.json", model_type="mpnet")),
    "module that leaves the folder": (
        "MODULES_MALFORMED",
        with_modules(*MODULES, {"path": "../x", "type": "Normalize"}),
    ),
    "no pooling at all": ("MODULE_UNSUPPORTED", with_modules(MODULES[0])),
}


def changed(change: Change) -> Files:
    files = bert_files()
    change(files)
    return files


def codes_here(folder: Path, files: Files) -> list[str]:
    return [problem.code for problem in inspect_model(write_files(folder, files)).problems]


def code_in_the_enclave(files: Files) -> str | None:
    """Return why the enclave refuses; its two engines must agree, or which one is chosen would be a matter of luck."""
    held = {name: memoryview(bytearray(raw)) for name, raw in files.items()}
    code = code_of(lambda: build_engine(held))
    assert code == code_of(lambda: SentenceTransformerEngine.from_files(held, read_pipeline(held)))
    return code


def code_of(build: Callable[[], Engine]) -> str | None:
    try:
        build()
    except ModelFormatError as error:
        return error.code
    return None


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD)
def test_what_the_enclave_loads_may_be_published(change: Change, tmp_path: Path) -> None:
    files = changed(change)
    assert code_in_the_enclave(files) is None
    assert codes_here(tmp_path, files) == []


@pytest.mark.parametrize(("code", "change"), BAD.values(), ids=BAD)
def test_what_the_enclave_refuses_is_refused_before_it_is_published(code: str, change: Change, tmp_path: Path) -> None:
    files = changed(change)
    assert code_in_the_enclave(files) == code
    assert code in codes_here(tmp_path, files)
    with pytest.raises(ModelFormatError):
        check_model(tmp_path)


@pytest.mark.parametrize(("code", "change"), STRICTER.values(), ids=STRICTER)
def test_what_could_not_be_served_well_is_refused_as_well(code: str, change: Change, tmp_path: Path) -> None:
    assert codes_here(tmp_path, changed(change)) == [code]


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    files = bert_files()
    for change in (BAD["default prompt"], BAD["infinity"], BAD["replacement that grows"], BAD["unknown activation"]):
        change[1](files)
    del files["sentence_bert_config.json"]
    assert set(codes_here(tmp_path, files)) == {"MODULE_UNSUPPORTED", "TOKENIZER_UNSUPPORTED", "CONFIG_MALFORMED"}
    with pytest.raises(ModelFormatError, match="and 2 more"):
        check_model(tmp_path)


def test_inspection_says_what_the_model_is() -> None:
    inspection = inspect_model(minilm.FOLDER)
    assert (inspection.problems, inspection.dimension, inspection.max_length) == ((), 384, 256)
    assert (inspection.tensors, inspection.parameters) == (104, 22_713_216)
    assert inspection.dtypes == {"F32": 103, "I64": 1}
    assert "README.md" in inspection.left_out


def test_folder_that_transformers_saved_may_be_published(tmp_path: Path) -> None:
    assert inspect_model(save_tiny_model(tmp_path / "tiny")).problems == ()


def test_folder_that_sentence_transformers_saved_may_be_published(tmp_path: Path) -> None:
    transformer = Transformer(str(save_tiny_model(tmp_path / "tiny")))
    modules = [transformer, Pooling(32, "mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "saved"))
    assert inspect_model(tmp_path / "saved").problems == ()


BFLOAT16: dict[str, tuple[str | None, Change]] = {
    "mean": (None, lambda _files: None),
    "another activation": ("ARCHITECTURE_UNSUPPORTED", with_json("config.json", hidden_act="relu")),
    "two poolings": ("ARCHITECTURE_UNSUPPORTED", with_json("1_Pooling/config.json", pooling_mode_cls_token=True)),
}


@pytest.mark.parametrize(("code", "change"), BFLOAT16.values(), ids=BFLOAT16)
def test_bfloat16_may_be_asked_for_what_an_enclave_computes_in_it(
    code: str | None, change: Change, tmp_path: Path
) -> None:
    files = changed(change)
    held = {name: memoryview(bytearray(raw)) for name, raw in files.items()}
    folder = write_files(tmp_path, files)
    assert code_of(lambda: build_engine(held, torch.bfloat16)) == code
    assert code_of(lambda: check_bfloat16(folder)) == code
