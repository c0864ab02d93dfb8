"""Images by tiles are images as a whole; the memory is enough or is made to do; eight views are averaged."""

import os
import platform
import subprocess
import sys
from fractions import Fraction
from threading import Thread
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import CDSR, IKC, KDSRStudent, build, memory, tiling
from model.layer import BlindSR, Embedding, Pool, global_mean, receptive_field
from model.tiling import upscale
from utility import ROOT

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


class Windowed(BlindSR):
    """Enlarges each pixel, added to the mean of its window: what attention over windows sees."""

    window = 6

    def __init__(self) -> None:
        super().__init__(scale=2)

    @property
    def halo(self) -> int:
        return self.window

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        height, width = lr.shape[2:]
        padded = F.pad(lr, (0, -width % self.window, 0, -height % self.window))
        means = F.avg_pool2d(padded, self.window).repeat_interleave(self.window, 2).repeat_interleave(self.window, 3)
        return F.interpolate(lr + means[..., :height, :width], scale_factor=2)


# ------------------------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize(("size", "tile"), [((37, 50), 16), ((20, 60), 19), ((90, 150), 37), ((31, 9), 7), ((5, 4), 3)])
def test_tiles_keep_the_windows_of_attention(size, tile, monkeypatch):
    net = Windowed().double()
    lr, _ = images(net, *size, dtype=torch.float64)
    torch.testing.assert_close(upscale(net, lr, tile=tile), net(lr).image, rtol=0, atol=1e-13)
    monkeypatch.setattr(Windowed, "halo", 0)  # the mean of a window needs no more than the window
    torch.testing.assert_close(upscale(net, lr, tile=tile), net(lr).image, rtol=0, atol=1e-13)
    if max(size) > 5 + tile:
        whole = net(lr).image
        spans = tiling._spans
        monkeypatch.setattr(tiling, "_spans", lambda *given, window, **more: spans(*given, **more))
        assert (upscale(net, lr, tile=tile) - whole).abs().max() > 1e-3


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
    torch.testing.assert_close(upscale(net, lr, hr=hr, tile=tile), whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_ikcs_loop_by_tiles_is_ikcs_loop(scale):
    """Its codes are means over strided maps of SR images, which tiles must not shift."""
    net = cast(IKC, network("IKC", scale, n_feats=4, n_blocks=1).double())
    lr = images(net, 61, 44, dtype=torch.float64)[0][:1]
    with torch.no_grad():
        whole = net(lr)
        assert (whole.embedding.code - net.predict(lr)).abs().min() > 1e-5  # the corrections count
    torch.testing.assert_close(upscale(net, lr, tile=23), whole.image, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_branches_beside_others_do_not_widen_the_halo(scale):
    net = cast(IKC, network("IKC", scale, n_feats=4, n_blocks=1).double())
    lr = images(net, 61, 61, dtype=torch.float64)[0][:1]
    touched = lr.clone()
    touched[..., 30, 30] += 1
    with torch.no_grad():
        code = net.predict(lr)
        for p in net.restoration.tail.parameters():
            p.mul_(0.01).add_(0.5 if p.ndim == 1 else 0)  # nothing is clamped
        changed = (net.restore(touched, code) - net.restore(lr, code)).abs().amax((0, 1)) > 0
    felt = [int((at - 30).abs().max()) for at in (changed.nonzero() // scale).T]
    assert felt == [net.halo, net.halo]


def test_single_precision_differs_by_rounding():
    net = network("KDSR_S", 4, **SMALL)
    lr, _ = images(net, 40, 30)
    with torch.no_grad():
        whole = net(lr).image
    torch.testing.assert_close(upscale(net, lr, tile=11), whole, rtol=0, atol=1e-5)


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
        error = (upscale(net, lr, tile=20) - whole).abs().max() / whole.std()
        differences.append(error.item())
    assert differences[0] < 1e-5
    assert 1e-5 < differences[1] < 0.05


def test_the_result_is_single_precision_of_a_narrow_network():
    net = network("KDSR_S", 2, **SMALL).bfloat16()
    lr, _ = images(net, 20, 20, dtype=torch.bfloat16)
    sr = upscale(net, lr, tile=10)
    assert sr.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(sr, net(lr).image.float(), rtol=0.05, atol=0.05)


def test_bad_arguments_are_named():
    net = network("CDSR", 2, n_blocks=1)
    with pytest.raises(ValueError, match="`tile` 0"):
        upscale(net, torch.rand(1, 3, 20, 20), tile=0)
    with pytest.raises(ValueError, match="`tile` True"):
        upscale(net, torch.rand(1, 3, 20, 20), tile=True)
    with pytest.raises(ValueError, match=r"`tile` 16.5: its side must be a whole number"):
        upscale(net, torch.rand(1, 3, 20, 20), tile=16.5)  # pyright: ignore[reportArgumentType]
    for image, message in (([[0]], "got list"), (torch.rand(3, 20, 20), "got a tensor; `upscale` takes those")):
        with pytest.raises(ValueError, match=f"`image`: expected an array .*{message}"):
            net.upscale_rows(image, print)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="12 LR pixels a side or more"):
        upscale(net, torch.rand(1, 3, 20, 11))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tiles_travel_to_the_gpu_and_back():
    net = network("KDSR_S", 4, **SMALL)
    lr, _ = images(net, 60, 70)
    expected = upscale(net, lr)
    for tile in (None, 32):
        sr = upscale(net.cuda(), lr, tile=tile)
        assert sr.device.type == "cpu"
        torch.testing.assert_close(sr, expected, rtol=0, atol=1e-2)  # TF32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_travel_as_integers_and_none_is_lost_on_the_way(dtype):
    net = network("KDSR_S", 4, **SMALL)
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 50, 3), dtype=dtype, endpoint=True)
    expected, counts = upscale(net, image).astype(float), []
    sr = upscale(net.cuda(), image, tile=16, progress=lambda done, total: counts.append(done))
    assert sr.dtype == dtype
    assert counts == list(range(1, len(counts) + 1))
    assert np.abs(sr - expected).max() <= 1e-2 * np.iinfo(dtype).max  # TF32


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
    net = Nearest(limit=70 * 70, error=error)
    lr, _ = images(net, 240, 160)
    sr = upscale(net, lr)
    torch.testing.assert_close(sr, Nearest()(lr).image)
    assert max(net.windows[1:]) == 60 * 40  # after the probe: (240, 160), (120, 80), (60, 40)
    net.windows.clear()
    torch.testing.assert_close(upscale(net, lr, tile=80), sr)
    assert max(net.windows) == 40 * 40


def test_an_image_no_larger_than_the_probe_is_restored_once():
    net = Nearest()
    upscale(net, images(net, memory.PROBE, 20)[0])
    assert net.windows == [20 * memory.PROBE]


def test_memory_that_is_too_small_for_any_tile():
    net = Nearest(limit=15 * 15, error=torch.OutOfMemoryError("Tried to allocate 2.00 GiB"))
    with pytest.raises(MemoryError, match=r"cpu has too little free memory for tiles of 16 LR pixels: Tried to"):
        upscale(net, images(net, 100, 70)[0], tile=50)


def test_other_errors_are_not_taken_for_want_of_memory():
    net = Nearest(limit=0, error=RuntimeError("sizes do not match"))
    with pytest.raises(RuntimeError, match="sizes do not match"):
        upscale(net, images(net, 40, 40)[0])


@pytest.mark.parametrize("free", [10**10, 2 * 10**6, 5 * 10**5])
def test_the_tile_follows_the_free_memory(free, monkeypatch):
    """The work of a tile, as estimated, stays within the budget, down to the smallest tile."""
    net = network("KDSR_S", 2, **SMALL)
    lr, _ = images(net, 120, 90)
    with torch.no_grad():
        whole = net(lr).image
    windows = []
    hook = net.get_submodule("restoration").register_forward_hook(lambda m, x, y: windows.append(x[0].shape[2:]))
    monkeypatch.setattr(memory, "budget", lambda device: free)
    torch.testing.assert_close(upscale(net, lr), whole, rtol=0, atol=1e-5)
    hook.remove()
    (per_pixel,) = memory._measured[net].values()
    pixels = max(h * w for h, w in windows[1:])  # the first is the probe
    smallest = (memory.SMALLEST + 2 * net.halo) ** 2
    assert pixels <= max(free / per_pixel, smallest)
    assert (pixels == 120 * 90) == (free == 10**10)


def test_windows_grow_to_widths_that_convolutions_like():
    net = network("KDSR_S", 2, **SMALL)
    lr, _ = images(net, 40, 90)
    widths = []
    hook = net.get_submodule("restoration").register_forward_hook(lambda m, x, y: widths.append(x[0].shape[3]))
    tiled = upscale(net, lr, tile=19)
    hook.remove()
    assert min(widths) < 90
    assert {width % memory.ALIGNED for width in widths} == {0}
    with torch.no_grad():
        torch.testing.assert_close(tiled, net(lr).image, rtol=0, atol=1e-5)


def test_the_estimate_counts_what_is_alive_at_once_and_is_made_once():
    calls = []
    chain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 1, 1)).requires_grad_(False)
    probe = torch.rand(1, 3, 4, 5)

    def run(x):
        calls.append(1)
        return chain(x)

    per_pixel = [memory.bytes_per_pixel(chain, run, probe) for _ in range(2)]
    assert per_pixel == [memory.SAFETY * 4 * (3 + 8 + 8)] * 2  # image, first convolution, activation
    assert len(calls) == 1


def test_the_estimate_leaves_other_threads_out():
    """A service that starts with several images at once would take small tiles ever after."""
    chain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 1, 1)).requires_grad_(False)
    probe = torch.rand(1, 3, 4, 5)

    def run(x):
        other = Thread(target=chain, args=(torch.rand(1, 3, 400, 500),))
        other.start()
        other.join()
        return chain(x)

    assert memory.bytes_per_pixel(chain, run, probe) == memory.SAFETY * 4 * (3 + 8 + 8)


@pytest.mark.parametrize("pixels", [30 * 90, 60 * 60, 100])
def test_long_images_are_not_cut_along_both_sides_without_need(pixels, monkeypatch):
    monkeypatch.setattr(memory, "budget", lambda device: pixels)
    monkeypatch.setattr(memory, "bytes_per_pixel", lambda *_: 1.0)
    image, cpu = torch.rand(1, 3, 1000, 30), torch.device("cpu")
    rows, columns = memory.tile_shape(nn.Identity(), lambda x: x, image, 8, None, cpu)
    assert columns == (30 if pixels > 100 else memory.SMALLEST)
    assert rows == memory.SMALLEST or (rows + 16) * columns <= pixels


BLOCKS = """
import resource, torch
from model.memory import freed_blocks_kept, return_freed_blocks

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**26

cpu, fresh = torch.device("cpu"), pages()
with freed_blocks_kept(cpu):
    with freed_blocks_kept(cpu, 10**6):
        pass  # a validation during training, which changes nothing
    kept, before = pages(), held()
    return_freed_blocks(cpu)
    print(fresh, kept, before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_large_blocks_are_used_again_and_can_be_returned():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", BLOCKS], cwd=ROOT, env=environment, capture_output=True, check=True)
    fresh, kept, returned = map(float, done.stdout.split())  # pages, pages, blocks
    assert kept < fresh / 3  # small blocks in between leave gaps: one to five of the forty
    assert returned > 0.9


def test_small_images_leave_the_allocator_alone(monkeypatch):
    monkeypatch.setattr(memory, "_glibc", None)  # cannot be called
    net = network("KDSR_S", 2, **SMALL)
    upscale(net, images(net, 40, 50)[0])


@pytest.mark.parametrize(
    ("platform", "library"),
    [("linux", object()), ("win32", None)],  # the first has neither function, the second cannot be opened
)
def test_other_libraries_than_glibc_are_left_alone(platform, library, monkeypatch):
    opened = SimpleNamespace(CDLL=lambda name: library) if library else None
    monkeypatch.setattr(memory, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(memory, "ctypes", opened)
    with memory.freed_blocks_kept(torch.device("cpu"), 10**6):
        memory.return_freed_blocks(torch.device("cpu"))


@pytest.mark.parametrize(
    ("text", "container", "bytes_"),
    [
        ("MemTotal: 9 kB\nMemAvailable:    4 kB\n", "max\n", 2048),
        ("MemTotal: 9 kB\nMemAvailable:    4 kB\n", "2000\n", 1000),
        ("MemTotal: 9 kB\nMemAvailable:    4 kB\n", "9223372036854771712\n", 2048),
        (None, "2000\n", 1000),
        (None, None, memory.CPU_LIMIT),
    ],
)
def test_half_of_the_free_memory_is_used(text, container, bytes_, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CONTAINER", (tmp_path / "memory.max",))
    if container is not None:
        (tmp_path / "memory.max").write_text(container)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    assert memory.budget(torch.device("cpu")) == bytes_


# ------------------------------------------------------------------------------------------------------ images


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("self_ensemble", [False, True])
def test_arrays_give_the_rounded_result_of_tensors(dtype, self_ensemble):
    net = network("KDSR_S", 3, **SMALL)
    peak = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, peak, (21, 17, 3), dtype, endpoint=True)
    lr = torch.from_numpy((image / np.float32(peak)).astype(np.float32)).permute(2, 0, 1)
    expected = (upscale(net, lr, self_ensemble=self_ensemble).clamp(0, 1) * peak).permute(1, 2, 0)
    sr = upscale(net, image, tile=9, self_ensemble=self_ensemble)
    assert sr.dtype == dtype
    assert sr.shape == (63, 51, 3)
    assert abs(sr - expected.numpy()).max() <= 0.5 + 2e-5 * peak


def test_tensors_come_back_with_as_many_dimensions_and_for_autograd():
    net = network("KDSR_S", 2, **SMALL)
    lr, _ = images(net, 11, 12)
    sr = net.upscale(lr)
    torch.testing.assert_close(net.upscale(lr[0]), sr[0], rtol=0, atol=1e-6)
    assert sr.dtype == torch.float32
    (sr * torch.ones(1, requires_grad=True)).sum().backward()  # an inference tensor would refuse


def test_a_teacher_takes_the_ground_truth_in_the_same_form():
    net = network("KDSR_T", 2, **SMALL)
    image = np.random.default_rng(0).integers(0, 255, (14, 15, 3), np.uint8)
    hr = np.random.default_rng(1).integers(0, 255, (28, 30, 3), np.uint8)
    lr, truth = (torch.from_numpy(x / np.float32(255)).permute(2, 0, 1) for x in (image, hr))
    expected = upscale(net, lr, hr=truth)
    sr = net.upscale(image, hr=hr, tile=6)
    assert abs(sr - 255 * expected.clamp(0, 1).permute(1, 2, 0).numpy()).max() <= 0.51
    with pytest.raises(ValueError, match="together with its HR image"):
        net.upscale(image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((9, 9), np.uint8), "grey"),
        (np.zeros((9, 9, 4), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((9, 9, 3), np.float32), "uint8 or uint16"),
        (np.zeros((9, 9, 3), ">u2"), r"newbyteorder.* changes the order of its bytes"),
        (np.zeros((0, 9, 3), np.uint8), "it has no pixels"),
        (torch.zeros(0, 3, 9, 9), r"a tensor must be float, .*, got \(0, 3, 9, 9\)"),
        (np.zeros((9, 9, 3), np.int32), r"image.astype\(np.uint8\), if its levels are 0 to 255"),
        (torch.zeros(3, 9, 9, dtype=torch.uint8), r"must be float, .* of uint8; `image / 255`, if its levels"),
        (torch.zeros(9, 8, 3, dtype=torch.int64), r"of int64; `image.movedim\(-1, -3\) / 255`, if its levels"),
        (torch.zeros(9, 8, 3), r"of float32; `image.movedim\(-1, -3\)` has the channels first"),
        (torch.full((3, 9, 9), 200.0), r"must be in \[0, 1\], got values from 200 to 200; divide its levels by 255"),
        (torch.full((3, 9, 9), 65535.0), r"must be in \[0, 1\], got values from 65535 to 65535$"),
        (torch.full((3, 9, 9), torch.nan), r"must be in \[0, 1\], got values from nan to nan$"),
        (np.zeros((3, 9, 8), np.uint8), r"image.transpose\(1, 2, 0\) has the channels last"),
        (np.zeros((9, 9, 1), np.uint8), r"image.repeat\(3, 2\) repeats the channel"),
        (np.zeros((2, 9, 9, 3), np.uint8), "one image at a time"),
        (torch.zeros(9, 9), r"\(3, H, W\)"),
        ("photo.png", "expected an array or a tensor, got str"),
    ],
)
def test_images_of_another_kind(image, message):
    with pytest.raises(ValueError, match=message):
        build("BICUBIC", scale=2).upscale(image)


def test_progress_counts_tiles():
    seen = []
    build("BICUBIC", scale=2).upscale(torch.rand(3, 20, 30), tile=10, progress=lambda *counts: seen.append(counts))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_the_mode_of_every_layer_is_restored():
    net = network("CDSR", 2, n_blocks=1).train()
    net.get_submodule("encoder.pixel").eval()
    before = [module.training for module in net.modules()]
    statistics = {name: value.clone() for name, value in net.named_buffers()}
    net.upscale(torch.rand(3, 14, 14))
    assert [module.training for module in net.modules()] == before
    assert all(torch.equal(value, statistics[name]) for name, value in net.named_buffers())


# ---------------------------------------------------------------------------------------------------- ensemble


def test_the_ensemble_of_an_equivariant_network_is_the_network():
    net = Nearest()
    lr, _ = images(net, 31, 24)
    torch.testing.assert_close(upscale(net, lr, self_ensemble=True, tile=10), net(lr).image)


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
    sr = upscale(net, lr, self_ensemble=True)
    torch.testing.assert_close(sr, torch.stack(views).mean(0), rtol=0, atol=1e-6)
    assert (sr - views[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["KDSR_S", "KDSR_T"])
def test_the_ensemble_does_not_care_how_the_image_is_turned(name):
    net = network(name, 2, **SMALL)
    lr, hr = images(net, 26, 19)

    def ensemble(turn, tile=None):
        turned_hr = None if hr is None else turn(hr)
        return upscale(net, turn(lr), hr=turned_hr, self_ensemble=True, tile=tile)

    upright = ensemble(lambda x: x)
    torch.testing.assert_close(ensemble(lambda x: x, tile=8), upright, rtol=0, atol=1e-5)
    for turn in (lambda x: x.flip(2), lambda x: x.flip(3), lambda x: x.mT, lambda x: x.rot90(1, (2, 3))):
        torch.testing.assert_close(ensemble(turn), turn(upright), rtol=0, atol=1e-5)
