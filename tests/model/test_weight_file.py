"""Weight files: what is written is read, what is damaged or no weights is refused."""

import errno
import json
import random
import struct
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from model import build, checkpoint, load_model, read_file, save_model, write_file
from model.weight_file import DEPTH, digest

SIZES = {"scale": 2, "n_feats": 4, "n_blocks": 1, "n_resblocks": 1}
CONTENTS = {
    "tensors": {
        "matrix": torch.arange(6.0).view(2, 3).T,
        "scalar": torch.tensor(0.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "counter": torch.tensor([7]),
        "mask": torch.tensor([True, False]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "half": torch.ones(2, dtype=torch.float16),
        "bfloat": torch.ones(2, dtype=torch.bfloat16),
        "complex": torch.tensor([1 + 2j]),
    },
    "plain": [1, 1.5, float("inf"), True, None, "text", b"raw", (1, [2])],
    "optimizer": {"state": {0: {"step": 3}, 1: {}}, "param_groups": [OrderedDict(lr=1e-4)]},
}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_what_is_written_is_read(tmp_path):
    write_file(CONTENTS, tmp_path / "file.pt")
    assert same(read_file(tmp_path / "file.pt"), CONTENTS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a pointer of Git LFS; `git lfs pull`"),
        (b"<!DOCTYPE html><html>", "a web page; download the file itself"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_lies_in_the_place_of_weights_is_named(content, words, suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"holds no weights: it is {words}"):
        read_file(path)


@pytest.mark.parametrize("suffix", ["", ".bin", ".pt"])
def test_safetensors_of_another_name(suffix, tmp_path):
    net = build("KDSR_S", **SIZES)
    save_model(net, tmp_path / "net.safetensors")
    path = (tmp_path / "net.safetensors").rename(tmp_path / f"net{suffix or '_of_no_kind'}")
    assert same(load_model(path).state_dict(), net.state_dict())


def test_the_digest_tells_values_apart_and_not_the_order_of_keys():
    variants = [
        {"a": 1},
        {"a": 1.0},
        {"a": True},
        {"a": "1"},
        {"b": 1},
        {"a": [1]},
        {"a": {0: 1}},
        {"a": {"0": 1}},
        {"a": torch.tensor(1)},
        {"a": torch.tensor([1])},
        {"a": torch.tensor([[1]])},
        {"a": torch.tensor([1], dtype=torch.int32)},
        {"a": torch.tensor([2])},
        {"a": [1, 2]},
        {"a": [[1], 2]},
        {"a": ["1", "2"]},
        {"a": ["12", ""]},
    ]
    assert len({digest(variant, "file") for variant in variants}) == len(variants)
    assert digest({"a": 1, "b": 2}, "file") == digest({"b": 2, "a": 1}, "file")


def flipped(path: Path, source: bytes, position: int) -> None:
    damaged = bytearray(source)
    damaged[position // 8] ^= 1 << position % 8
    path.write_bytes(damaged)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_flipped_bit_is_refused_or_changes_no_tensor(suffix, tmp_path):
    torch.manual_seed(0)
    net = build("KDSR_S", **SIZES)
    path = tmp_path / f"net{suffix}"
    save_model(net, path)
    source, expected, draw = path.read_bytes(), net.state_dict(), random.Random(0)
    refused = 0
    # All over the file, and once more where its structure stands.
    positions = [draw.randrange(8 * len(source)) for _ in range(300)]
    positions += [draw.randrange(8 * 2000) for _ in range(150)]
    positions += [8 * len(source) - 1 - draw.randrange(8 * 2000) for _ in range(150)]
    for position in positions:
        flipped(path, source, position)
        try:
            state = load_model(path).state_dict()
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 (either outcome is right)
            refused += 1
        else:
            assert same(dict(state), dict(expected))
    assert refused > len(positions) // 2


def test_damage_that_the_checksums_of_the_zip_do_not_show(tmp_path):
    """As where a program rewrote the file: the zip is in order, the digest is not."""
    path = tmp_path / "net.pt"
    write_file({"weights": torch.ones(3)}, path)
    contents = torch.load(path, weights_only=True)
    contents["weights"][1] = 2
    torch.save(contents, path)
    with pytest.raises(ValueError, match=r"net\.pt is damaged: .* digest"):
        read_file(path)


def test_files_without_a_digest_have_their_checksums_verified(tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"weights": torch.full((1000,), 1.25)}, path)
    source = path.read_bytes()
    inside = source.index(struct.pack("<f", 1.25) * 1000) + 2000
    flipped(path, source, 8 * inside)
    with pytest.raises(ValueError, match=r"net\.pt .*checksum"):
        read_file(path)


def test_a_safetensors_file_that_lost_its_digest(tmp_path):
    path = tmp_path / "net.safetensors"
    save_model(build("KDSR_S", **SIZES), path)
    path.write_bytes(path.read_bytes().replace(b'"digest"', b'"digesu"'))
    with pytest.raises(ValueError, match="digest is missing"):
        load_model(path)


def quantized():
    return torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.quint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.ones(4).to_sparse(), "sparse"),
        (lambda: torch.ones(4, 4).to_sparse_csr(), "sparse"),
        (quantized, "quantized"),
        (lambda: torch.ones(4, device="meta"), "meta"),
        (lambda: torch.ones(4).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda: torch.ones(1).expand(4), "expanded"),
        (lambda: torch.ones(6).as_strided((3, 3), (1, 1)), "expanded"),
        (lambda: torch.ones(4, dtype=torch.complex64), "complex64"),
        (lambda: torch.ones(4, dtype=torch.int8), "int8"),
        (lambda: torch.ones(4, dtype=torch.bool), "bool"),
        (lambda: torch.full((4,), torch.nan), "not finite"),
        (lambda: torch.full((4,), -torch.inf), "not finite"),
    ],
)
def test_tensors_that_are_no_weights(make, kind, tmp_path):
    contents = checkpoint(build("KDSR_S", **SIZES))
    key = "restoration.head.bias"
    contents["params"][key] = make()
    torch.save(contents, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=kind) as caught:
        load_model(tmp_path / "net.pt")
    assert "net.pt" in str(caught.value)
    assert key in str(caught.value)


def test_what_write_file_refuses_is_named(tmp_path):
    for value, name in ((object(), "object"), ({1, 2}, "set"), (lambda: 0, "function")):
        with pytest.raises(ValueError, match=rf"\['a'\]\[0\] is a {name}"):
            write_file({"a": [value]}, tmp_path / "file.pt")
    assert not (tmp_path / "file.pt").exists()


def test_deep_nesting(tmp_path):
    deep = []
    for _ in range(DEPTH + 5):
        deep = [deep]
    torch.save({"deep": deep}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=r"file\.pt is nested deeper than 32 levels"):
        read_file(tmp_path / "file.pt")


def test_few_bytes_that_claim_to_be_many_values(tmp_path):
    many = [0] * 10
    for _ in range(20):
        many = [many] * 10
    torch.save({"many": many}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=r"file\.pt holds more than 1000000 values"):
        read_file(tmp_path / "file.pt")


def test_a_full_disk_is_an_oserror():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_file({"weights": torch.zeros(10**6)}, "/dev/full")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_breaks_a_file_off_is_not_hidden(kind, tmp_path, monkeypatch):
    """A signal may come at any write; PyTorch then raises an error of its own."""

    class Interrupted:
        def __init__(self, file):
            self.file, self.writes = file, 0

        def write(self, data):
            self.writes += 1
            if self.writes == 3:
                raise kind
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda contents, file: save(contents, Interrupted(file)))  # pyright: ignore[reportArgumentType]
    with pytest.raises(kind):
        write_file({"weights": [torch.zeros(10) for _ in range(9)]}, tmp_path / "file.pt")


@pytest.mark.parametrize("metadata", ["{", "[" * 10**5, '"KDSR_S"'])
def test_metadata_of_safetensors_that_is_no_checkpoint(metadata, tmp_path):
    path = tmp_path / "net.safetensors"
    header = json.dumps({"__metadata__": {"network": metadata}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match=r"net\.safetensors"):
        load_model(path)
