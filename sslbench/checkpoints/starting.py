"""Reads weights to start a training from: backbone, heads and centres of any source of weights.

A full checkpoint of DINO or iBOT holds both networks and the centres ("dino_loss", "ibot_loss"), a
checkpoint of BEiT the classifier of codes, one that was fine-tuned its classifier of images, a run
of ours all of that in its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sslbench.backbones.config import BackboneConfig
from sslbench.backbones.resize import fitted_to
from sslbench.checkpoints.download import find, releases
from sslbench.checkpoints.families.timm import HUB
from sslbench.checkpoints.floors import PIXELS, RANDOM
from sslbench.checkpoints.load import load_backbone
from sslbench.checkpoints.loaded import LoadedModel
from sslbench.checkpoints.networks import plain
from sslbench.checkpoints.others import opened
from sslbench.checkpoints.runs import is_run, part, read_card, weights_file
from sslbench.checkpoints.sources import split
from sslbench.errors import UserError
from sslbench.method import PARTS, Start
from sslbench.storage.checkpoint import load_state
from sslbench.storage.home import expanded
from sslbench.storage.layout import WEIGHTS, has_state

CENTRES = {"center": "centre", "center2": "patch_centre"}  # official name -> ours
LOSSES = ("dino_loss", "ibot_loss")  # places of the centres in an official checkpoint
TEACHER, STUDENT = "teacher", "student"
NETWORK = "student.backbone"


@dataclass(frozen=True)
class StartWeights:
    """What a source holds: its model, with config and card, and the parts beside it (`PARTS`).

    settings: of the method that trained it, as a run of ours says; {} of others.
    """

    model: LoadedModel
    config: BackboneConfig
    others: Mapping[str, Mapping[str, Tensor]]
    settings: Mapping[str, Any]

    @property
    def record(self) -> dict[str, Any]:
        """What records say of these weights: names and digests, no path of this machine."""
        card = self.model.card
        name = card.source
        if _is_file(name):
            name = split(name)[0].rstrip("/").removesuffix(f"/{WEIGHTS}").rpartition("/")[2]
        facts = {"name": name, "sha256": card.sha256, "method": card.method, "steps": card.steps}
        facts |= {"recipe": card.recipe, "recipe_digest": card.recipe_digest}
        return {name: value for name, value in facts.items() if value}

    def fitted(self, backbone: BackboneConfig, heads: bool) -> Start:
        """These weights for a recipe's backbone; heads: whether heads and centres are kept.

        Raises UserError where they cannot be fitted.
        """
        others = dict(self.others) if heads else {}
        if (student := self.others.get(NETWORK)) is not None:
            others[NETWORK] = fitted_to(student, self.config, backbone)
        if heads and (classifier := self._classifier()):
            others["classifier"] = classifier
        tensors = fitted_to(self.model.backbone.state_dict(), self.config, backbone)
        head = self.model.head if heads else None
        return Start(tensors, head, others)

    def _classifier(self) -> dict[str, Tensor]:
        """The classifier that was fine-tuned with the backbone, by our names; {} without one."""
        if self.model.classifier is not None:
            return dict(self.model.classifier.state_dict())
        return {} if self.model.tuned is None else dict(self.model.tuned.tensors)


def read_start(source: str) -> StartWeights:
    """Reads all that `source` holds; UserError for what is no source or trains no further."""
    model = load_backbone(source)
    config = getattr(model.backbone, "config", None)
    if not isinstance(config, BackboneConfig):
        raise UserError(f"{source} holds no weights to start from; name a checkpoint or a run.")
    if not _is_file(source):
        return StartWeights(model, config, {}, {})
    place, _ = split(source)
    if not expanded(place).exists() and place in releases():
        place = str(find(place))
    path = weights_file(place)
    if is_run(path):
        settings = read_card(path)["recipe"]["method"]
        return StartWeights(model, config, _of_run(path.parent, model), settings)
    return StartWeights(model, config, _of_others(source, place, path, model), {})


def _of_others(
    source: str, place: str, path: Path, model: LoadedModel
) -> dict[str, dict[str, Tensor]]:
    """The parts of a file of others beside the evaluated network; {} where it has none."""
    container, _ = opened(path)
    options = split(source)[1]
    others = _centres(container) | _codes(container)
    if "key" not in options and {TEACHER, STUDENT} <= container.keys():
        student = load_backbone(f"{place}?{'&'.join([f'key={STUDENT}', *_query(source)])}")
        others |= {NETWORK: dict(student.backbone.state_dict())}
        others |= _head_of("student.head", student.head) | _head_of("teacher.head", model.head)
    return others


def _is_file(source: str) -> bool:
    """Whether a source is a path or a released file by name."""
    return source.partition(":")[0] not in (RANDOM, PIXELS, HUB)


def _query(source: str) -> list[str]:
    """The options of a source as text."""
    return [f"{name}={value}" for name, value in split(source)[1].items()]


def _head_of(name: str, head: nn.Module | None) -> dict[str, dict[str, Tensor]]:
    return {} if head is None else {name: dict(head.state_dict())}


def _of_run(folder: Path, model: LoadedModel) -> dict[str, dict[str, Tensor]]:
    """The parts in a run's checkpoint, if it is of the step at which its weights were exported."""
    if not has_state(folder):
        return {}
    state = load_state(folder, repair=False)
    if state.get("step") != model.card.steps or not isinstance(state.get("method"), Mapping):
        return {}
    parts = {name: part(state["method"], f"{name}.") for name in PARTS}
    return {name: tensors for name, tensors in parts.items() if tensors}


def _centres(container: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """The centres of an official checkpoint, (K,) each, under our names."""
    states = [container[place] for place in LOSSES if isinstance(container.get(place), Mapping)]
    return {
        CENTRES[name]: {"value": tensor.flatten().float()}
        for state in states
        for name, tensor in state.items()
        if name in CENTRES and isinstance(tensor, Tensor)
    }


def _codes(container: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """BEiT's classifier of codes, `lm_head` (beit/modeling_pretrain.py), where there is one."""
    inner = [v for v in container.values() if isinstance(v, Mapping)]
    for tensors in (container, *inner):
        named = {plain(str(k)): v for k, v in tensors.items() if isinstance(v, Tensor)}
        if lm_head := {k: v.float() for k, v in part(named, "lm_head.").items()}:
            return {"lm_head": lm_head}
    return {}
