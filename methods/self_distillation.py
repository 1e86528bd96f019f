"""What DINO and iBOT share: a student, its EMA teacher, a projection head on each, and a centre.

    teacher <- m teacher + (1 - m) student after every step,  m a cosine from `momentum` to 1

iBOT is DINO plus a loss on masked patches. Each method's file holds its losses and its settings
with the defaults of its paper; the settings that mean the same in both are described here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from sslbench.backbones.base import Backbone
from sslbench.data.views import MultiCrop, MultiCropConfig
from sslbench.errors import UserError
from sslbench.method import Method, Progress, Start, fill
from sslbench.methods.heads import ProjectionHead, official_head
from sslbench.methods.losses import Centre, cosine, temperature
from sslbench.settings import Epochs, Temperature, Width, setting

HiddenDim = Annotated[Width, setting("width of the head")]
BottleneckDim = Annotated[Width, setting("width before the prototypes")]
NormLastLayer = Annotated[bool, setting("whether prototypes keep length 1")]
HeadBatchNorm = Annotated[bool, setting("batch norm in the head")]
FreezeLastLayer = Annotated[Epochs, setting("prototypes stay as they are at first", "epochs")]
StudentTemp = Annotated[Temperature, setting("temperature of the student")]
TEMPERATURES = ("student_temp", "teacher_temp", "teacher_patch_temp")
Momentum = Annotated[float, setting("momentum of the teacher, rising to 1", ge=0, lt=1)]


class SelfDistillation(Method):
    """Base class of methods whose student predicts what its own EMA predicts of other views.

    config: has the settings above under their names in lower case, `out_dim`, `teacher_temp`,
    `warmup_teacher_temp`, `warmup_teacher_temp_epochs`, `centre_momentum` and multi-crop `views`.
    student, teacher: {"backbone", "head"}; centre: of the teacher's [CLS] logits.
    """

    def __init__(
        self, config: Any, make_backbone: Callable[..., Backbone], mask_token: bool = False
    ) -> None:
        """mask_token: whether the student's backbone has one, for masked crops."""
        super().__init__(config, make_backbone)
        self.config = config
        backbone = make_backbone(mask_token=True) if mask_token else make_backbone()
        student_head, teacher_head = self._heads(backbone.embed_dim)
        self.student = nn.ModuleDict({"backbone": backbone, "head": student_head})
        teacher = {"backbone": make_backbone(drop_path=0.0), "head": teacher_head}
        self.teacher = make_teacher(self.student, nn.ModuleDict(teacher))
        self.centre = Centre(config.out_dim, config.centre_momentum)

    def _heads(self, width: int) -> tuple[ProjectionHead, ProjectionHead]:
        """Heads of the student and of the teacher; width: values of a token."""
        return self._head(width), self._head(width)

    def _head(self, width: int, **of_patches: Any) -> ProjectionHead:
        c = self.config
        sizes = (c.out_dim, c.hidden_dim, c.bottleneck_dim)
        return ProjectionHead(width, *sizes, c.norm_last_layer, c.head_batch_norm, **of_patches)

    @classmethod
    def views(cls, config: Any, patch_size: int) -> MultiCrop:
        return MultiCrop(config.views, patch_size)

    @classmethod
    def needs_whole_batch(cls, config: Any) -> str:
        return "method.head_batch_norm=True" if config.head_batch_norm else ""

    @classmethod
    def effective_epochs(cls, config: Any, epochs: float) -> float:
        return epochs * config.views.relative_area

    @classmethod
    def image_tokens(cls, config: Any, patch_size: int) -> int:
        return config.views.patches(patch_size)

    @classmethod
    def unreached(cls, config: Any, epochs: float) -> Iterator[str]:
        yield from unreached_temperature(config, "teacher_temp", epochs)
        if config.freeze_last_layer >= epochs:
            yield (
                f"method.freeze_last_layer={config.freeze_last_layer:g} is not over within "
                f"train.epochs={epochs:g}: the prototypes are never trained"
            )

    def _teacher_temperature(self, end: float, progress: Progress, delay: float = 0) -> float:
        """The temperature that warms up to `end`; delay: epochs before the warm-up begins."""
        c = self.config
        start, warmup = c.warmup_teacher_temp, c.warmup_teacher_temp_epochs
        return temperature(start, end, warmup, progress, delay)

    def frozen(self, progress: Progress) -> Iterable[nn.Parameter]:
        """Prototypes, those of patches too, in the first epochs (dino/utils.py:144-149).

        Their gradients are dropped, not zeroed: AdamW would still apply decay and momentum to a
        gradient of zero.
        """
        if progress.step >= self.config.freeze_last_layer * progress.steps_per_epoch:
            return
        head = self.student["head"]
        for layer in (head.last_layer, head.last_layer2):
            if layer is not None:
                yield from layer.parameters()

    def after_step(self, progress: Progress) -> None:
        update_teacher(self.student, self.teacher, cosine(self.config.momentum, 1.0, progress))
        for centre in self._centres():
            centre.step()

    def _centres(self) -> Iterator[Centre]:
        return (module for module in self.children() if isinstance(module, Centre))

    def start_from(self, start: Start) -> list[str]:
        """Student and teacher as a full checkpoint has them, else both from the one network.

        So it is with heads and centres, if they are kept; UserError where a head does not fit.
        """
        student = start.others.get("student.backbone", start.backbone)
        notes = fill(self.student["backbone"], student) + fill(
            self.teacher["backbone"], start.backbone
        )
        notes = list(dict.fromkeys(notes))
        if start.head is None:
            return [*notes, "the projection heads and centres are new"]
        for network in ("student", "teacher"):
            tensors = start.others.get(f"{network}.head", start.head.state_dict())
            load_head(self.get_submodule(f"{network}.head"), tensors)
        for name, centre in self.named_children():
            if not isinstance(centre, Centre):
                continue
            if name in start.others:
                centre.load_state_dict(start.others[name])
            else:
                notes.append(f"the {name.replace('_', ' ')} is new")
        return [*notes, "the projection heads are those of the source"]

    @classmethod
    def settings_to_start(
        cls,
        image_size: int,
        patch_size: int,
        head: nn.Module | None,
        trained_with: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Crops of the papers' 224 and 96 px in proportion, the head's widths, the temperatures."""
        local = max(patch_size, round(image_size * 96 / 224 / patch_size) * patch_size)
        settings: dict[str, Any] = {"views.global_size": image_size, "views.local_size": local}
        for name in (name for name in TEMPERATURES if name in trained_with):
            settings[name] = trained_with[name]
        if "teacher_temp" in settings:
            settings["warmup_teacher_temp"] = settings["teacher_temp"]
        if isinstance(head, ProjectionHead):
            settings |= head.settings()
        return settings

    def backbone(self) -> nn.Module:
        return self.teacher["backbone"]

    def head(self) -> nn.Module:
        return self.teacher["head"]

    @classmethod
    def official_head(cls, tensors: Mapping[str, Tensor]) -> nn.Module | None:
        return official_head(tensors)


def load_head(head: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads a projection head to start from; UserError where it does not fit."""
    try:
        head.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(
            "the projection head of the weights to start from does not fit the recipe's: "
            f"{_difference(tensors, head.state_dict())}; set init.heads=new, or the settings of "
            "method (out_dim, hidden_dim, ...) as that head has them."
        ) from error


def _difference(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """The first tensor of two heads that differs, the prototypes before all others."""
    names = sorted({**tensors, **wanted}, key=lambda n: (n != "last_layer.weight_v", n))
    shapes = {n: [tuple(t[n].shape) if n in t else None for t in (tensors, wanted)] for n in names}
    name, (theirs, ours) = next((n, pair) for n, pair in shapes.items() if pair[0] != pair[1])
    if theirs is None or ours is None:
        return f"{name} is in {'the recipe' if theirs is None else 'the weights'} alone"
    return f"{name} is {theirs}, and the recipe's {ours}"


def make_teacher(student: nn.Module, teacher: nn.Module) -> nn.Module:
    """`teacher` with the student's weights and without gradients.

    It stays in train mode, as the official teachers do (dino/main_dino.py:162-166,
    ibot/main_ibot.py:198-215): build it without drop path. Parameters that the student alone has
    (its mask token) are left out.
    """
    weights = {k: v for k, v in student.state_dict().items() if k in teacher.state_dict()}
    teacher.load_state_dict(weights)
    return teacher.requires_grad_(False)


@torch.no_grad()
def update_teacher(student: nn.Module, teacher: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, for parameters that both have.

    Buffers are not averaged (ibot/main_ibot.py:381-390,451-455).
    """
    source = dict(student.named_parameters())
    pairs = [(t, source[name]) for name, t in teacher.named_parameters() if name in source]
    teachers, students = map(list, zip(*pairs, strict=True))
    torch._foreach_mul_(teachers, momentum)
    torch._foreach_add_(teachers, students, alpha=1 - momentum)


def check_pairs(views: MultiCropConfig) -> None:
    """Raises ValueError where an image has a single view, of which `cls_loss` makes no pair."""
    if views.global_crops + views.local_crops < 2:
        raise ValueError(
            "views.global_crops=1 with views.local_crops=0 leaves one view and no other to predict"
        )


def unreached_temperature(config: Any, name: str, epochs: float, delay: float = 0) -> Iterator[str]:
    """A sentence where the teacher's temperature `name` is not reached within `epochs`."""
    last = math.ceil(epochs) - 1
    start, warmup = config.warmup_teacher_temp, config.warmup_teacher_temp_epochs
    end = getattr(config, name)
    if temperature(start, end, warmup, Progress(last, last + 1, 1), delay) != end:
        after = f" after method.mask.start_epoch={delay:g}" if delay else ""
        yield (
            f"method.warmup_teacher_temp_epochs={warmup:g}{after} does not end within train.epochs="
            f"{epochs:g}: the teacher's temperature never reaches method.{name}={end:g}"
        )
