"""The same numbers on a GPU: networks, degradations, a step, a whole run, and a resumed one."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data.degradation import IKC, Gaussian, MANet, SecondOrder
from loss import Contrast, Distillation, Pixel
from model import CDSR, build, checkpoint, foreign, op
from runtime.graph import GraphedStep
from runtime.precision import Precision, ieee_products
from runtime.signals import STOPPED
from scripts import reproduce
from tests.phases import losses_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU = torch.device("cuda")
MAIN = Path(__file__).parents[1] / "main.py"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", op.OPERATORS)
def test_the_triton_kernels_give_what_pytorch_gives(name, dtype):
    pytest.importorskip("triton")
    assert op.self_check(name, torch.device("cuda", 0), dtype)


@pytest.mark.parametrize(("file", "network"), [("kdsr", "KDSR_S_M_x4"), ("kdsr", "KDSR_S_L_x4"), ("cdsr", "CDSR_x2")])
def test_networks_match_the_official_numbers(file, network, official_weights, official_numbers):
    net = foreign.read(official_weights(file, network))[0].eval().to(GPU)
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
        IKC(scale=4),
    ],
    ids=["iso", "aniso", "manet", "ikc"],
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
    if getattr(recipe, "quality", None) is None:
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
            losses_of(objective, net, lr.to(device), hr.to(device))["total"].backward()
        gradients.append(torch.cat([p.grad.flatten().cpu() for p in net.parameters() if p.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 1e-4


@pytest.mark.parametrize("seed", range(4))  # draws with and without a second blur, of both orders of the last steps
def test_second_order_is_that_of_the_cpu(seed, photo):
    recipe = SecondOrder(scale=4)
    hr = torch.from_numpy(photo[:400, :400].copy()).permute(2, 0, 1)[None].repeat(2, 1, 1, 1) / 255
    params = recipe.sample(2, generator=torch.Generator().manual_seed(seed))
    first, second = (part._replace(noise=torch.zeros_like(part.noise)) for part in (params.first, params.second))
    params = params._replace(first=first, second=second)
    lr = [
        recipe.apply(hr.to(device), params, generator=torch.Generator(device).manual_seed(2)).cpu()
        for device in ("cpu", GPU)
    ]
    difference = (255 * (lr[0] - lr[1])).abs().round()
    assert (difference > 0).float().mean() < 5e-3  # a coefficient that lies between two levels of JPEG moves a block


# --------------------------------------------------------------------------------------------------- whole runs

KDSR = "--n_feats 16 --n_blocks 3 --n_resblocks 1"
RUNS = {
    "pixel": f"--model KDSR_T {KDSR}",
    "contrast": "--model CDSR --n_feats 8 --n_blocks 1 --freeze_epoch 2",
    "adversarial": f"--model KDSR_S --objective adversarial {KDSR} --perceptual_weight 0 --kd_weight 0 --d_feats 8",
    "second_order": f"--model KDSR_T {KDSR} --degradation second_order --patch_size 24 --crop_size 40 --pool_size 8",
}


@pytest.fixture
def run_main(photo_folder, tmp_path):
    """Runs main.py in a process of its own, for six steps of two epochs; returns the run's directory."""

    def call(arguments):
        command = f"--dir_data {photo_folder} --data_train train --dir_experiment {tmp_path} --scale 2 --batch_size 4"
        command += " --patch_size 24 --test_every 3 --epochs_sr 2 --n_threads 1 --print_every 1"
        words = [sys.executable, str(MAIN), *command.split(), *arguments.split()]
        done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == (STOPPED if "--max_minutes" in words else 0), done.stderr
        name = arguments.split("--save ")[1].split()[0]
        return next(tmp_path.glob(f"{name}_x2_*"))

    return call


def state(run):
    return torch.load(run / "model" / "state.pt", map_location="cpu", weights_only=True)


def assert_same(a, b, path=""):
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}/{i}")
    else:
        assert a == b, path


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("objective", RUNS)
def test_deterministic_runs_are_equal_and_so_is_a_resumed_one(objective, precision, run_main):
    arguments = f"{RUNS[objective]} --deterministic --precision {precision}"
    first, again = run_main(f"{arguments} --save first"), run_main(f"{arguments} --save again")
    assert_same(state(first), state(again))
    stopped = run_main(f"{arguments} --save stopped --max_minutes 0")
    assert state(stopped)["step"] == 1
    run_main(f"{arguments} --save stopped --resume")
    assert_same(state(first), state(stopped))


def test_a_published_row_is_measured_as_on_the_cpu(photo_folder, tmp_path):
    torch.save(checkpoint(build("CDSR", scale=2, n_blocks=1)), tmp_path / "cdsr.pt")
    row = ["cdsr2", "--row", "CDSR x2", "--weights", str(tmp_path / "cdsr.pt"), "--data", str(photo_folder)]
    measured = []
    for where in ([], ["--cpu"]):
        reproduce.main([*row, *where, "--out", str(tmp_path / "out.json")])
        measured.append(json.loads((tmp_path / "out.json").read_text())["lines"][0]["measured"])
    assert measured[0] == pytest.approx(measured[1], abs=1e-3)


@pytest.mark.parametrize(
    "flag",
    [
        "--cuda_graph",
        "--compile",
        "--cuda_graph --compile",
        "--cuda_graph --recompute",
        "--cuda_graph --data_cache cuda",
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("objective", ["pixel", "distillation", "contrast"])
def test_faster_steps_lose_what_plain_ones_do(objective, precision, flag, run_main, tmp_path):
    """Over two kinds of steps, and a resumed run; the rate of a captured step is rounded to float32."""
    if objective == "distillation":
        torch.manual_seed(0)
        sizes = {"n_feats": 16, "n_blocks": 3, "n_resblocks": 1}
        torch.save(checkpoint(build("KDSR_T", scale=2, **sizes)), tmp_path / "teacher.pt")
        arguments = f"--model KDSR_S {KDSR} --pre_train_TA {tmp_path / 'teacher.pt'} --epochs_encoder 1 --epochs_sr 4"
    else:
        arguments = RUNS[objective].replace("--freeze_epoch 2", "--freeze_epoch 1") + " --epochs_sr 4"
    arguments += f" --test_every 5 --precision {precision}"
    plain = run_main(f"{arguments} --save plain")
    run_main(f"{arguments} {flag} --save fast --max_minutes 0")
    fast = run_main(f"{arguments} {flag} --save fast --resume")
    losses = [{(row["step"], row["part"]): float(row["value"]) for row in rows(run)} for run in (plain, fast)]
    assert len(losses[0]) >= 20 * 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-3 if precision == "fp32" else 2e-2)
    assert state(fast)["net"]["params"].keys() == state(plain)["net"]["params"].keys()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["KDSR_S", "CDSR", "DASR"])
def test_a_captured_forward_restores_as_a_plain_one(name, precision):
    how = Precision(precision)
    torch.manual_seed(0)
    net = build(name, scale=4).eval().to(GPU).to(memory_format=how.inference_format(GPU))

    def forward(_, lr):
        with how.autocast(GPU):
            return {"image": net(lr).image}

    captured = GraphedStep(forward)
    with torch.inference_mode():
        for _ in range(5):  # two that warm up, and three replays
            lr = torch.rand(1, 3, 40, 56, device=GPU)
            torch.testing.assert_close(
                captured(0, lr), forward(0, lr), rtol=0, atol=1e-5 if precision == "fp32" else 1e-2
            )


def rows(run):
    return csv.DictReader((run / "loss_log.csv").open())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("objective", ["pixel", "contrast", "adversarial"])
def test_two_gpus_lose_what_one_does(objective, run_main):
    """The first losses are those of the same weights and images, the others those of almost the same weights."""
    losses = []
    for count in (1, 2):
        run = run_main(f"{RUNS[objective]} --n_GPUs {count} --save n{count}")
        losses.append(
            [[float(row["value"]) for row in rows(run) if row["part"] == part] for part in ("l1", "contrast")]
        )
    one, two = losses
    assert len(one[0]) == 6
    assert [part[:1] for part in two] == [pytest.approx(part[:1], rel=1e-3) for part in one]
    assert two[0] == pytest.approx(one[0], rel=1e-2 if objective == "contrast" else 1e-3)
