"""Precision: its switches, what a score may lose, and what a run must keep in float32."""

import math
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

import main
import option
from data.degradation import Gaussian, MANet, Params
from data.degradation.resize import bicubic
from data.images import write_image
from data.protocol import bicubic as bicubic_protocol
from data.testset import Degraded
from evaluation import evaluate, mean
from model import build, load_model
from runtime import precision as precision_module
from runtime.precision import Precision, full_precision, ieee_products
from runtime.signals import STOPPED

CPU = torch.device("cpu")
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
NETWORKS = {
    "KDSR_S": {"n_feats": 16, "n_blocks": 12, "n_resblocks": 1},
    "CDSR": {"n_blocks": 1},
}
MATMUL, CONV = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(autouse=True)
def _as_before():
    yield
    Precision().prepare()


# ------------------------------------------------------------------------------------------------- scores


@pytest.fixture(scope="session")
def trained(photo):
    """Train networks a little, ×2 bicubic, so that weights and images are of the usual size."""
    nets = {}

    def train(name):
        torch.manual_seed(0)
        net = build(name, scale=2, **NETWORKS[name]).eval()  # one image is no batch for BatchNorm
        restoration = net.get_submodule("restoration")
        optimizer = torch.optim.Adam(restoration.parameters())
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, total_iters=150)
        whole = torch.from_numpy(photo[:, :256].copy()).permute(2, 0, 1)[None] / 255  # the test is on the other half
        with torch.no_grad():
            code = net.embed(bicubic(whole[..., :64, :64], 0.5)).code
        for step in range(150):
            top, left = (37 * step % 464, 29 * step % 208)
            hr = whole[..., top : top + 48, left : left + 48]
            loss = F.l1_loss(net.restore(bicubic(hr, 0.5), code), hr)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
        return net

    def get(name):
        if name not in nets:
            nets[name] = train(name)
        return nets[name]

    return get


@pytest.fixture
def half(photo, tmp_path):
    write_image(tmp_path / "half.png", photo[:160, 256:448].copy())
    return Degraded("half", [tmp_path / "half.png"], bicubic_protocol(2))


def scored(net, half, precision, device):
    """Return PSNR and SSIM as test.py measures them."""
    arithmetic = Precision(precision)
    arithmetic.prepare()
    net.to(device).to(memory_format=arithmetic.memory_format)

    def restore(lr, hr):
        with arithmetic.autocast(device):
            return net(lr).image

    return mean(evaluate(restore, half, scale=2, planes="matlab", device=device))


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("cpu", "bf16"),
        ("cpu", "fp16"),
        *(pytest.param("cuda", precision, marks=NEEDS_GPU) for precision in ("tf32", "bf16", "fp16")),
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_reduced_precision_costs_next_to_nothing(name, device, precision, trained, half):
    device, net = torch.device(device), trained(name)
    exact = scored(net, half, "fp32", device)
    assert exact["psnr"] > 28  # dB: it has learned something
    reduced = scored(net, half, precision, device)
    assert reduced != exact  # it was reduced indeed
    assert reduced["psnr"] == pytest.approx(exact["psnr"], abs=0.02)
    assert reduced["ssim"] == pytest.approx(exact["ssim"], abs=5e-4)


# ----------------------------------------------------------------------------------------------- switches


def test_tf32_is_for_the_network_and_not_for_the_score_around_it():
    arithmetic = Precision("tf32")
    arithmetic.prepare()
    assert (MATMUL.fp32_precision, CONV.fp32_precision) == ("tf32", "tf32")  # backward runs outside of autocast
    with ieee_products():
        with arithmetic.autocast(CPU):
            assert (MATMUL.fp32_precision, CONV.fp32_precision) == ("tf32", "tf32")
        assert (MATMUL.fp32_precision, CONV.fp32_precision) == ("ieee", "ieee")


def test_float32_is_float32_whatever_was_set_before():
    Precision("tf32", deterministic=True).prepare()
    Precision().prepare()
    assert (MATMUL.fp32_precision, CONV.fp32_precision) == ("ieee", "ieee")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_convolutions_that_autocast_leaves_alone_round_less_than_it_does(precision):
    Precision(precision).prepare()
    assert (MATMUL.fp32_precision, CONV.fp32_precision) == ("ieee", "tf32")
    with ieee_products():
        assert CONV.fp32_precision == "ieee"
    Precision().prepare()
    assert CONV.fp32_precision == "ieee"


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_reduced_products(precision, dtype):
    arithmetic = Precision(precision)
    with arithmetic.autocast(CPU):
        assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == dtype
    assert arithmetic.scaler(CPU).is_enabled() == (precision == "fp16")
    weight = torch.rand(4, 4, 3, 3).to(memory_format=arithmetic.memory_format)
    assert weight.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def reduced() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("reduced")
def test_switches_are_off_inside_and_restored_after():
    seen = []

    @full_precision
    def operation(x: torch.Tensor) -> torch.Tensor:
        seen.append((MATMUL.fp32_precision, torch.is_autocast_enabled("cpu")))
        raise RuntimeError

    outside = MATMUL.fp32_precision
    assert outside not in ("none", "ieee")
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(RuntimeError):
            operation(torch.zeros(1))
        assert torch.is_autocast_enabled("cpu")
    assert seen == [("ieee", False)]
    assert MATMUL.fp32_precision == outside
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.usefixtures("reduced")
@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("recipe", [Gaussian, MANet])
def test_recipes_do_not_notice_autocast(recipe, rotated):
    degradation = recipe(scale=4, iso=not rotated, width=(0.2, 4.0))
    hr = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    theta = torch.ones(2) if rotated else None
    params = Params(torch.full((2, 2), 1.5), theta, quality=torch.full((2,), 60.0))
    generator = torch.Generator()
    with torch.autocast("cpu", torch.bfloat16):
        inside = degradation.apply(hr, params, generator=generator)
    torch.set_float32_matmul_precision("highest")
    assert inside.dtype == torch.float32
    assert torch.equal(inside, degradation.apply(hr, params, generator=generator))


# --------------------------------------------------------------------------------------------------- runs

KDSR = "--n_feats 8 --n_blocks 2 --n_resblocks 1"
TINY = "--scale 2 --patch_size 12 --batch_size 2 --test_every 2 --epochs_sr 2 --n_threads 0 --cpu --print_every 1"
RUNS = {
    "pixel": f"--model KDSR_T {KDSR}",
    "distillation": f"--model KDSR_S {KDSR}",
    "contrast": "--model CDSR --n_feats 8 --n_blocks 1",
    "adversarial": f"--model KDSR_S --objective adversarial {KDSR} --perceptual_weight 0 --kd_weight 0 --d_feats 4",
}


@pytest.fixture
def run_main(photo_folder, tmp_path, no_curves):
    """Run main.py on the small photographs and return the run's directory."""

    def call(arguments):
        argv = f"--dir_data {photo_folder} --data_train train --dir_experiment {tmp_path} {TINY} {arguments}".split()
        with pytest.raises(SystemExit, match=f"^{STOPPED}$") if "--max_minutes" in argv else nullcontext():
            main.main(argv)
        return option.train_options(argv, main.NAMES)[1].run_dir

    return call


def tensors(contents):
    for value in contents.values():
        if isinstance(value, dict):
            yield from tensors(value)
        elif isinstance(value, torch.Tensor):
            yield value


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("objective", RUNS)
def test_training(objective, precision, run_main):
    arguments = f"{RUNS[objective]} --save r --precision {precision}"
    if objective == "distillation":
        teacher = run_main(f"{RUNS['pixel']} --save t")
        arguments += f" --pre_train_TA {teacher}/model/model_best.pt"
    run = run_main(arguments)
    state = torch.load(run / "model" / "state.pt", weights_only=True)
    assert state["step"] == 4
    kept = [value for part in ("net", "objective", "optimizer") for value in tensors(state[part])]
    assert {value.dtype for value in kept if value.is_floating_point()} == {torch.float32}
    assert all(value.isfinite().all() for value in kept)
    lines = [line.split(",") for line in (run / "loss_log.csv").read_text().splitlines()]
    losses = [float(value) for _, part, value in lines[1:] if part != "gradient"]  # which may overflow in float16
    assert len(losses) >= 4
    assert all(map(math.isfinite, losses))
    assert load_model(run / "model" / "model_latest.pt").scale == 2


def test_the_scale_of_float16_losses_survives_a_restart(run_main):
    arguments = f"{RUNS['pixel']} --precision fp16"
    whole = run_main(f"{arguments} --save whole")
    broken = run_main(f"{arguments} --save broken --max_minutes 0")
    states = [torch.load(run / "model" / "state.pt", weights_only=True) for run in (whole, broken)]
    assert states[1]["step"] == 1
    assert states[0]["scaler"] != states[1]["scaler"] != {}
    run_main(f"{arguments} --save broken --resume")
    states[1] = torch.load(broken / "model" / "state.pt", weights_only=True)
    assert states[0]["scaler"] == states[1]["scaler"]
    for name, value in states[0]["net"]["params"].items():
        assert torch.equal(value, states[1]["net"]["params"][name]), name


def test_deterministic_kernels_exist_for_every_step(run_main):
    """On the CPU too PyTorch refuses what has none."""
    run = run_main(f"{RUNS['adversarial']} --save d --deterministic")
    assert torch.are_deterministic_algorithms_enabled()
    assert load_model(run / "model" / "model_latest.pt").scale == 2


@pytest.mark.parametrize(
    ("precision", "device", "channels_last"),
    [("fp32", "cpu", True), ("bf16", "cpu", True), ("fp32", "cuda", False), ("bf16", "cuda", True)],
)
def test_a_cpu_restores_in_channels_last_at_any_precision(precision, device, channels_last):
    found = Precision(precision).inference_format(torch.device(device))
    assert (found == torch.channels_last) == channels_last


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx512f avx512_bf16x\nbugs\t: avx512_bf16\n", False),
        ("processor\t: 0\n", False),
        (None, False),
    ],
)
def test_a_cpu_tells_of_its_units_for_bf16(text, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(precision_module, "CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert precision_module.has_bf16(CPU) == expected
