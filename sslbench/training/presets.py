"""The recipe for weights that a user names with --init: a preset with their own sizes filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sslbench import plugins
from sslbench.backbones.config import BackboneConfig
from sslbench.checkpoints.starting import StartWeights, read_start
from sslbench.data.places import absolute_place
from sslbench.errors import UserError
from sslbench.method import Method
from sslbench.recipes.load import key_and_value, parsed, read_config, typed
from sslbench.training.options import method_to_train
from sslbench.training.runs import preset_of

OF_THE_RUN = ("drop_path",)  # settings of a backbone that are no property of its weights


def with_start(
    init: str | None, method: str | None, config: str | None, changes: Sequence[str]
) -> tuple[str | None, list[str]]:
    """The config and the changes, as of --set, of a training that starts from `init`.

    Without a config it is the preset of the method, with backbone, normalisation and sizes as the
    weights have them; `changes` of the user come last and count. Raises UserError where there is
    no such preset, no such source, and where the config names a source itself.
    """
    if init is None:
        return config, list(changes)
    named = read_config(config).get("init", {}).get("source") if config else ""
    if named:
        raise UserError(f"--init {init} contradicts init.source={named!r} of {config}; drop one.")
    source = absolute_place(init)
    chosen = [f"init.source={source!r}", *changes]
    if config is not None:
        return config, chosen
    name = method_to_train(method)
    config = preset_of(name)
    method_class: type[Method] = plugins.load(plugins.METHODS, name)
    settings = _settings(read_start(source), method_class, dict(map(key_and_value, changes)))
    return config, [*(f"{key}={value!r}" for key, value in settings.items()), *chosen]


def _settings(
    weights: StartWeights, method: type[Method], changes: Mapping[str, str]
) -> dict[str, Any]:
    """Settings that follow from the weights and from what the user changes (name -> text)."""
    model, config = weights.model, weights.config
    backbone = {k: v for k, v in asdict(config).items() if k not in OF_THE_RUN}
    settings = {f"backbone.{name}": value for name, value in backbone.items()}
    settings |= {"data.mean": tuple(model.mean), "data.std": tuple(model.std)}
    trained_with = weights.settings if model.card.method == method.name else {}
    head = None if changes.get("init.heads") == "new" else model.head
    sizes = ("image_size", "patch_size")
    resized = {n: parsed(changes[k]) for n in sizes if (k := f"backbone.{n}") in changes}
    wanted = typed(BackboneConfig, {**asdict(config), **resized}, "backbone")
    own = method.settings_to_start(wanted.image_size, wanted.stride, head, trained_with)
    return settings | {f"method.{name}": value for name, value in own.items()}
