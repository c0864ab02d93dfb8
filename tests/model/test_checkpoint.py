"""Every network: built, saved, reloaded, compared; foreign files; files that are none."""

import pickle

import pytest
import torch

from model import NETWORKS, build, checkpoint, foreign, load_model, name_of
from model.moco import MoCo

CONFIGS = [
    ("KDSR_T", {"scale": 2, "n_feats": 8, "n_blocks": 2, "n_resblocks": 1}),
    ("KDSR_T", {"scale": 3, "n_feats": 8, "n_blocks": 1, "n_resblocks": 2}),
    ("KDSR_S", {"scale": 3, "n_feats": 12, "n_blocks": 3, "n_resblocks": 0}),
    ("KDSR_S", {"scale": 4, "n_feats": 8, "n_blocks": 2, "n_resblocks": 1}),
    ("CDSR", {"scale": 2, "n_blocks": 1}),
    ("CDSR", {"scale": 3, "n_blocks": 2}),
    ("DASR", {"scale": 3, "n_feats": 8, "n_blocks": 2}),
    ("DASR", {"scale": 4, "n_feats": 12, "n_blocks": 1}),
    ("RRDB", {"scale": 2, "n_feats": 8, "n_blocks": 1}),
    ("RRDB", {"scale": 4, "n_feats": 12, "n_blocks": 2}),
]
WITHOUT_PUBLISHED_FORMAT = [
    ("EDSR", {"scale": 4, "n_feats": 8, "n_blocks": 2}),
    ("RRDB", {"scale": 3, "n_feats": 8, "n_blocks": 2}),  # its names are those of x2
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
    torch.save(checkpoint(net), tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt")
    assert type(loaded) is type(net)
    assert loaded.config == net.config
    assert not loaded.training
    same(net, loaded)


@pytest.mark.parametrize("form", ["plain", "module", "params", "params_ema"])
def test_official_checkpoint(net, form, tmp_path):
    state = foreign.write(net)
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    contents = {
        "plain": state,
        "module": {f"module.{key}": value for key, value in state.items()},
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
    moco.load_state_dict(foreign.read_momentum(state))  # strict: nothing is missing, nothing too much
    torch.testing.assert_close(moco.queue, state["E.queue"], rtol=0, atol=0)


def test_published_cdsr_files_lack_the_momentum_encoder(official_weights, tmp_path):
    state = official_weights("cdsr", "CDSR_x2")
    published = {key: value for key, value in state.items() if not key.startswith(foreign.MOMENTUM)}
    torch.save(published, tmp_path / "model_492_psnr_36.17.pt")
    same(load_model(tmp_path / "model_492_psnr_36.17.pt"), foreign.read(state)[0].eval())


def test_missing_and_surplus_keys_are_named(net, tmp_path):
    state = foreign.write(net)
    key = next(name for name in state if name.endswith(("body.1.weight", "body.5.weight", "trunk_conv.weight")))
    state["head.surplus"] = state.pop(key)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"head\.surplus") as caught:
        load_model(tmp_path / "net.pt")
    assert key in str(caught.value)
    assert "net.pt" in str(caught.value)


def test_a_state_dict_of_something_else(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"is not a network of ours: .* such as bias, weight"):
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
    with pytest.raises(ValueError, match="`n_feats` means nothing to CDSR"):
        build("CDSR", scale=2, n_feats=64)
    with pytest.raises(ValueError, match="`scale` 5"):
        build("KDSR_S", scale=5)


@pytest.mark.parametrize("name", NETWORKS)
def test_wrong_input_is_refused(name):
    net = build(name, scale=2, **({} if name == "BICUBIC" else {"n_blocks": 1}))
    for shape in ((1, 3, 11 if name == "CDSR" else 0, 20), (1, 4, 20, 20), (3, 20, 20)):
        with pytest.raises(ValueError, match=r"takes \(B, 3, H, W\)"):
            net(torch.rand(shape))


def test_a_teacher_needs_the_hr_image_of_the_right_size():
    teacher = build("KDSR_T", scale=2, n_feats=8, n_blocks=1, n_resblocks=1)
    for hr in (None, torch.rand(1, 3, 20, 20)):
        with pytest.raises(ValueError, match="together with its HR image"):
            teacher(torch.rand(1, 3, 12, 12), hr)
