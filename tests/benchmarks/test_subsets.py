from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sslbench.benchmark import Features
from sslbench.benchmarks.linear import Probe
from sslbench.benchmarks.semi_supervised import SemiSupervised, SemiSupervisedProtocol
from sslbench.benchmarks.subsets import find_list, listed, stratified
from sslbench.data.dataset import FileImages
from sslbench.errors import UserError
from tests.benchmarks.fakes import FakeContext, blobs, figures, judged

NAMES = [f"n{c}/n{c}_{i}.JPEG" for c in (1, 2) for i in range(100)]


@pytest.fixture
def data(tmp_path) -> SimpleNamespace:
    """200 training images in an ImageNet-style folder, and lists for 1 % and 10 % of them."""
    (tmp_path / "train").mkdir()
    (tmp_path / "subsets").mkdir()
    labels = np.repeat([0, 1], 100)
    train = FileImages(
        root=tmp_path / "train", name="set", split="train", names=NAMES, labels=labels
    )
    (tmp_path / "subsets" / "1percent.txt").write_text("n2_7.JPEG\nn1_3.JPEG\n")
    few = [Path(name).name for name in NAMES[::10]]
    (tmp_path / "10percent.txt").write_text("\n".join(few))
    about = {"name": "set", "fingerprint": "f", "split": "test", "classes": ["a", "b"]}
    return SimpleNamespace(**about, train=train, test=range(60))


def protocol_for(data) -> SemiSupervisedProtocol:
    asked = SemiSupervised(SemiSupervisedProtocol(probe=Probe(epochs=1), k=(1,)))
    (protocol,) = asked.protocols(judged(), data)
    return protocol


def test_lists_are_found_in_the_folder_and_in_subsets(data):
    root = data.train.root.parent
    assert find_list(data, 0.01) == root / "subsets" / "1percent.txt"
    assert find_list(data, 0.1) == root / "10percent.txt"
    assert find_list(data, 0.5) is None


def test_names_are_matched_with_and_without_their_folder(data, tmp_path):
    path, features = find_list(data, 0.01), blobs(200, 2, 4, 1)
    assert listed(path, data, features).tolist() == [3, 107]
    path.write_text("n2/n2_7.JPEG\n\nn1_3.JPEG")
    assert listed(path, data, features).tolist() == [3, 107]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_lists_from_other_systems_are_the_same_lists(data, encoding):
    path, before = find_list(data, 0.01), protocol_for(data).files
    path.write_bytes("n1_3.JPEG\r\nn2/n2_7.JPEG\r\n".encode(encoding))
    assert listed(path, data, blobs(200, 2, 4, 1)).tolist() == [3, 107]
    path.write_bytes("n1_3.JPEG\r\nn2_7.JPEG\r\n".encode(encoding))
    assert protocol_for(data).files == before


def test_rows_follow_the_images_that_could_be_read(data):
    kept = torch.tensor([i for i in range(200) if i not in (0, 3)])
    features = Features(torch.zeros(198, 1), torch.zeros(198, dtype=torch.int64), kept)
    assert listed(find_list(data, 0.01), data, features).tolist() == [105]  # image 107


def test_a_name_in_several_folders_needs_its_folder(data):
    """0001.png of every class would be as many images as there are classes."""
    names = [f"n{c}/{i}.JPEG" for c in (1, 2) for i in range(100)]
    data.train = replace(data.train, names=names)
    path, features = find_list(data, 0.01), blobs(200, 2, 4, 1)
    path.write_text("n1/3.JPEG\n7.JPEG\n")
    with pytest.raises(UserError, match=r"names 7\.JPEG, which set has in 2 folders; .*class/name"):
        listed(path, data, features)
    path.write_text("n1/3.JPEG\nn2/7.JPEG\n")
    assert listed(path, data, features).tolist() == [3, 107]


@pytest.mark.parametrize("text", ["", "\n", "n1_3.JPEG\n"])
def test_a_list_of_nothing_that_can_be_read_is_refused(data, text):
    path = find_list(data, 0.01)
    path.write_text(text)
    kept = torch.tensor([i for i in range(200) if i != 3])
    features = Features(torch.zeros(199, 1), torch.zeros(199, dtype=torch.int64), kept)
    with pytest.raises(UserError, match=r"1percent.txt names no image of set that can be read"):
        listed(path, data, features)


def test_a_list_of_another_dataset_is_refused(data):
    path = find_list(data, 0.01)
    path.write_text("n1_3.JPEG\nn9_1.JPEG\n")
    with pytest.raises(UserError, match=r"names 1 of 2 images .* \(first: n9_1.JPEG\); give the"):
        listed(path, data, blobs(200, 2, 4, 1))


def test_the_record_says_which_lists_were_used(data):
    first = protocol_for(data)
    assert set(first.files) == {"1%", "10%"}
    assert protocol_for(data) == first
    find_list(data, 0.01).write_text("n1_4.JPEG\nn2_7.JPEG\n")
    assert protocol_for(data).files["1%"] != first.files["1%"]
    assert protocol_for(data).files["10%"] == first.files["10%"]
    find_list(data, 0.1).unlink()
    assert set(protocol_for(data).files) == {"1%"}


def test_the_benchmark_learns_from_the_listed_images(data):
    features = blobs(200, 2, 4, 1, 0.1)
    train = Features(features.x, torch.from_numpy(data.train.labels.copy()))
    test = Features(train.x[[3, 107]], 1 - train.y[[3, 107]])  # the listed images, labels swapped
    context = FakeContext(train, test)
    found = figures(SemiSupervised(protocol_for(data)).run(None, data, context))
    assert found["1% knn k=1", "top1"] == 0
    drawn = SemiSupervised(SemiSupervisedProtocol(probe=Probe(epochs=1), k=(1,)))
    assert not {3, 107} & set(stratified(train.y, 0.01, 0).tolist())
    assert figures(drawn.run(None, data, context)) != found
