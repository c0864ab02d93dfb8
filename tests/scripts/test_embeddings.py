"""Scores of embeddings that are known to tell, or not to tell, the degradation; and the script from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import list_images, read_image
from data.protocol import Case, Protocol, gaussian8, manet9, manet_sv
from model import build, checkpoint
from model.layer import BlindSR, Embedding
from scripts import embeddings
from scripts.embeddings import (
    Embedded,
    embed,
    flatten,
    label,
    main,
    probe_accuracy,
    random_patches,
    scatter,
    silhouette,
    spread,
    title_of,
)

CPU = torch.device("cpu")
CASES, IMAGES, PATCHES, DIM = 5, 20, 4, 16
CHANCE = 1 / CASES


def synthetic(vector_of) -> Embedded:
    """Embeddings of PATCHES patches of IMAGES images: vector_of(rng) gives (CASES, IMAGES, PATCHES, DIM)."""
    degradation, image, _ = np.indices((CASES, IMAGES, PATCHES)).reshape(3, -1)
    vectors = np.broadcast_to(vector_of(np.random.default_rng(0)), (CASES, IMAGES, PATCHES, DIM))
    return Embedded(vectors.reshape(-1, DIM), degradation, image)


def test_spread_is_in_parts_of_the_length_of_the_mean():
    vectors = np.full((6, DIM), 4.0)
    assert spread(Embedded(vectors, np.arange(6), np.arange(6))) == 0
    vectors[::2, 0], vectors[1::2, 0] = 1, 7
    assert spread(Embedded(vectors, np.arange(6), np.arange(6))) == pytest.approx(3 / (4 * DIM**0.5))


def test_a_collapsed_encoder_is_told(model_file, photo_folder, tmp_path):
    path = model_file("CDSR", scale=2, n_feats=8, n_blocks=1)
    contents = torch.load(path, weights_only=True)
    for name, value in contents["params"].items():
        if "csc.codebook" in name:
            value.fill_(1.0)
    torch.save(contents, path)
    words = f"--pre_train {path} --hr {photo_folder / 'train/HR'} --out {tmp_path / 'out'} --patch_size 24 --cpu"
    with pytest.raises(SystemExit, match="are equal: its encoder tells no image and no kernel from another"):
        main(words.split())


def test_separated_degradations_score_high():
    embedded = synthetic(
        lambda rng: 10 * rng.normal(size=(CASES, 1, 1, DIM)) + rng.normal(size=(CASES, IMAGES, PATCHES, DIM))
    )
    assert silhouette(embedded) > 0.8
    assert probe_accuracy(embedded, seed=1) == 1


def test_noise_scores_at_chance():
    embedded = synthetic(lambda rng: rng.normal(size=(CASES, IMAGES, PATCHES, DIM)))
    assert silhouette(embedded) == pytest.approx(0, abs=0.05)
    assert probe_accuracy(embedded, seed=1) == pytest.approx(CHANCE, abs=0.1)


def test_knowing_the_images_does_not_help():
    """Each image has codes of its own for the degradations: only a probe that has seen the image can tell them."""
    embedded = synthetic(lambda rng: rng.normal(size=(CASES, IMAGES, 1, DIM)))
    assert probe_accuracy(embedded, seed=1) == pytest.approx(CHANCE, abs=0.1)


def test_a_degradation_that_varies_little_beside_the_content_is_told():
    def hidden(rng):
        content = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
        vectors = rng.normal(size=(CASES, IMAGES, PATCHES, DIM))
        vectors[..., 0] = 0.1 * (np.arange(CASES)[:, None, None] + 0.1 * vectors[..., 0])
        return vectors @ content

    embedded = synthetic(hidden)
    assert silhouette(embedded) < 0.05
    assert probe_accuracy(embedded, seed=1) > 0.8


def test_one_image_cannot_be_halved():
    embedded = synthetic(lambda rng: rng.normal(size=(CASES, IMAGES, PATCHES, DIM)))
    with pytest.raises(ValueError, match="two at least"):
        probe_accuracy(embedded._replace(image=np.zeros_like(embedded.image)), seed=1)


def test_patches_are_cut_from_the_images_that_they_name(photo_folder):
    paths = list_images(photo_folder / "train" / "HR")
    patches, images = random_patches(paths, side=90, count=3, seed=1, skip_bad=False)
    assert patches.shape == (15, 3, 90, 90)
    assert sorted(images) == sorted(3 * [0, 1, 2, 3, 4])
    for patch, index in zip(patches, images, strict=True):
        whole = torch.from_numpy(read_image(paths[index])).permute(2, 0, 1)
        places = whole.unfold(1, 90, 1).unfold(2, 90, 1)  # 3 h w 90 90
        assert (places == patch[:, None, None]).all(-1).all(-1).all(0).any()
    assert torch.equal(patches, random_patches(paths, side=90, count=3, seed=1, skip_bad=False)[0])
    assert not torch.equal(patches, random_patches(paths, side=90, count=3, seed=2, skip_bad=False)[0])


@pytest.mark.parametrize("name", ["KDSR_S", "KDSR_T"])
@pytest.mark.parametrize("space", ["code", "projection"])
def test_embeddings_belong_to_their_degradation_and_image(name, space, monkeypatch):
    monkeypatch.setattr(embeddings, "AT_ONCE", 2)
    net = build(name, scale=2, n_feats=4, n_blocks=1, n_resblocks=1)
    rule = Protocol("two", 2, "gaussian", (Case("sharp", (0.5, 0.5)), Case("soft", (3.0, 3.0))))
    patches = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    embedded = embed(net, patches, [7, 8, 7], rule, space=space, seed=1, device=CPU)
    assert embedded.degradation.tolist() == [0, 0, 0, 1, 1, 1]
    assert embedded.image.tolist() == [7, 8, 7, 7, 8, 7]
    for row, (case, i) in enumerate((case, i) for case in rule.cases for i in range(3)):
        hr = patches[i] / 255
        expected = getattr(net.embed(rule.degrade(hr, case, seed="1")[None], hr[None]), space)[0]
        np.testing.assert_allclose(embedded.vectors[row], expected.detach().numpy(), rtol=1e-4, atol=1e-6)


class Sharpness(BlindSR):
    """Embeds how much of the fine detail is left, by hand."""

    def embed(self, lr, hr=None):
        g = lr.mean(1)
        coarse, fine = g[:, 2:] - g[:, :-2], g[:, 2:] + g[:, :-2] - 2 * g[:, 1:-1]
        ratio = (fine.square().mean((1, 2)) / coarse.square().mean((1, 2))).log()[:, None]
        return Embedding(ratio.expand(-1, 2), ratio[:, :0])


def test_an_encoder_that_sees_blur_is_told_from_chance(photo_folder):
    rule = Protocol("wide", 2, "gaussian", tuple(Case(f"{s}", (s, s)) for s in (0.3, 1.5, 3.0)))
    paths = list_images(photo_folder / "train" / "HR")
    patches, images = random_patches(paths, side=64, count=4, seed=1, skip_bad=False)
    embedded = embed(Sharpness(scale=2), patches, images, rule, space="code", seed=1, device=CPU)
    assert probe_accuracy(embedded, seed=1) > 0.6
    with pytest.raises(ValueError, match="Sharpness embeds nothing"):
        embed(Sharpness(scale=2), patches, images, rule, space="projection", seed=1, device=CPU)


@pytest.mark.parametrize("method", [pytest.param("tsne", marks=pytest.mark.slow), "pca"])
def test_a_picture_keeps_clusters_apart(method):
    embedded = synthetic(
        lambda rng: 10 * rng.normal(size=(CASES, 1, 1, DIM)) + rng.normal(size=(CASES, IMAGES, PATCHES, DIM))
    )
    points = flatten(embedded.vectors, method, seed=1)
    assert points.shape == (CASES * IMAGES * PATCHES, 2)
    assert silhouette(embedded._replace(vectors=points)) > 0.5


def test_every_point_has_the_colour_of_its_degradation():
    degradation = np.array([0, 1, 2, 1, 0])
    points = np.arange(10.0).reshape(5, 2)
    figure = scatter(points, degradation, ["a", "b", "c"], "title")
    drawn, *samples = figure.axes[0].collections
    colours = {str(sample.get_label()): tuple(np.asarray(sample.get_facecolor())[0, :3]) for sample in samples}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(colours) == ["a", "b", "c"]
    assert len(set(colours.values())) == 3
    places = [tuple(place) for place in np.asarray(drawn.get_offsets())]
    shown = dict(zip(places, [tuple(colour) for colour in np.asarray(drawn.get_facecolor())[:, :3]], strict=True))
    assert shown == {tuple(at): colours["abc"[index]] for at, index in zip(points, degradation, strict=True)}


def test_labels():
    assert [label(case) for case in gaussian8(4).cases[:2]] == ["σ 1.80", "σ 2.00"]
    assert [label(case) for case in manet9(4).cases[:3]] == ["σ 1.00", "σ 2.24 × 1.00, 0°", "σ 2.24 × 1.00, 45°"]
    assert label(manet_sv(4, 5).cases[0]) == "sv5"
    for protocol in (gaussian8(2), manet9(2)):
        assert len({label(case) for case in protocol.cases}) == len(protocol.cases)


# ------------------------------------------------------------------------------------------------- the script


@pytest.fixture
def model_file(tmp_path: Path):
    def write(network, **config):
        path = tmp_path / "run_x2" / "model" / "model_best.pt"
        path.parent.mkdir(parents=True)
        torch.save(checkpoint(build(network, **config)), path)
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "config", "more", "stem", "cases"),
    [
        ("KDSR_S", {"n_feats": 4, "n_blocks": 1, "n_resblocks": 1}, "", "KDSR_S_x2_{}_gaussian8_code_tsne", 8),
        ("CDSR", {"n_blocks": 1}, "--method pca --space projection", "CDSR_x2_{}_manet9_projection_pca", 9),
        ("CDSR", {"n_blocks": 1}, "--protocol gaussian8 --noise 10", "CDSR_x2_{}_gaussian8_noise_10_code_tsne", 8),
        ("CDSR", {"n_blocks": 1}, "--method pca --protocol {}/mine.json", "CDSR_x2_{}_mine_code_pca", 2),
    ],
)
def test_picture_and_scores_of_a_checkpoint(
    network, config, more, stem, cases, model_file, photo_folder, tmp_path, capsys
):
    path, out = model_file(network, scale=2, **config), tmp_path / "out"
    kernels = [[sig, sig, 0] for sig in (0.8, 2.4)]
    (tmp_path / "mine.json").write_text(json.dumps({"recipe": "gaussian", "kernels": kernels}))
    more = more.format(tmp_path)
    hr = photo_folder / "train" / "HR"
    main(f"--pre_train {path} --hr {hr} --out {out} --limit 4 --patches 2 --patch_size 24 {more}".split())
    printed = capsys.readouterr().out
    stem = stem.format(title_of(path.with_suffix("")).replace("/", "_"))
    assert {file.name for file in out.iterdir()} == {f"{stem}.png", f"{stem}.json"}
    assert Image.open(out / f"{stem}.png").width > 800
    summary = json.loads((out / f"{stem}.json").read_text())
    assert f"{4 * 2 * cases} embeddings" in printed
    assert summary["spread"] > 0
    measures = f"spread {summary['spread']:.2g}, silhouette {summary['silhouette']:.3f}, accuracy"
    assert f"{measures} {100 * summary['accuracy']:.1f} %" in printed
    assert summary["chance"] == 1 / cases
    assert len(summary["degradations"]) == cases
    assert summary["images"] == 4
    assert len(summary["sha256"]) == 64


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--protocol bicubic", "--protocol bicubic has a single kernel"),
        ("--protocol nothing", "--protocol nothing is none of"),
        ("--limit 1", "two at least are needed"),
        ("--patch_size 6", "--patch_size 6: CDSR needs 12 LR pixels a side"),
        ("--patch_size 50", "are 100 HR pixels a side"),
        ("--limit 0", "0 is not a whole number of 1 or more"),
        ("--noise 256", "256 is not a number from 0 to 255"),
        ("--hr nowhere", "--hr: there is no folder nowhere"),
        ("--pre_train none.pt", "--pre_train: there is no file none.pt"),
        ("--out emb.png", "--out emb.png looks like the name of a file; name a folder"),
    ],
)
def test_what_cannot_be_done_is_said(more, message, model_file, photo_folder, tmp_path, capsys):
    path = model_file("CDSR", scale=2, n_blocks=1)
    hr = photo_folder / "train" / "HR"
    with pytest.raises(SystemExit) as caught:
        main(f"--pre_train {path} --hr {hr} --out {tmp_path / 'out'} {more}".split())
    assert message in f"{caught.value}{capsys.readouterr().err}"
    assert [file.name for file in tmp_path.iterdir()] == ["run_x2"]
