"""Images by tiles are images as a whole; the memory is enough or is made to do; eight views are averaged."""

from fractions import Fraction
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import CDSR, KDSRStudent, build, tiling
from model.layer import BlindSR, Embedding, Pool, global_mean, receptive_field
from model.tiling import Alive, restore

SMALL = {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1}  # reach: 8 LR pixels, the estimator's 6


def network(name: str, scale: int, **config: int) -> BlindSR:
    """In eval mode, with no weight that hides another by being zero or tiny."""
    torch.manual_seed(0)
    net = build(name, scale=scale, **config).eval()
    for p in net.parameters():
        p.data.add_(0.02 * torch.randn_like(p))
    return net


def images(net: BlindSR, *size: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor | None]:
    """LR of (H, W), and for a teacher HR."""
    torch.manual_seed(1)
    h, w = size
    hr = torch.rand(2, 3, h * net.scale, w * net.scale, dtype=dtype) if net.sees_hr else None
    return torch.rand(2, 3, h, w, dtype=dtype), hr


class Nearest(BlindSR):
    """Enlarges each pixel; commutes with flips and transposition. It runs out of memory on more than `limit` pixels."""

    def __init__(self, limit: int = 2**31, error: Exception | None = None) -> None:
        super().__init__(scale=2)
        self.restoration = nn.Identity()
        self.limit = limit
        self.error = error
        self.windows: list[int] = []  # pixels of each

    def embed(self, lr: Tensor, hr: Tensor | None = None, pool: Pool = global_mean) -> Embedding:
        mean = lr.mean((2, 3))
        return Embedding(code=mean, projection=mean)

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        pixels = lr.shape[2] * lr.shape[3]
        if pixels > self.limit and self.error is not None:
            raise self.error
        self.windows.append(pixels)
        return F.interpolate(lr, scale_factor=2) + code[..., None, None]


# ------------------------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize("name", ["KDSR_S", "KDSR_T"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("size", "tile"), [((37, 50), None), ((37, 50), 16), ((20, 60), 20), ((31, 9), 7), ((5, 4), 3)]
)
def test_kdsr_by_tiles_is_kdsr(name, scale, size, tile):
    net = network(name, scale, **SMALL).double()
    lr, hr = images(net, *size, dtype=torch.float64)
    with torch.no_grad():
        whole = net(lr, hr).image
    torch.testing.assert_close(restore(net, lr, hr=hr, tile=tile, device="cpu"), whole, rtol=0, atol=1e-13)


def test_single_precision_differs_by_rounding():
    net = network("KDSR_S", 4, **SMALL)
    lr, _ = images(net, 40, 30)
    with torch.no_grad():
        whole = net(lr).image
    torch.testing.assert_close(restore(net, lr, tile=11, device="cpu"), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_halo_is_as_wide_as_a_pixel_is_felt_and_no_wider(scale):
    net = network("KDSR_S", scale, **SMALL).double()
    lr, _ = images(net, 41, 41, dtype=torch.float64)
    touched = lr.clone()
    touched[..., 20, 20] += 1
    with torch.no_grad():
        code = net.embed(lr).code
        changed = (net.restore(touched, code) - net.restore(lr, code)).abs().amax((0, 1)) > 0
    for axis in (0, 1):
        felt = changed.any(axis).nonzero() // scale  # LR pixels
        assert (felt.min(), felt.max()) == (20 - net.halo, 20 + net.halo)


def test_reach_of_the_published_networks():
    with torch.device("meta"):
        student, cdsr = KDSRStudent(scale=4), CDSR(scale=4)
    assert student.halo == 110  # head, 53 × 2, fuse, one at ×1, 1/2 at ×2, 1/4 at ×4, rounded up
    assert receptive_field(student.estimator.features) == (22, 1)
    assert receptive_field(student.restoration).stride == Fraction(1, 4)
    assert receptive_field(cdsr.get_submodule("encoder.pixel")) == (10, 2)
    assert receptive_field(cdsr.get_submodule("encoder.patch")) == (47, 12)


@pytest.mark.parametrize("size", [(12, 12), (25, 49), (130, 14)])
@pytest.mark.parametrize("tile", [5, 30])
def test_strided_encoders_are_averaged_exactly(size, tile):
    net = cast(CDSR, network("CDSR", 2, n_blocks=1))
    lr, _ = images(net, *size, dtype=torch.float64)
    for features in (net.get_submodule(f"encoder.{branch}").double() for branch in ("pixel", "patch")):
        with torch.no_grad():
            by_tiles = tiling._mean(features, lr, tile=tile, device=torch.device("cpu"))
            torch.testing.assert_close(by_tiles, global_mean(features, lr), rtol=1e-12, atol=1e-13)


def test_of_cdsr_only_what_dqa_pools_differs_by_tile():
    net = cast(CDSR, network("CDSR", 2, n_blocks=1))
    lr, _ = images(net, 100, 16)
    lr *= torch.linspace(0, 1, 100)[:, None]  # unlike tiles
    gammas = [p for name, p in net.named_parameters() if name.endswith("gamma")]
    differences = []
    for gamma in (0.0, 30.0):
        for p in gammas:
            p.data.fill_(gamma)
        with torch.no_grad():
            whole = net(lr).image
        error = (restore(net, lr, tile=20, device="cpu") - whole).abs().max() / whole.std()
        differences.append(error.item())
    assert differences[0] < 1e-5
    assert 1e-5 < differences[1] < 0.05


def test_beside_the_output_memory_does_not_grow_with_the_image():
    net = network("KDSR_S", 2, **SMALL)
    needs = []
    for width in (96, 384):
        lr, _ = images(net, 96, width)
        with Alive() as alive:
            sr = restore(net, lr, tile=16, device="cpu")
        needs.append(alive.peak - sr.nbytes - lr.nbytes)
    assert needs[1] <= 1.02 * needs[0]


def test_the_result_is_single_precision_of_a_narrow_network():
    net = network("KDSR_S", 2, **SMALL).bfloat16()
    lr, _ = images(net, 20, 20, dtype=torch.bfloat16)
    sr = restore(net, lr, tile=10, device="cpu")
    assert sr.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(sr, net(lr).image.float(), rtol=0.05, atol=0.05)


def test_bad_arguments_are_named():
    net = network("CDSR", 2, n_blocks=1)
    with pytest.raises(ValueError, match="tile 0"):
        restore(net, torch.rand(1, 3, 20, 20), tile=0, device="cpu")
    with pytest.raises(ValueError, match="12 LR pixels a side or more"):
        restore(net, torch.rand(1, 3, 20, 11), device="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tiles_travel_to_the_gpu_and_back():
    net = network("KDSR_S", 4, **SMALL)
    lr, _ = images(net, 60, 70)
    expected = restore(net, lr, device="cpu")
    for tile in (None, 32):
        sr = restore(net.cuda(), lr, tile=tile, device="cuda")
        assert sr.device.type == "cpu"
        torch.testing.assert_close(sr, expected, rtol=0, atol=1e-2)  # TF32


# ------------------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:9] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_tiles_are_halved_until_they_fit(error):
    net = Nearest(limit=30 * 30, error=error)
    lr, _ = images(net, 100, 70)
    sr = restore(net, lr, device="cpu")
    torch.testing.assert_close(sr, Nearest()(lr).image)
    assert max(net.windows) == 25 * 25  # 100, 50, 25
    net.windows.clear()
    torch.testing.assert_close(restore(net, lr, tile=40, device="cpu"), sr)
    assert max(net.windows) == 20 * 20


def test_memory_that_is_too_small_for_any_tile():
    net = Nearest(limit=15 * 15, error=torch.OutOfMemoryError("Tried to allocate 2.00 GiB"))
    with pytest.raises(MemoryError, match=r"cpu has too little free memory for tiles of 16 LR pixels: Tried to"):
        restore(net, images(net, 100, 70)[0], tile=50, device="cpu")


def test_other_errors_are_not_taken_for_want_of_memory():
    net = Nearest(limit=0, error=RuntimeError("sizes do not match"))
    with pytest.raises(RuntimeError, match="sizes do not match"):
        restore(net, images(net, 40, 40)[0], device="cpu")


def test_the_tile_follows_the_free_memory(monkeypatch):
    net = network("KDSR_S", 2, **SMALL)
    lr, _ = images(net, 120, 90)
    with torch.no_grad():
        whole = net(lr).image
    peaks = []
    for free in (10**10, 4 * 10**6):
        monkeypatch.setattr(tiling, "_free", lambda _, free=free: free)
        with Alive() as alive:
            sr = restore(net, lr, device="cpu")
        torch.testing.assert_close(sr, whole, rtol=0, atol=1e-5)
        peaks.append(alive.peak - sr.nbytes - lr.nbytes)
    assert peaks[0] > 4 * 10**6 > peaks[1] > 10**6  # all of it, then most of what may be had


def test_the_watch_counts_what_is_alive_once():
    with Alive() as alive:
        a = torch.zeros(1000)
        b = a.view(10, 100)  # the same memory
        c = b + 1
        del c
        d = b * 2
    assert alive.peak == 2 * a.nbytes
    assert d.nbytes == a.nbytes


@pytest.mark.parametrize(
    ("meminfo", "container", "free"),
    [
        ("MemTotal: 9 kB\nMemAvailable:    4 kB\n", None, 4096),
        ("MemAvailable:    4 kB\n", "max\n", 4096),
        ("MemAvailable:    4 kB\n", "2048\n", 1024),
        (None, None, tiling.UNKNOWN),
    ],
)
def test_free_memory_of_the_host(meminfo, container, free, monkeypatch, tmp_path):
    for name, text in (("MEMINFO", meminfo), ("CONTAINER", container)):
        monkeypatch.setattr(tiling, name, tmp_path / name)
        if text is not None:
            (tmp_path / name).write_text(text)
    assert tiling._free(torch.device("cpu")) == free


# ---------------------------------------------------------------------------------------------------- ensemble


def test_the_ensemble_of_an_equivariant_network_is_the_network():
    net = Nearest()
    lr, _ = images(net, 31, 24)
    torch.testing.assert_close(restore(net, lr, self_ensemble=True, tile=10, device="cpu"), net(lr).image)


def test_the_ensemble_is_the_mean_of_eight_different_views():
    net = network("KDSR_S", 3, **SMALL)
    lr, _ = images(net, 21, 17)
    views = []
    with torch.no_grad():
        for k in range(4):
            for mirrored in (False, True):
                view = torch.rot90(lr.flip(3) if mirrored else lr, k, (2, 3))
                back = torch.rot90(net(view).image, -k, (2, 3))
                views.append(back.flip(3) if mirrored else back)
    sr = restore(net, lr, self_ensemble=True, device="cpu")
    torch.testing.assert_close(sr, torch.stack(views).mean(0), rtol=0, atol=1e-6)
    assert (sr - views[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["KDSR_S", "KDSR_T"])
def test_the_ensemble_does_not_care_how_the_image_is_turned(name):
    net = network(name, 2, **SMALL)
    lr, hr = images(net, 26, 19)

    def ensemble(turn, tile=None):
        turned_hr = None if hr is None else turn(hr)
        return restore(net, turn(lr), hr=turned_hr, self_ensemble=True, tile=tile, device="cpu")

    upright = ensemble(lambda x: x)
    torch.testing.assert_close(ensemble(lambda x: x, tile=8), upright, rtol=0, atol=1e-5)
    for turn in (lambda x: x.flip(2), lambda x: x.flip(3), lambda x: x.mT, lambda x: x.rot90(1, (2, 3))):
        torch.testing.assert_close(ensemble(turn), turn(upright), rtol=0, atol=1e-5)
