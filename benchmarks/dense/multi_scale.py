"""Multi-scale and flip testing as a test loop, so that a config alone decides how it is tested."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.registry import LOOPS, MODELS
from mmengine.runner import TestLoop


@LOOPS.register_module()
class MultiScaleTestLoop(TestLoop):
    """TestLoop that averages the class probabilities over the views of an image.

    The test pipeline must end in `TestTimeAug`. It is what mmseg's own tool does under --tta, by
    mmseg's SegTTAModel.
    """

    def run(self) -> dict[str, Any]:
        model = self.runner.model
        network = model.module if is_model_wrapper(model) else model
        # under its scope, as mmseg need not be the default one
        self.runner.model = MODELS.build({"type": "mmseg.SegTTAModel", "module": network})
        try:
            return super().run()
        finally:
            self.runner.model = model
