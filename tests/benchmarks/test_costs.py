"""What benchmarks say of their work, against what they do and what others have counted."""

import pytest
import torch

from sslbench.benchmark import Benchmark, Cost, FeatureSpec
from sslbench.benchmarks.augmented import Online
from sslbench.benchmarks.clustering import Clustering
from sslbench.benchmarks.dense.cost import detector_flops, segmenter_flops
from sslbench.benchmarks.dense.prepare import read_config
from sslbench.benchmarks.detection import Detection, DetectionProtocol
from sslbench.benchmarks.knn import KNN, KNNProtocol
from sslbench.benchmarks.linear import Linear, LinearProtocol, Probe
from sslbench.benchmarks.linear_layers import LinearLayers, LinearLayersProtocol
from sslbench.benchmarks.linear_online import LinearOnline, LinearOnlineProtocol
from sslbench.benchmarks.segmentation import Segmentation
from sslbench.benchmarks.semi_supervised import SemiSupervised
from sslbench.benchmarks.taps import Taps
from sslbench.checkpoints.load import load_backbone
from sslbench.evaluation.context import EvalContext
from sslbench.evaluation.provenance import Provenance
from tests.benchmarks.dense import controls
from tests.evaluation.fakes import Boxes, TinyBackbone, dense, model, splits

CPU = torch.device("cpu")
DATA = splits()  # 60 and 30 images
ONLINE = Online(epochs=2)
SWIN_T = 94e9  # multiply-adds of the backbone at 1280 x 800 and, to a hundredth, at 2048 x 512


class Reads(EvalContext):
    """Remembers which features were read."""

    def features(self, backbone, data, part, spec):
        self.read.add((part, spec.cls_normed))
        return super().features(backbone, data, part, spec)


@pytest.mark.parametrize(
    "benchmark",
    [
        KNN(KNNProtocol(norm=False)),
        Clustering(),
        Linear(LinearProtocol(Probe(epochs=1), taps=Taps(norm=False))),
        SemiSupervised(),
    ],
    ids=lambda benchmark: benchmark.name,
)
def test_the_features_that_a_cost_names_are_those_that_are_read(benchmark) -> None:
    judged = model()
    context = Reads(judged, 0, CPU, Provenance.here(CPU))
    context.read = set()
    benchmark.run(judged.backbone, DATA, context)
    cost = benchmark.cost(judged, DATA)
    assert cost.features == context.read and cost.flops > 0
    assert cost.forward == cost.trained == cost.seconds == 0


def test_a_released_classifier_is_not_trained() -> None:
    cost = Linear(LinearProtocol(classifier="ab")).cost(model(), DATA)
    assert cost == Cost(frozenset({("test", True)}))


@pytest.mark.parametrize(
    ("spec", "width"),
    [
        (FeatureSpec(), 6),
        (FeatureSpec(4), 12),  # of the two blocks that there are
        (FeatureSpec(1, "mean"), 6),
        (FeatureSpec(1, "cls+mean"), 12),
        (FeatureSpec(2, "cls+mean"), 18),
    ],
)
def test_the_width_of_features_is_known_before(spec, width) -> None:
    judged = model()
    assert isinstance(judged.backbone, TinyBackbone) and spec.width(judged.backbone) == width
    context = EvalContext(judged, 0, CPU, Provenance.here(CPU))
    assert context.features(judged.backbone, DATA, "test", spec).x.shape[1] == width


@pytest.mark.parametrize(
    "benchmark",
    [
        LinearOnline(LinearOnlineProtocol(ONLINE, (0.1,))),
        LinearLayers(LinearLayersProtocol(ONLINE)),
    ],
    ids=lambda benchmark: benchmark.name,
)
def test_probes_pass_every_training_image_in_every_epoch(benchmark, tmp_path) -> None:
    judged, passed = model(), []
    forward = judged.backbone.last_blocks

    def counted(images, n):
        passed.append(len(images))
        return forward(images, n)

    judged.backbone.last_blocks = counted
    context = EvalContext(judged, 0, CPU, Provenance.here(CPU), work_dir=tmp_path)
    benchmark.run(judged.backbone, DATA, context)
    cost = benchmark.cost(judged, DATA)
    # the evaluated ones once; one more to learn the widths
    assert cost.forward == sum(passed) - 1 == 2 * 60 + 30 + 6
    assert not cost.features and cost.flops > 0


def test_by_default_a_benchmark_with_a_pool_reads_features() -> None:
    class Other(Benchmark):
        name, version, Protocol = "other", "1", KNNProtocol

    assert Other().cost(model(), DATA) == Cost.reading(FeatureSpec())
    assert Other(KNNProtocol(norm=False)).cost(model(), DATA).features == {
        ("train", False),
        ("test", False),
    }
    assert Boxes().cost(model(), dense()) is None


def test_heads_cost_what_swin_s_authors_count() -> None:
    detector = detector_flops(read_config("detection", "coco_swint"), 1280 * 800 / 16, False)
    assert detector / 2 + SWIN_T == pytest.approx(745e9, rel=0.2)
    config = read_config("segmentation", "ade20k_upernet_swint")
    config.model.decode_head.channels = 512  # as Swin's
    segmenter = segmenter_flops(config, 2048 * 512 / 16, False)
    assert segmenter / 2 + SWIN_T == pytest.approx(945e9, rel=0.05)


@pytest.fixture(scope="module")
def nano():
    return load_backbone(controls.NANO)


def costs(benchmark, judged, data) -> list[Cost]:
    return [benchmark.under(p).cost(judged, data) for p in benchmark.protocols(judged, data)]


def test_detectors_and_segmenters_train_as_long_as_their_configs_say(nano) -> None:
    passes = 128**2 / 64**2  # an image of the scenes is as large as four of the model's
    (detector,) = costs(Detection(), nano, dense("coco", embedded=True))
    assert (detector.trained, detector.forward) == (100 * 4 * passes, 7 * passes)
    upernet, linear = costs(Segmentation(), nano, dense("ade20k", embedded=True))
    assert (upernet.trained, upernet.forward) == (100 * 8 * passes, 7 * passes)
    assert (linear.trained, linear.forward) == (0, (150 * 8 + 7) * passes)
    assert linear.flops == 0 < upernet.flops and linear.seconds > 0


def test_a_schedule_of_epochs_counts_the_images(nano) -> None:
    (cost,) = costs(Detection(DetectionProtocol("coco_vits16")), nano, dense("coco"))
    assert cost.trained == pytest.approx(12 * 7 * 800 * 1067 / 64**2, rel=0.001)
