"""The same numbers on a GPU: networks, degradations, a step, and a resumed run."""

import pytest
import torch

from data.degradation import Gaussian, MANet
from data.degradation.precision import ieee_products
from loss import Contrast, Distillation, Pixel
from model import CDSR, build, official

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU = torch.device("cuda")


@pytest.mark.parametrize(("file", "network"), [("kdsr", "KDSR_S_M_x4"), ("kdsr", "KDSR_S_L_x4"), ("cdsr", "CDSR_x2")])
def test_networks_match_the_official_numbers(file, network, official_weights, official_numbers):
    net = official.read(official_weights(file, network))[0].eval().to(GPU)
    key = network.replace("KDSR_S", "KDSR")
    numbers = official_numbers(file, f"{key}/")
    with torch.no_grad(), ieee_products():
        sr = net(numbers["lr"].to(GPU) / 255).image.cpu()
    expected = numbers["student_sr"] if file == "kdsr" else numbers["sr"] / 255
    assert (sr - expected).abs().max() / expected.std() < 1e-4


@pytest.mark.parametrize(
    "recipe",
    [
        Gaussian(scale=4, iso=True, width=(0.2, 4.0), noise=0.05),
        Gaussian(scale=4, iso=False, width=(0.2, 4.0), noise=0.05, quality=50),
        MANet(scale=2, iso=False, width=(0.6, 2.2), noise=0.05),
    ],
    ids=["iso", "aniso", "manet"],
)
def test_degradations_are_those_of_the_cpu(recipe, photo):
    hr = torch.from_numpy(photo[:192, :192].copy()).permute(2, 0, 1)[None].repeat(4, 1, 1, 1) / 255
    params = recipe.sample(4, generator=torch.Generator().manual_seed(1))
    lr = [
        recipe.apply(hr.to(device), params, generator=torch.Generator().manual_seed(2)).cpu()
        for device in ("cpu", GPU)  # noise of a CPU generator is the same everywhere
    ]
    difference = (255 * (lr[0] - lr[1])).abs().round()
    assert (difference > 0).float().mean() < 5e-4
    if recipe.quality is None:
        assert difference.max() <= 1


def objectives():
    small = {"scale": 2, "n_feats": 16, "n_blocks": 2, "n_resblocks": 1}
    torch.manual_seed(0)
    cdsr = build("CDSR", scale=2, n_blocks=1)
    assert isinstance(cdsr, CDSR)
    yield build("KDSR_T", **small), Pixel()
    yield build("KDSR_S", **small), Distillation(build("KDSR_T", **small))
    yield cdsr, Contrast(cdsr, queue=64)


@pytest.mark.parametrize("index", range(3), ids=["pixel", "distillation", "contrast"])
def test_gradients_are_those_of_the_cpu(index):
    gradients = []
    torch.manual_seed(1)
    lr, hr = torch.rand(4, 3, 24, 24), torch.rand(4, 3, 48, 48)
    for device in (torch.device("cpu"), GPU):
        net, objective = list(objectives())[index]
        torch.manual_seed(3)
        net, objective = net.to(device), objective.to(device)
        with ieee_products():
            objective(net, lr.to(device), hr.to(device), 0)["total"].backward()
        gradients.append(torch.cat([p.grad.flatten().cpu() for p in net.parameters() if p.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 1e-4
