"""A bundle is read back completely or refused."""

import json
import re
import zipfile
from dataclasses import replace

import pytest

from edge import BundleContract, BundleError, read_contract, write_bundle
from edge.inference.bundle import CONTRACT_NAME, TAGGER_NAME, read_tagger


@pytest.fixture
def intact(tmp_path, tiny_model, make_contract):
    """Path of a fresh bundle, and the size of its model."""
    path, model = tmp_path / "model.tflite", tiny_model("log_mel")
    write_bundle(path, model, make_contract())
    return path, len(model)


def rewrite_contract(path, size, change):
    """Replace the contract of the bundle at `path` by `change(contract)`."""
    with zipfile.ZipFile(path) as archive:
        values = json.loads(archive.read(CONTRACT_NAME))
    path.write_bytes(path.read_bytes()[:size])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(CONTRACT_NAME, json.dumps(change(values)))


def overwrite(path, position, byte):
    """Replace one byte of a file."""
    with path.open("r+b", buffering=0) as file:
        file.seek(position)
        file.write(bytes([byte]))


def test_round_trip(intact, make_contract):
    path, _ = intact
    contract = read_contract(path)
    assert contract == make_contract()
    assert isinstance(contract, BundleContract)
    assert contract.input_shape == (1, 101, 64)
    assert make_contract("waveform").input_shape == (1, 32_000)
    assert path.read_bytes()[4:8] == b"TFL3"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [CONTRACT_NAME]


def test_independent_scores_are_part_of_the_contract(independent_bundle, make_contract, intact):
    assert read_contract(independent_bundle) == make_contract(exclusive=False)
    with zipfile.ZipFile(independent_bundle) as archive:
        values = json.loads(archive.read(CONTRACT_NAME))
    assert (values["schema_version"], values["exclusive"], values["logit_bias"]) == (4, False, -1.5)
    with zipfile.ZipFile(intact[0]) as archive:
        values = json.loads(archive.read(CONTRACT_NAME))
    assert values["schema_version"] == 2  # as before, for earlier runtimes
    assert not {"exclusive", "logit_bias"} & values.keys()
    assert read_contract(intact[0]).exclusive


def test_truncated_anywhere(intact):
    path, size = intact
    data = path.read_bytes()
    for length in [0, 1, 100, size - 1, size, size + 1, size + 200, len(data) - 22, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(BundleError, match="not a complete"):
            read_contract(path)


def test_flipped_bits_never_change_the_contract(intact, make_contract):
    """Tries every byte of the zip, and bytes throughout the model."""
    path, size = intact
    data = path.read_bytes()
    refused = 0
    positions = [*range(0, size, 97), *range(size, len(data))]
    for position in positions:
        # In place, since truncating a file takes longer than reading it.
        overwrite(path, position, data[position] ^ 1 << (position % 8))
        try:
            assert read_contract(path) == make_contract()
        except BundleError:
            refused += 1
        else:
            assert position >= size  # A time stamp or similar in the zip directory.
        overwrite(path, position, data[position])
    assert path.read_bytes() == data
    assert refused > 0.8 * len(positions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v | {"schema_version": 1}, "contract version 1, this runtime reads 2"),
        (lambda v: {k: v[k] for k in v if k != "labels"}, "labels"),
        (lambda v: v | {"surprise": 1}, "surprise"),
        (lambda v: v | {"front_end": v["front_end"] | {"hop_length": 600}}, "hop_length must"),
        (lambda v: v | {"front_end": v["front_end"] | {"window_seconds": 1e999}}, "infinity"),
        (lambda v: v | {"inputs": "mfcc"}, "`inputs` must be"),
        (lambda v: v | {"quantization": "int4"}, "`quantization` must be"),
        (lambda v: {k: v[k] for k in v if k != "probe"}, "probe"),
        (lambda v: v | {"probe": None}, "cannot read"),
        (lambda v: v | {"probe": {"scores": [1]}}, "cosines"),
        (lambda v: v | {"probe": {"scores": ["x"], "cosines": [0]}}, "'x'"),
        (lambda v: v | {"probe": {"scores": [1, 0], "cosines": [0]}}, "Received: 2 and 1"),
        (lambda v: v | {"probe": {"scores": [1], "cosines": [0]}}, "each of the 5 labels"),
        (lambda v: v | {"labels": ["rain"] * 5}, "must differ"),
        (lambda v: v | {"prompts": []}, "`prompts` must"),
        (lambda v: v | {"exclusive": 0}, "`exclusive` must be true or false. Received: 0"),
        (lambda v: v | {"logit_bias": 1}, "0 for exclusive scores. Received: 1"),
        (lambda v: v | {"exclusive": False, "logit_bias": 1e999}, "must be finite"),
        (lambda v: v | {"exclusive": False, "logit_bias": "x"}, "cannot read"),
        (lambda v: v | {"model_sha256": "0" * 64}, "checksum"),
        (lambda v: v | {"model_bytes": 10}, "checksum"),
        (lambda v: v | {"model_bytes": "many"}, "many"),
        (lambda v: [v], "not an object"),
        # A megabyte of zip that unpacks to far more.
        (lambda v: v | {"licence": " " * (17 << 20)}, "at most 16,777,216 are read"),
    ],
)
def test_wrong_contracts_are_refused(intact, change, message):
    path, size = intact
    rewrite_contract(path, size, change)
    with pytest.raises(BundleError, match=re.escape(message)):
        read_contract(path)


@pytest.mark.parametrize("calibration", [None, {"temperature": 1.5}])
def test_bundles_with_a_calibration_from_earlier_releases_load(intact, make_contract, calibration):
    path, size = intact
    rewrite_contract(path, size, lambda values: values | {"calibration": calibration})
    assert read_contract(path) == make_contract()


def test_other_files_are_refused(tmp_path, tiny_model):
    with pytest.raises(BundleError, match="No model at"):
        read_contract(tmp_path / "missing.tflite")
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(tiny_model("log_mel"))
    with pytest.raises(BundleError, match="not a complete semanticac bundle"):
        read_contract(bare)


def test_only_flatbuffers_become_bundles(tmp_path, make_contract):
    with pytest.raises(ValueError, match="TFLite flatbuffer"):
        write_bundle(tmp_path / "model.tflite", b"PK\x03\x04 not a model", make_contract())
    assert list(tmp_path.iterdir()) == []


def test_contracts_without_a_probe_are_not_written(tmp_path, tiny_model, make_contract):
    with pytest.raises(ValueError, match="must have a `probe`"):
        write_bundle(
            tmp_path / "m.tflite", tiny_model("log_mel"), replace(make_contract(), probe=None)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_tagger_is_the_second_file(tagger_bundle, tiny_model, make_contract):
    contract = read_contract(tagger_bundle)
    assert contract == make_contract("embeddings")
    assert contract.input_shape == (1, 7, 16)
    assert read_tagger(tagger_bundle, contract.tagger) == tiny_model("tagger")
    with zipfile.ZipFile(tagger_bundle) as archive:
        assert archive.namelist() == [CONTRACT_NAME, TAGGER_NAME]


def test_an_altered_or_missing_tagger_is_refused(tagger_bundle, tiny_model, tmp_path):
    with zipfile.ZipFile(tagger_bundle) as archive:
        contract = archive.read(CONTRACT_NAME)
    for content in (None, tiny_model("tagger")[:-1] + b"\x01"):
        path = tmp_path / "model.tflite"
        path.write_bytes(tiny_model("embeddings"))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(CONTRACT_NAME, contract)
            if content is not None:
                archive.writestr(TAGGER_NAME, content)
        with pytest.raises(BundleError, match=r"not a complete|tagger does not match"):
            read_contract(path)


@pytest.mark.parametrize("tagger", [None, b"1234TFL3 another"])
def test_a_tagger_that_is_not_the_contracts_is_not_written(
    tiny_model, make_contract, tagger, tmp_path
):
    with pytest.raises(ValueError, match="`tagger` must have the digest"):
        write_bundle(
            tmp_path / "m.tflite", tiny_model("embeddings"), make_contract("embeddings"), tagger
        )
    assert not list(tmp_path.iterdir())
