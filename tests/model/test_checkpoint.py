"""Every network: built, saved, reloaded, compared; foreign files; files that are none."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_parameter_registration_hook

from model import (
    NETWORKS,
    BlindSR,
    build,
    checkpoint,
    foreign,
    load_model,
    name_of,
    save_folder,
    save_model,
    warm_start,
    write_file,
)
from model.moco import MoCo
from tests.momentum import state_of_moco
from utility import taken

CONFIGS = [
    ("KDSR_T", {"scale": 2, "n_feats": 8, "n_blocks": 2, "n_resblocks": 1}),
    ("KDSR_T", {"scale": 3, "n_feats": 8, "n_blocks": 1, "n_resblocks": 2}),
    ("KDSR_S", {"scale": 3, "n_feats": 12, "n_blocks": 3, "n_resblocks": 0}),
    ("KDSR_S", {"scale": 4, "n_feats": 8, "n_blocks": 2, "n_resblocks": 1}),
    ("CDSR", {"scale": 2, "n_feats": 24, "n_blocks": 1}),
    ("CDSR", {"scale": 3, "n_feats": 64, "n_blocks": 2}),
    ("DASR", {"scale": 3, "n_feats": 8, "n_blocks": 2}),
    ("DASR", {"scale": 4, "n_feats": 12, "n_blocks": 1}),
    ("IKC", {"scale": 2, "n_feats": 8, "n_blocks": 2}),
    ("IKC", {"scale": 3, "n_feats": 6, "n_blocks": 1}),
    ("IKC", {"scale": 4, "n_feats": 8, "n_blocks": 1}),
    ("EDSR", {"scale": 2, "n_feats": 8, "n_blocks": 3}),
    ("EDSR", {"scale": 3, "n_feats": 8, "n_blocks": 2}),
    ("EDSR", {"scale": 4, "n_feats": 12, "n_blocks": 1}),
    ("RRDB", {"scale": 2, "n_feats": 8, "n_blocks": 1}),
    ("RRDB", {"scale": 4, "n_feats": 12, "n_blocks": 2}),
]
WITHOUT_PUBLISHED_FORMAT = [
    ("RRDB", {"scale": 3, "n_feats": 8, "n_blocks": 2}),  # its names are those of x2
    ("BICUBIC", {"scale": 3}),
]


def filled(name, config):
    torch.manual_seed(1)
    net = build(name, **config)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)  # so that nothing is zero: γ of DQA starts there
    return net.eval()


def label(case):
    return f"{case[0]}-x{case[1]['scale']}"


@pytest.fixture(params=CONFIGS, ids=label)
def net(request):
    return filled(*request.param)


def same(a, b):
    torch.manual_seed(2)
    lr, hr = torch.rand(2, 3, 13, 17), torch.rand(2, 3, 13 * a.scale, 17 * a.scale)
    with torch.no_grad():
        x, y = a(lr, hr), b(lr, hr)
    assert x.image.shape == hr.shape
    torch.testing.assert_close(x, y, rtol=0, atol=0)


@pytest.mark.parametrize("case", CONFIGS + WITHOUT_PUBLISHED_FORMAT, ids=label)
def test_our_checkpoint(case, tmp_path):
    net = filled(*case)
    write_file(checkpoint(net), tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt")
    assert type(loaded) is type(net)
    assert loaded.config == net.config
    assert not loaded.training
    same(net, loaded)


@pytest.mark.parametrize("form", ["plain", "module", "compiled", "generator", "params", "params_ema"])
def test_official_checkpoint(net, form, tmp_path):
    state = foreign.write(net)
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    contents = {
        "plain": state,
        "module": {f"module.{key}": value for key, value in state.items()},
        "compiled": {f"_orig_mod.module.{key}": value for key, value in state.items()},
        "generator": {"state_dict": {f"generator.{key}": value for key, value in state.items()}},  # MMEditing
        "params": {"params": state},
        "params_ema": {"params": zeros, "params_ema": state},  # the average is what is meant to be used
    }
    torch.save(contents[form], tmp_path / "net.pt")
    loaded = load_model(str(tmp_path / "net.pt"), device=torch.device("cpu"))
    assert name_of(loaded) == name_of(net)
    assert loaded.config == net.config
    same(net, loaded)


@pytest.mark.parametrize("theirs", [False, True])
def test_which_weights_of_a_file(theirs, tmp_path):
    config = {"scale": 2, "n_feats": 8, "n_blocks": 1, "n_resblocks": 1}
    net, average = filled("KDSR_S", config), filled("KDSR_S", config)
    torch.nn.init.normal_(average.get_submodule("restoration.tail").get_parameter("weight"))
    both = checkpoint(net, average)
    if theirs:
        both = {"params": foreign.write(net), "params_ema": foreign.write(average)}
    torch.save(both, tmp_path / "both.pt")
    for weights, expected in (("auto", average), ("params_ema", average), ("params", net)):
        same(load_model(tmp_path / "both.pt", weights=weights), expected)
    del both["params_ema"]
    torch.save(both, tmp_path / "one.pt")
    for weights in ("auto", "params"):
        same(load_model(tmp_path / "one.pt", weights=weights), net)
    with pytest.raises(ValueError, match=r"`weights` params_ema: .*one\.pt holds no params_ema, only params"):
        load_model(tmp_path / "one.pt", weights="params_ema")


def test_a_plain_state_dict_is_no_average(net, tmp_path):
    torch.save(foreign.write(net), tmp_path / "net.pt")
    same(load_model(tmp_path / "net.pt", weights="params"), net)
    with pytest.raises(ValueError, match=r"`weights` params_ema: .*net\.pt holds no params_ema, only params"):
        load_model(tmp_path / "net.pt", weights="params_ema")


@pytest.mark.parametrize(
    ("file", "network"),
    [
        ("kdsr", "KDSR_S_M_x2"),
        ("kdsr", "KDSR_T_M_x3"),
        ("kdsr", "KDSR_S_L_x4"),
        ("cdsr", "CDSR_x3"),
        ("dasr", "DASR_x2"),
        ("dasr", "DASR_x4"),
    ],
)
def test_official_names_there_and_back(file, network, official_weights):
    """Every published key comes back with its value, but for the momentum encoder and its queue."""
    state = official_weights(file, network)
    net, missing, extra = foreign.read(state)
    assert not missing
    assert not extra
    written = foreign.write(net)
    kept = {key for key in state if not key.startswith(foreign.MOMENTUM)}
    assert written.keys() == kept
    for key in kept:
        torch.testing.assert_close(written[key], state[key], rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("case", WITHOUT_PUBLISHED_FORMAT, ids=label)
def test_a_network_without_published_format_says_so(case):
    with pytest.raises(ValueError, match="has no published format"):
        foreign.write(filled(*case))


def test_rrdb_by_the_names_of_basicsr(tmp_path):
    """As Real-ESRGAN's generator is published: body.0.rdb1.conv1, conv_body, conv_up1, conv_hr."""
    net = filled("RRDB", {"scale": 4, "n_feats": 8, "n_blocks": 2})
    state = foreign.write(net)
    names = {"RRDB_trunk": "body", "RDB": "rdb", "trunk_conv": "conv_body", "upconv": "conv_up", "HRconv": "conv_hr"}
    for theirs, basicsr in names.items():
        state = {key.replace(theirs, basicsr): value for key, value in state.items()}
    assert "body.1.rdb3.conv5.weight" in state
    torch.save({"params_ema": state}, tmp_path / "net.pth")
    loaded = load_model(tmp_path / "net.pth")
    assert loaded.config == net.config
    same(loaded, net)


@pytest.mark.parametrize(("file", "network"), [("cdsr", "CDSR_x2"), ("dasr", "DASR_x2")])
def test_the_momentum_encoder_is_read_too(file, network, official_weights):
    state = official_weights(file, network)
    net = foreign.read(state)[0]
    moco = MoCo(net.get_submodule("encoder"))
    moco.load_state_dict(state_of_moco(state))  # strict: nothing is missing, nothing too much
    torch.testing.assert_close(moco.queue, state["E.queue"], rtol=0, atol=0)


def test_published_cdsr_files_lack_the_momentum_encoder(official_weights, tmp_path):
    state = official_weights("cdsr", "CDSR_x2")
    published = {key: value for key, value in state.items() if not key.startswith(foreign.MOMENTUM)}
    torch.save(published, tmp_path / "model_492_psnr_36.17.pt")
    same(load_model(tmp_path / "model_492_psnr_36.17.pt"), foreign.read(state)[0].eval())


def test_missing_and_surplus_keys_are_named(net, tmp_path):
    state = foreign.write(net)
    ends = ("body.1.weight", "body.5.weight", "trunk_conv.weight", "conv_mid.weight", "tail.1.weight")
    key = next(name for name in state if name.endswith(ends))
    state["head.surplus"] = state.pop(key)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"head\.surplus") as caught:
        load_model(tmp_path / "net.pt")
    assert key in str(caught.value)
    assert "net.pt" in str(caught.value)


def test_a_state_dict_of_something_else(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"is no published file of our networks, .* bias, weight"):
        load_model(tmp_path / "net.pt")


class Hostile:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the file was run')",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_hostile_file_runs_nothing(tmp_path):
    (tmp_path / "net.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match=r"net\.pt cannot be read as a checkpoint"):
        load_model(tmp_path / "net.pt")
    torch.save({"params": Hostile()}, tmp_path / "zip.pt")
    with pytest.raises(ValueError, match=r"zip\.pt cannot be read as a checkpoint"):
        load_model(tmp_path / "zip.pt")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "contents", [b"", b"no checkpoint at all", b"hello", b"\xff\xd8\xff\xe0" * 9, b"\x80\x04]\x94."]
)
def test_files_that_are_no_checkpoint(contents, tmp_path):
    (tmp_path / "net.pt").write_bytes(contents)
    with pytest.raises(ValueError, match=r"net\.pt"):
        load_model(tmp_path / "net.pt")


@pytest.mark.parametrize(
    "contents",
    [
        {1: torch.zeros(1)},
        [torch.zeros(1)],
        {"params": [torch.zeros(1)]},
        {"network": "CDSR", "format": 1},
        {"epoch": 3, "weight": torch.zeros(1)},
        {"network": ["CDSR"], "format": 1, "config": {}, "params": {}},
        *(
            {"network": "KDSR_T", "format": 1, "config": {"scale": 2} | config, "params": {}}
            for config in ({"n_feats": "x"}, {"n_feats": -8}, {"n_feats": 10**12}, {"scale": None}, {1: 2}, {"a": 2})
        ),
    ],
)
def test_checkpoints_of_another_kind(contents, tmp_path):
    torch.save(contents, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt"):
        load_model(tmp_path / "net.pt")


@pytest.mark.parametrize("lost", ["E.encoder_q.pconv1.conv1.weight", "G.upsampler.0.weight", "G.conv_first.weight"])
def test_a_file_without_one_of_its_keys_is_known_all_the_same(lost, tmp_path):
    state = foreign.write(build("CDSR", scale=4, n_blocks=1))
    del state[lost]
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=rf"nearest is CDSR .*'scale': 4.*{lost}; it has too many: nothing"):
        load_model(tmp_path / "net.pt")


def test_a_truncated_checkpoint(net, tmp_path):
    torch.save(checkpoint(net), tmp_path / "net.pt")
    whole = (tmp_path / "net.pt").read_bytes()
    (tmp_path / "net.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"net\.pt"):
        load_model(tmp_path / "net.pt")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*missing\.pt"):
        load_model(tmp_path / "missing.pt")


def test_a_format_of_the_future(net, tmp_path):
    torch.save(checkpoint(net) | {"format": 99}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="format 99"):
        load_model(tmp_path / "net.pt")


def test_build_names_a_flag_that_means_nothing():
    with pytest.raises(ValueError, match="`n_resblocks` means nothing to CDSR"):
        build("CDSR", scale=2, n_resblocks=1)
    with pytest.raises(ValueError, match="`scale`: expected 2, 3 or 4, got 5"):
        build("KDSR_S", scale=5)


@pytest.mark.parametrize("name", NETWORKS)
def test_wrong_input_is_refused(name):
    net = build(name, scale=2, **({"n_blocks": 1} if "n_blocks" in taken(NETWORKS[name]) else {}))
    for shape in ((1, 3, 11 if name == "CDSR" else 0, 20), (1, 4, 20, 20), (3, 20, 20)):
        with pytest.raises(ValueError, match=r"expected \(B, 3, H, W\)"):
            net(torch.rand(shape))


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"`device` cuda:0: PyTorch finds no GPU here"):
        load_model("kdsr_s_x4_iso", "cuda:0")
    with pytest.raises(ValueError, match='`device` gpu: PyTorch knows none of this name; use "cuda" or "cpu"'):
        load_model("kdsr_s_x4_iso", "gpu")
    if not torch.xpu.is_available():
        with pytest.raises(ValueError, match="`device` xpu: PyTorch cannot use it here"):
            load_model("kdsr_s_x4_iso", "xpu")
    with pytest.raises(ValueError, match="`device` None: PyTorch knows none"):
        load_model("kdsr_s_x4_iso", None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("inner", ["model/", ""])
def test_the_folder_of_a_run_is_told_its_weights(inner, tmp_path):
    path = tmp_path / inner / "model_latest.pt"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"is the folder of a run; its weights are {path}$"):
        load_model(tmp_path)


def test_a_teacher_needs_the_hr_image_of_the_right_size():
    teacher = build("KDSR_T", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    for hr in (None, torch.rand(1, 3, 20, 20)):
        with pytest.raises(ValueError, match="together with its HR image"):
            teacher(torch.rand(1, 3, 12, 12), hr)


# ----------------------------------------------------------------------------------------- files of other kinds

SMALL = {"scale": 2, "n_feats": 4, "n_blocks": 1, "n_resblocks": 1}
FORMATS = Path(__file__).parent / "formats"


@pytest.mark.parametrize("path", sorted(p for p in FORMATS.iterdir() if p.suffix != ".md"), ids=lambda p: p.name)
def test_every_format_that_was_ever_written_is_read(path):
    net = load_model(path)
    assert name_of(net) == "KDSR_S"
    assert net.config == SMALL
    gain, rounding = 0.5 if "ema" in path.name else 1.0, 1e-3 if "half" in path.name else 1e-6
    for n, value in enumerate(net.state_dict().values()):
        expected = gain * torch.sin(torch.arange(value.numel(), dtype=torch.float64) + n).float().view(value.shape)
        torch.testing.assert_close(value, expected, rtol=0, atol=rounding)


@pytest.mark.parametrize("case", CONFIGS[3:6] + WITHOUT_PUBLISHED_FORMAT, ids=label)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", "folder"])
def test_saved_and_loaded(case, suffix, tmp_path):
    net = filled(*case)
    path = tmp_path / f"net{suffix}"
    if suffix == "folder":
        save_folder(net, path)
    else:
        save_model(net, path)
    loaded = load_model(path)
    assert loaded.config == net.config
    same(net, loaded)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_saved_with_its_average(suffix, tmp_path):
    net, ema = filled("KDSR_S", SMALL), filled("KDSR_S", SMALL)
    torch.nn.init.normal_(ema.get_submodule("restoration.tail").get_parameter("weight"))
    save_model(net, tmp_path / f"net{suffix}", ema=ema)
    for weights, expected in (("auto", ema), ("params_ema", ema), ("params", net)):
        same(load_model(tmp_path / f"net{suffix}", weights=weights), expected)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_half_precision_is_float32_again_when_loaded(suffix, tmp_path):
    net = filled("CDSR", {"scale": 2, "n_feats": 64, "n_blocks": 1})
    sizes = []
    for dtype in (None, torch.float16):
        save_model(net, tmp_path / f"net{suffix}", dtype=dtype)
        sizes.append((tmp_path / f"net{suffix}").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    loaded = load_model(tmp_path / f"net{suffix}").state_dict()
    for name, value in net.state_dict().items():
        assert loaded[name].dtype == value.dtype
        torch.testing.assert_close(loaded[name], value, rtol=1e-3, atol=1e-6)
    torch.nn.init.constant_(next(net.parameters()), 1e5)
    with pytest.raises(ValueError, match=r"`dtype` torch.float16: it cannot hold the weights of encoder"):
        save_model(net, tmp_path / f"net{suffix}", dtype=torch.float16)


def test_weights_are_float32_on_the_cpu_whatever_the_defaults_are(tmp_path):
    net = filled("KDSR_S", SMALL)
    save_model(net, tmp_path / "net.pt")
    torch.save(foreign.write(net), tmp_path / "published.pt")
    for name in ("net.pt", "published.pt"):
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device("meta"):
                loaded = load_model(tmp_path / name)
        finally:
            torch.set_default_dtype(torch.float32)
        for ours, theirs in zip(loaded.state_dict().values(), net.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)


def test_what_cannot_be_saved_is_named_and_writes_nothing(tmp_path):
    net = filled("EDSR", {"scale": 2, "n_feats": 8, "n_blocks": 1})
    for other, remedy in ((torch.nn.DataParallel(net), "module"), (torch.compile(net), "_orig_mod")):
        with pytest.raises(ValueError, match=f"is none of the networks .*; give its `.{remedy}`"):
            save_model(other, tmp_path / "net.pt")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="Linear is none of the networks"):
        save_model(torch.nn.Linear(1, 1), tmp_path / "net.pt")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"`dtype`: weights are stored as one of .*, not as torch.int8"):
        save_model(net, tmp_path / "net.pt", dtype=torch.int8)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        save_model(net, tmp_path / "nowhere/net.pt")


def test_a_suffix_that_means_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"`path` .*net\.onnx: its suffix"):
        save_model(filled("KDSR_S", SMALL), tmp_path / "net.onnx")


def test_published_weights_as_safetensors(net, tmp_path):
    save_file({name: value.contiguous() for name, value in foreign.write(net).items()}, tmp_path / "net.safetensors")
    same(load_model(tmp_path / "net.safetensors"), net)


def test_a_folder_whose_safetensors_lost_their_metadata(tmp_path):
    net = filled("KDSR_S", SMALL)
    save_folder(net, tmp_path)
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors", metadata={"format": "pt"})
    same(load_model(tmp_path), net)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 10**5, "cannot be read as JSON"),
        ("[]", "does not describe a network of ours"),
        ('{"architectures": ["Swin"]}', "does not describe a network of ours"),
        ('{"format": 2, "network": "KDSR_T", "config": {}}', "describe different networks"),
    ],
)
def test_folders_of_something_else(config, message, tmp_path):
    save_folder(filled("KDSR_S", SMALL), tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


def test_folders_that_lack_a_file(tmp_path):
    save_folder(filled("KDSR_S", SMALL), tmp_path)
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"there is no file .*{name}"):
            load_model(tmp_path)


@pytest.mark.parametrize(
    "claim",
    [
        *({"n_blocks": n} for n in (2000, 10**9, -1)),
        *({"n_feats": n} for n in (10**5, 10**12)),
        {"n_resblocks": 10**8},
        {"scale": 4},
    ],
)
def test_a_config_that_claims_more_than_the_file_holds(claim, tmp_path):
    contents = checkpoint(build("KDSR_S", **SMALL))
    write_file(contents | {"config": {**SMALL, **claim}}, tmp_path / "net.pt")
    made = []
    hook = register_module_parameter_registration_hook(lambda module, name, parameter: made.append(name))
    try:
        with pytest.raises(ValueError, match=r"net\.pt"):
            load_model(tmp_path / "net.pt")
    finally:
        hook.remove()
    assert len(made) < 2 * len(contents["params"]) + 100


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net"])
def test_a_state_dict_among_what_another_trainer_keeps(wrapper, tmp_path):
    net = build("KDSR_S", scale=4, n_feats=8, n_blocks=2, n_resblocks=1)
    torch.save({wrapper: foreign.write(net), "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "theirs.pth")
    loaded = load_model(tmp_path / "theirs.pth")
    assert loaded.config == net.config
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_the_state_of_a_resnet_is_not_compared_with_a_network(tmp_path):
    state = {f"layer{i}.0.conv1.weight": torch.zeros(4, 4, 3, 3) for i in range(1, 5)}
    torch.save(state, tmp_path / "resnet.pt")
    with pytest.raises(
        ValueError, match=r"resnet\.pt is no published file of our networks, .*layer1\.0\.conv1\.weight"
    ) as caught:
        load_model(tmp_path / "resnet.pt")
    assert "nearest" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sizes", "fresh"),
    [
        ("KDSR_S", {"n_feats": 8, "n_blocks": 2, "n_resblocks": 1}, "restoration.upsample."),
        ("CDSR", {"n_blocks": 1}, "restoration.tail."),
        ("EDSR", {"n_feats": 8, "n_blocks": 2}, "upsample."),
    ],
)
def test_a_warm_start_at_another_scale(name, sizes, fresh):
    source, net = build(name, scale=2, **sizes), build(name, scale=3, **sizes)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    names = warm_start(net, source)
    assert len(names) > 0
    assert all(key.startswith(fresh) for key in names)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key] if key in names else source.state_dict()[key])
    assert warm_start(build(name, scale=2, **sizes), source) == []


def test_a_stage_of_the_upsampler_starts_afresh_even_if_it_fits():
    """The first of two stages has learned what another follows."""
    source, net = (build("EDSR", scale=scale, n_feats=8, n_blocks=2) for scale in (4, 2))
    assert warm_start(net, source) == ["upsample.0.weight", "upsample.0.bias"]
    assert torch.equal(net.state_dict()["tail.weight"], source.state_dict()["tail.weight"])


class Doubled(BlindSR):
    """A network of somebody else, without a published form and without defaults."""

    def __init__(self, *, scale: int, taps: int) -> None:
        super().__init__(scale=scale, taps=taps)
        self.taps = torch.nn.Parameter(torch.rand(taps))

    def restore(self, lr: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return self.taps.mean() * torch.nn.functional.interpolate(lr, scale_factor=self.scale)


def test_a_new_network_is_a_line_in_the_table(monkeypatch, tmp_path):
    monkeypatch.setitem(NETWORKS, "DOUBLED", Doubled)
    net = build("DOUBLED", scale=2, taps=3)
    save_model(net, tmp_path / "net.pt")
    same(load_model(tmp_path / "net.pt"), net)
    assert net.upscale(torch.rand(3, 5, 6)).shape == (3, 10, 12)
