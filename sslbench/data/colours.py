"""What changes the look of a crop: its flip and colours, drawn here and applied by OpenCV.

Crops are uint8 (H, W, 3). The operations are those of torchvision and PIL, which the official code
calls, up to rounding: mostly equal, and 48 dB or more for the hue and 46 dB or more for the blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)  # torchvision's order
Change = tuple[int, float]  # one of these, and its factor; of the hue, turns of the colour circle
BLUR_RADIUS = (0.1, 2.0)  # PIL's sigma in pixels (dino/utils.py:36-50)
# PIL cuts the decimals off where OpenCV rounds; a little more, as a whole number stays what it is.
CUT = -0.5 + 2**-11

cv2.setNumThreads(0)  # crops are small, and OpenCV's threads do not survive the fork of a worker


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw as `rng.uniform` does, bit for bit, at a third of its cost."""
    return low + (high - low) * rng.random()


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(rng.random() < probability)


@dataclass(frozen=True)
class ColourJitter:
    """Torchvision's ColorJitter: the active operations in random order.

    Factors are U(max(0, 1 - x), 1 + x); hue shifts are U(-hue, hue) turns of the colour circle.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def draw(self, rng: np.random.Generator) -> tuple[Change, ...]:
        """Draw the changes in their order."""
        spreads = (self.brightness, self.contrast, self.saturation)
        bounds = [*((max(0.0, 1 - x), 1 + x) for x in spreads), (-self.hue, self.hue)]
        order = rng.permutation(len(bounds)).tolist()
        return tuple((k, uniform(rng, *bounds[k])) for k in order if bounds[k][0] < bounds[k][1])


@dataclass(frozen=True)
class Look:
    """What is drawn for one crop, in the order in which it is applied.

    radius: of the blur, 0 for none.
    """

    flip: bool = False
    changes: tuple[Change, ...] = ()
    grey: bool = False
    radius: float = 0.0
    solarise: bool = False

    def row(self) -> np.ndarray:
        """As float32 (12,): flip, grey, radius, solarise, and four changes, each with its factor.

        The number of a change that is missing is -1.
        """
        missing = [(-1, 0.0)] * (4 - len(self.changes))
        changes = chain.from_iterable([*self.changes, *missing])
        head = (self.flip, self.grey, self.radius, self.solarise)
        return np.array([*head, *changes], dtype=np.float32)

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """The changed crop; `crop` stays as it is."""
        if self.flip:
            crop = cv2.flip(crop, 1)
        crop = changed(crop, self.changes)
        if self.grey:
            crop = _grey(crop)
        if self.radius:
            crop = blur(crop, self.radius)
        return np.minimum(crop, ~crop) if self.solarise else crop  # inverted from 128 up


def changed(crop: np.ndarray, changes: tuple[Change, ...]) -> np.ndarray:
    """The crop after changes of its colours, as torchvision's `adjust_*` on PIL images."""
    for change, factor in changes:
        if change == HUE:
            crop = _turn_hue(crop, factor)
        elif change == BRIGHTNESS:
            crop = cv2.addWeighted(crop, factor, crop, 0, CUT)
        elif change == CONTRAST:
            mean = int(cv2.mean(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY))[0] + 0.5)
            crop = cv2.addWeighted(crop, factor, crop, 0, (1 - factor) * mean + CUT)
        else:
            crop = cv2.addWeighted(crop, factor, _grey(crop), 1 - factor, CUT)
    return crop


def _turn_hue(crop: np.ndarray, turns: float) -> np.ndarray:
    hsv = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV_FULL)
    # OpenCV rounds to 256 steps what PIL cuts off to 255, so its mean is one step higher
    hsv[..., 0] += np.uint8((int(turns * 255) - 1) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _grey(crop: np.ndarray) -> np.ndarray:
    """The luminance in three equal channels."""
    return cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def blur(crop: np.ndarray, radius: float) -> np.ndarray:
    """PIL's GaussianBlur, which continues the edges; radius: its sigma in pixels."""
    kernel = blur_kernel(radius)
    return cv2.sepFilter2D(crop, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)


def blur_kernel(radius: float) -> np.ndarray:
    """The three boxes by which PIL approaches a Gaussian, as one kernel, float32 (7,) or longer.

    Each box has the variance radius^2 / 3: 2 l + 1 whole pixels and the share `end` of one more at
    either end. Source: `_gaussian_blur_radius` of Pillow's BoxBlur.c; Gwosdek et al., SSVM 2011.
    """
    variance = radius**2 / 3
    l = int((math.sqrt(12 * variance + 1) - 1) / 2)  # noqa: E741 (the paper's name)
    end = (2 * l + 1) * (l * (l + 1) - 3 * variance) / (6 * (variance - (l + 1) ** 2))
    box = np.array([end, *[1.0] * (2 * l + 1), end]) / (2 * l + 1 + 2 * end)
    return np.convolve(np.convolve(box, box), box).astype(np.float32)
