"""Learned metrics are optional: without their libraries or weights an error says what to do."""

import sys
from types import ModuleType

import pytest
import torch

from evaluation import metric
from evaluation.evaluate import score_image

CPU = torch.device("cpu")


def make(name):
    return metric.make(name, device=CPU)


def test_lpips_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    with pytest.raises(ValueError, match="LPIPS needs a library: pip install torchmetrics"):
        make("lpips_alex")


def test_lpips_without_the_weights(monkeypatch):
    library = ModuleType("torchmetrics.image.lpip")

    def offline(*features, **options):
        raise OSError("no route to host")

    library.LearnedPerceptualImagePatchSimilarity = offline  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", library)
    with pytest.raises(ValueError, match=r"could not load the weights of its vgg network.*checkpoints"):
        make("lpips_vgg")


def test_lpips_is_asked_for_images_one_by_one(monkeypatch):
    class Distance(torch.nn.Module):
        def __init__(self, net_type, *, normalize):
            super().__init__()
            assert (net_type, normalize) == ("vgg", True)

        def forward(self, sr, hr):
            assert len(sr) == 1
            return (sr - hr).abs().mean()

        def reset(self):
            pass

    library = ModuleType("torchmetrics.image.lpip")
    library.LearnedPerceptualImagePatchSimilarity = Distance  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", library)
    sr = torch.stack([torch.full((3, 4, 4), level) for level in (0.25, 0.5)])
    assert make("lpips_vgg")(sr, torch.zeros(2, 3, 4, 4)).tolist() == [0.25, 0.5]


def test_dists_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image.dists", None)
    with pytest.raises(ValueError, match="DISTS needs a library: pip install torchmetrics"):
        make("dists")


def test_dists_is_asked_for_images_one_by_one(monkeypatch):
    class Distance(torch.nn.Module):
        def forward(self, sr, hr):
            assert len(sr) == 1
            return (sr - hr).abs().mean()

    library = ModuleType("torchmetrics.functional.image.dists")
    library.DISTSNetwork = Distance  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image.dists", library)
    sr = torch.stack([torch.full((3, 4, 4), level) for level in (0.25, 0.5)])
    assert make("dists")(sr, torch.zeros(2, 3, 4, 4)).tolist() == [0.25, 0.5]
    library.DISTSNetwork = lambda: (_ for _ in ()).throw(OSError("no route"))  # pyright: ignore
    with pytest.raises(ValueError, match=r"weights of its vgg network for DISTS \(no route\)"):
        make("dists")


class Stub(torch.nn.Module):
    """Like pyiqa's: gives (1, 1)."""

    def forward(self, image):
        if min(image.shape[2:]) < 16:
            raise AssertionError("too small")
        return image.mean().view(1, 1)


@pytest.fixture
def pyiqa(monkeypatch):
    def create_metric(name, device):
        if name == "musiq":
            raise OSError("no route to host")
        return Stub().to(device)

    library, configs = ModuleType("pyiqa"), ModuleType("pyiqa.default_model_configs")
    library.create_metric = create_metric  # pyright: ignore[reportAttributeAccessIssue]
    configs.DEFAULT_CONFIGS = {  # pyright: ignore[reportAttributeAccessIssue]
        "ssim": {"metric_mode": "FR"},
        "clipiqa+": {"metric_mode": "NR"},
        "brisque": {"metric_mode": "NR", "lower_better": True},
        **{name: {"metric_mode": "NR"} for name in ("maniqa", "musiq", "niqe")},
    }
    monkeypatch.setitem(sys.modules, "pyiqa", library)
    monkeypatch.setitem(sys.modules, "pyiqa.default_model_configs", configs)


@pytest.mark.usefixtures("pyiqa")
def test_metrics_without_a_reference():
    measures = [make(name) for name in metric.split_names("maniqa+clipiqa++brisque")]
    assert score_image(torch.full((3, 20, 30), 0.25), measures) == {"maniqa": 0.25, "clipiqa+": 0.25, "brisque": 0.25}
    assert metric.find("brisque").heading == "brisque ↓"
    assert metric.find("clipiqa+").heading == "clipiqa+ ↑"
    with pytest.raises(ValueError, match=r"maniqa takes no image of 8 x 30 pixels \(too small\)"):
        score_image(torch.zeros(3, 8, 30), measures)
    with pytest.raises(ValueError, match=r"no metric nique; there are psnr, .*brisque, clipiqa\+, maniqa, musiq, niqe"):
        make("nique")
    with pytest.raises(ValueError, match=r"musiq or its weights \(no route to host\).*hub/pyiqa"):
        make("musiq")


@pytest.mark.parametrize("name", ["musiq", "brisque"])
def test_without_the_library_of_metrics_without_a_reference(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa.default_model_configs", None)
    with pytest.raises(ValueError, match=rf"^{name} .*needs a library: pip install pyiqa.*no commercial use"):
        make(name)


def test_the_library_itself():
    """Uses the one of its metrics that needs no weights: the entropy of the grey levels, in bits."""
    pytest.importorskip("pyiqa")
    entropy = make("entropy")
    assert not metric.find("entropy").lower_is_better
    assert entropy(torch.full((1, 3, 64, 64), 0.5)).item() == pytest.approx(0, abs=0.01)
    assert entropy(torch.arange(4).div(3).repeat(1, 3, 64, 16)).item() == pytest.approx(2, abs=0.01)
