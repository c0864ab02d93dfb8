"""Show what a network's encoder has learned about degradations: a picture, a cluster score, a classification accuracy.

    python scripts/embeddings.py --pre_train MODEL.pt --hr DIR --out DIR [--method tsne|pca] [--space code|projection]

Random patches of the HR images are degraded by each kernel of a test protocol and embedded. The program writes a
scatter plot of the embeddings (t-SNE or PCA, one colour for each kernel), and a JSON file with three measures of the
embeddings themselves, not of their picture:

spread      how far embeddings lie from their mean, in parts of its length: near 0 the encoder tells nothing apart
silhouette  how much closer an embedding is to those of its own kernel than to those of the next, -1 to 1
accuracy    of a linear classifier that tells the kernel from the frozen embedding (CDSR, Table 1). It is trained on
            half the images and tested on the other half, then the other way round, so it never knows the content
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from math import degrees
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.draws import Draws
from data.images import list_images
from data.protocol import Case, Protocol
from data.protocol_flags import build_protocol
from data.sampler import PatchBatches, PatchSampler
from data.store import ImageFolder, check_images
from evaluation.results import sha256
from model import BlindSR, load_model, name_of, zoo
from scripts.drawing import widths
from scripts.program import add_cpu, check_folder, device_of, integer, one_line, program, real, words_of
from utility import argument, atomic_write, environment, file_name, write_text

PROTOCOLS = {"CDSR": "manet9"}  # the recipe that the network was published with; gaussian8 for all others
SMALL = 1e-3  # a spread under which an estimate steers next to nothing
AT_ONCE = 64  # patches in a batch


class Embedded(NamedTuple):
    """N embeddings, and the kernel and image of each."""

    vectors: np.ndarray  # (N, D) float
    degradation: np.ndarray  # (N,) index of the case of the protocol
    image: np.ndarray  # (N,) index of the image that the patch was cut from


# ------------------------------------------------------------------------------------------------- embeddings


def random_patches(
    paths: Sequence[Path], *, side: int, count: int, seed: int, skip_bad: bool
) -> tuple[Tensor, list[int]]:
    """Cut `count` random patches from every image: (N, 3, side, side) uint8, and the index of the image of each.

    Raises BadImage for images that cannot be read or are smaller; with `skip_bad` they are left out and named.
    """
    checked = check_images(paths, at_least=side, skip_bad=skip_bad)
    store = ImageFolder([path for path, _ in checked], [size for _, size in checked])
    sampler = PatchSampler(store.sizes, Draws(seed=seed, batch=len(checked), views=count), patch=side, augment="none")
    return PatchBatches(store, sampler)[0].hr, [crop.index for crop in sampler.draw(0)]


def embed(
    net: BlindSR, patches: Tensor, images: Sequence[int], rule: Protocol, *, space: str, seed: int, device: torch.device
) -> Embedded:
    """Embed (N, 3, s·P, s·P) uint8 patches under every case of the protocol, case after case.

    space: `code`, which steers the restoration, or `projection`, which the loss of the encoder sees. Raises ValueError
    if the network embeds nothing.
    """
    net = net.eval().to(device)
    parts = []
    with torch.inference_mode():
        for case in rule.cases:
            for first in range(0, len(patches), AT_ONCE):
                hr = patches[first : first + AT_ONCE].to(device).float() / 255
                lr = torch.stack([rule.degrade(x, case, seed=f"{seed}/{i}") for i, x in enumerate(hr, first)])
                parts.append(getattr(net.embed(lr, hr), space))
    vectors, cases = torch.cat(parts).float(), len(rule.cases)
    if vectors.shape[1] == 0:
        raise ValueError(f"--pre_train: {type(net).__name__} embeds nothing; name the checkpoint of a blind network")
    return Embedded(
        vectors.cpu().numpy(),
        np.repeat(np.arange(cases), len(patches)),
        np.tile(np.asarray(images), cases),
    )


# ---------------------------------------------------------------------------------------------------- measures


def spread(embedded: Embedded) -> float:
    """Return the root mean square distance of embeddings from their mean, over the length of that; inf if it is 0."""
    vectors = embedded.vectors.astype(np.float64)
    mean = vectors.mean(0)
    distance, length = np.sqrt(((vectors - mean) ** 2).sum(1).mean()), np.linalg.norm(mean)
    return float(distance / length) if length else float("inf")


def silhouette(embedded: Embedded) -> float:
    """Return the mean silhouette coefficient of the clusters that the degradations make, -1..1; 0: no clusters."""
    return float(silhouette_score(embedded.vectors, embedded.degradation))


def probe_accuracy(embedded: Embedded, *, seed: int) -> float:
    """Return the share of embeddings whose degradation is recognised by a logistic regression trained on other images.

    Each half of the images is tested after training on the other half. Raises ValueError for a single image.
    """
    if len(set(embedded.image.tolist())) < 2:
        raise ValueError("the images: two at least are needed, to train the classifier on one half and test the other")
    halves = GroupKFold(n_splits=2, shuffle=True, random_state=seed)
    # Little regularisation: the kernel may show in directions that vary little beside the content.
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=100, max_iter=2000))
    vectors, degradation, image = embedded
    told = cross_val_predict(probe, vectors, degradation, groups=image, cv=halves)
    return float(np.mean(told == degradation))


# ----------------------------------------------------------------------------------------------------- picture


def flatten(vectors: np.ndarray, method: str, *, seed: int) -> np.ndarray:
    """Project (N, D) to (N, 2) by `tsne` or `pca`."""
    if method == "pca":
        return PCA(n_components=2, random_state=seed).fit_transform(vectors)
    perplexity = min(30, (len(vectors) - 1) / 3)
    return TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)


def label(case: Case) -> str:
    """Return the text of a legend: `σ 1.80`, `σ 3.00 × 1.00, 45°`."""
    if case.width is None:
        return case.name
    rotation = "" if case.width[0] == case.width[1] else f", {degrees(case.theta):.0f}°"
    return widths(*case.width) + rotation


def scatter(points: np.ndarray, degradation: np.ndarray, labels: Sequence[str], title: str) -> Figure:
    """Draw (N, 2) points, in one colour for each degradation."""
    figure = Figure(figsize=(8.5, 6.5), layout="constrained")
    axes = figure.add_subplot(title=title, xticks=[], yticks=[])
    colours = matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, len(labels)))
    order = np.random.default_rng(0).permutation(len(points))  # or the last degradation would hide the others
    axes.scatter(*points[order].T, c=colours[degradation[order]], s=16, alpha=0.8, linewidths=0)
    for text, colour in zip(labels, colours, strict=True):
        axes.scatter([], [], color=colour, s=50, label=text)
    figure.legend(loc="outside right center", title="kernel, HR pixels")
    return figure


# ----------------------------------------------------------------------------------------------------- program


def title_of(path: Path) -> str:
    """Return a checkpoint's name, with its run's: many files are called `model_best.pt`."""
    return "/".join(path.parts[-3:]) if path.parent.name == "model" else path.name


def run(given: Namespace) -> None:
    """Embed, measure, draw and write. Raise ValueError or OSError that names the argument to mend."""
    if given.out.suffix and not given.out.is_dir():
        raise ValueError(
            f"--out {given.out} looks like the name of a file; name a folder, for a picture and a JSON file"
        )
    check_folder("--out", given.out)
    with argument("pre_train"):
        given.pre_train = zoo.resolve(given.pre_train)
        net = load_model(given.pre_train)
    name = given.protocol or PROTOCOLS.get(name_of(net), "gaussian8")
    rule = build_protocol(name, scale=net.scale, noise=given.noise)
    if len(rule.cases) < 2:
        raise ValueError(f"--protocol {name} has a single kernel; embeddings are compared across several")
    if given.patch_size < net.min_size:
        raise ValueError(f"--patch_size {given.patch_size}: {name_of(net)} needs {net.min_size} LR pixels a side")
    with argument("hr"):
        paths = list_images(given.hr)[: given.limit]
    side = given.patch_size * net.scale
    patches, images = random_patches(
        paths, side=side, count=given.patches, seed=given.seed, skip_bad=given.skip_bad_images
    )
    device = device_of(cpu=given.cpu)
    embedded = embed(net, patches, images, rule, space=given.space, seed=given.seed, device=device)
    if (found := spread(embedded)) == 0:
        raise ValueError(
            f"all embeddings of {given.pre_train} are equal: its encoder tells no image and no kernel from another. It "
            "was trained too briefly, or has collapsed"
        )
    summary = {
        "network": name_of(net),
        **net.config,
        "checkpoint": str(given.pre_train),
        "sha256": sha256(given.pre_train),
        "protocol": str(rule),
        "degradations": [label(case) for case in rule.cases],
        "space": given.space,
        "images": len(set(images)),
        "patches": given.patches,
        "patch_size": given.patch_size,
        "seed": given.seed,
        "spread": found,
        "silhouette": silhouette(embedded),
        "accuracy": probe_accuracy(embedded, seed=given.seed),
        "chance": 1 / len(rule.cases),
    }
    write(embedded, summary, given)


def write(embedded: Embedded, summary: dict[str, Any], given: Namespace) -> None:
    """Write the picture and the JSON file; print the measures and where the files are."""
    measures = (
        f"spread {summary['spread']:.2g}, silhouette {summary['silhouette']:.3f}, "
        f"accuracy {100 * summary['accuracy']:.1f} % (chance {100 * summary['chance']:.1f} %)"
    )
    method = {"tsne": "t-SNE", "pca": "PCA"}[given.method]
    title = f"{title_of(given.pre_train)}\n{method} of the {given.space}, {summary['protocol']}\n{measures}"
    points = flatten(embedded.vectors, given.method, seed=given.seed)
    figure = scatter(points, embedded.degradation, summary["degradations"], title)
    given.out.mkdir(parents=True, exist_ok=True)
    network, run = f"{summary['network']}_x{summary['scale']}", title_of(given.pre_train.with_suffix(""))
    stem = file_name("_".join([network, *run.split(), *summary["protocol"].split(), given.space, given.method]))
    with atomic_write(given.out / f"{stem}.png") as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    write_text(given.out / f"{stem}.json", json.dumps({**summary, **environment()}, indent=1))
    print(f"{network}, {summary['images']} images, {len(points)} embeddings: {measures}")
    if summary["spread"] < SMALL:
        print("note: the embeddings hardly differ, so the network hardly steers by them; the picture shows rounding")
    print(f"written to {given.out / stem}.png and .json")


def main(argv: Sequence[str] | None = None) -> None:
    parser = program(__file__, __doc__)
    parser.add_argument("--pre_train", type=Path, required=True, help="the checkpoint, or a name in the zoo")
    parser.add_argument("--hr", type=Path, required=True, help="folder of HR images")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for picture and JSON file, which are overwritten"
    )
    parser.add_argument("--method", choices=("tsne", "pca"), default="tsne", help="how the picture is made (tsne)")
    parser.add_argument("--space", choices=("code", "projection"), default="code", help="which embedding (code)")
    parser.add_argument("--protocol", help="the kernels, or a file of them (gaussian8; CDSR: manet9)")
    parser.add_argument("--noise", type=real(0, 255), default=0.0, help="σ in grey levels of 255 (0)")
    parser.add_argument(
        "--limit", type=integer(1), default=100, help="use no more than the first images of the folder (100)"
    )
    parser.add_argument("--patches", type=integer(1), default=4, help="random patches of an image (4)")
    parser.add_argument("--patch_size", type=integer(1), default=48, help="side of a patch, LR pixels (48)")
    parser.add_argument(
        "--seed", type=integer(0, 2**32 - 1), default=1, help="of the patches, noise, halves, t-SNE (1)"
    )
    parser.add_argument("--skip_bad_images", action="store_true", help="leave out unreadable and too small images")
    add_cpu(parser)
    given = parser.parse_args(argv)
    with one_line(parser.prog, words_of(parser)):
        run(given)


if __name__ == "__main__":
    main()
