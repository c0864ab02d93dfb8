"""The perceptual loss against torchvision's VGG19, and what it says of files that are none."""

import hashlib
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torchvision.transforms.functional import normalize

import loss.perceptual
from loss.perceptual import Perceptual

LAYERS = {"conv1_2": (2, 0.1), "conv2_2": (7, 0.1), "conv3_4": (16, 1), "conv4_4": (25, 1), "conv5_4": (34, 1)}


@pytest.fixture(scope="module")
def theirs():
    """torchvision's VGG19 with random weights, biases included."""
    torch.manual_seed(0)
    network = torchvision.models.vgg19(weights=None).eval()
    for name, parameter in network.features.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.fixture(scope="module")
def file(theirs, tmp_path_factory):
    """Its state dict in a file, the classifier cut short; of parameters and in the old format, as the real one."""
    state = {f"features.{name}": parameter for name, parameter in theirs.features.named_parameters()}
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    state["classifier.0.weight"] = torch.nn.Parameter(torch.zeros(2, 2))
    torch.save(state, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def perceptual(file):
    return Perceptual(weights=file)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 2, 3, 32, 40, generator=generator).unbind()


def by_hand(theirs, image):
    """The outputs of the five convolutions, copied before the rectifiers of torchvision overwrite them."""
    kept = {}
    handles = [
        theirs.features[index].register_forward_hook(lambda m, i, out, name=name: kept.update({name: out.clone()}))
        for name, (index, _) in LAYERS.items()
    ]
    theirs.features(normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    for handle in handles:
        handle.remove()
    return kept


def test_it_is_the_weighted_distance_of_torchvisions_features(theirs, perceptual, images):
    sr, hr = (image.requires_grad_() for image in images)
    a, b = by_hand(theirs, sr), by_hand(theirs, hr)
    expected = sum(weight * F.l1_loss(a[name], b[name].detach()) for name, (_, weight) in LAYERS.items())
    assert isinstance(expected, torch.Tensor)
    distance = perceptual(sr, hr)
    torch.testing.assert_close(distance, expected, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(distance, sr, retain_graph=True)
    (wanted,) = torch.autograd.grad(expected, sr)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max().item())
    assert torch.autograd.grad(distance, hr, allow_unused=True) == (None,)  # the target learns nothing


def test_the_features_are_not_rectified(theirs, perceptual, images):
    kept = perceptual.features(images[0])
    for (index, _), expected in zip(LAYERS.values(), by_hand(theirs, images[0]).values(), strict=True):
        torch.testing.assert_close(kept[index], expected, rtol=1e-4, atol=1e-4)
        assert kept[index].min() < 0


def test_it_has_nothing_to_train_and_ends_at_conv5_4(perceptual):
    assert not any(parameter.requires_grad for parameter in perceptual.parameters())
    assert not perceptual.training
    assert len(perceptual.vgg) == 35


def test_it_stays_in_float32(perceptual, images):
    expected = perceptual(*images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(perceptual(*images), expected)
    half = perceptual(images[0].bfloat16(), images[1])
    assert half.dtype == torch.float32


def test_its_weights_come_with_a_state(perceptual, images):
    empty = Perceptual(pretrained=False)
    assert not torch.equal(empty(*images), perceptual(*images))
    empty.load_state_dict(perceptual.state_dict())
    assert torch.equal(empty(*images), perceptual(*images))


# ------------------------------------------------------------------------------------------------ bad files


def written(path: Path, contents: object) -> Path:
    torch.save(contents, path)
    return path


@pytest.fixture
def state(theirs):
    """Every key of the features in its shape."""
    return {f"features.{k}": torch.zeros(v.shape) for k, v in theirs.features.state_dict().items()}


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`vgg`: there is no file .*nowhere\.pth"):
        Perceptual(weights=tmp_path / "nowhere.pth")


def test_no_checkpoint(tmp_path):
    path = tmp_path / "vgg.pth"
    path.write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"`vgg`: .*vgg\.pth holds no weights: it is a web page"):
        Perceptual(weights=path)
    path.write_text("404")
    with pytest.raises(ValueError, match=r"`vgg`: .*vgg\.pth cannot be read as a checkpoint"):
        Perceptual(weights=path)


def test_no_state_dict(tmp_path):
    with pytest.raises(ValueError, match=r"`vgg`: .*vgg\.pth holds no state dict, but a list"):
        Perceptual(weights=written(tmp_path / "vgg.pth", [torch.zeros(1)]))


def test_keys_missing(tmp_path, state):
    for name in ("features.7.weight", "features.34.bias"):
        del state[name]
    with pytest.raises(ValueError, match=r"`vgg`: .*features\.7\.weight is missing.*features\.34\.bias is missing"):
        Perceptual(weights=written(tmp_path / "vgg.pth", state))


def test_wrong_shapes(tmp_path, state):
    state["features.0.weight"] = torch.zeros(64, 1, 3, 3)
    message = r"`vgg`: .*features\.0\.weight is \(64, 1, 3, 3\), not \(64, 3, 3, 3\).*The right file is https"
    with pytest.raises(ValueError, match=message):
        Perceptual(weights=written(tmp_path / "vgg.pth", state))


def test_another_network(tmp_path):
    with pytest.raises(ValueError, match=r"features\.0\.weight is missing.* and 29 more"):
        Perceptual(weights=written(tmp_path / "vgg.pth", {"step": 3, "net": {}}))


@pytest.mark.parametrize("error", [URLError("no route to host"), RuntimeError("invalid hash value")])
def test_offline(tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(
        ValueError, match=r"cannot be downloaded.*put it at .*vgg19-dcbb9e9d\.pth, or name it with `vgg`"
    ):
        Perceptual()


def test_a_download_is_kept(tmp_path, monkeypatch, file, images):
    calls = []

    def download(url, path, hash_prefix, **options):
        calls.append((url, hash_prefix))
        Path(path).symlink_to(file)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(loss.perceptual, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    first, second = Perceptual(), Perceptual()
    (call,) = calls
    assert call == (torchvision.models.VGG19_Weights.IMAGENET1K_V1.url, loss.perceptual.SHA256)
    assert torch.equal(first(*images), second(*images))


def test_a_file_of_that_name_with_another_hash_is_damaged(file, tmp_path):
    (tmp_path / "vgg19-dcbb9e9d.pth").symlink_to(file)
    with pytest.raises(ValueError, match="is damaged: its SHA-256 does not begin with dcbb9e9d"):
        Perceptual(weights=tmp_path / "vgg19-dcbb9e9d.pth")
