"""What detection and segmentation need of an installation; imports none of the heavy packages."""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

# distributions that can move a number; their versions go into the records
LIBRARIES = (
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmdetection",
    "onedl-mmsegmentation",
    "pycocotools",
    "opencv-python-headless",
)
# modules that mmdet or mmseg import at once, without those of sslbench's own dependencies
MODULES = (
    "mmcv",
    "mmdet",
    "mmseg",
    "pycocotools",
    "terminaltables",
    "imgaug",
    "skimage",
    "shapely",
    "six",
    "prettytable",
    "ftfy",
    "regex",
)
HEADLESS = "opencv-python-headless"
OPENCVS = (HEADLESS, "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


def missing() -> str:
    """ "" where everything is installed, else one sentence: what is not, and the remedy."""
    absent = [name for name in MODULES if find_spec(name) is None]
    if not absent:
        return ""
    return (
        f"the extra `dense` is not installed (missing: {', '.join(absent)}); run `make setup` or "
        "`pip install --no-deps -r requirements/dense.txt` in the checkout."
    )


def opencv() -> tuple[bool, str]:
    """(exactly one OpenCV is installed, which one or what to do)."""
    found = {name: number for name in OPENCVS if (number := _version(name))}
    if len(found) == 1:
        name, number = next(iter(found.items()))
        return True, f"{number} ({name})"
    reinstall = f"pip install --no-deps -c requirements/constraints.txt {HEADLESS}"
    if not found:
        return False, f"no OpenCV is installed; run `{reinstall}`."
    # removing just one takes files of the other along: both own cv2/
    return False, (
        f"several OpenCVs unpack into one folder ({', '.join(found)}) and which one runs is luck; "
        f"run `pip uninstall -y {' '.join(found)}`, then `{reinstall}`."
    )


def compiled() -> bool:
    """Whether mmcv is installed with its compiled operators; does not import mmcv."""
    spec = find_spec("mmcv")
    folders = spec.submodule_search_locations if spec else None
    return bool(folders) and PathFinder.find_spec("mmcv._ext", folders) is not None


def operators() -> str:
    """Where nms and roi_align come from: "compiled" or "stand-in on torchvision"."""
    return "compiled" if compiled() else "stand-in on torchvision"


def diagnosis() -> dict[str, tuple[bool, str]]:
    """name -> (fine, what was found or the sentence that says what to do)."""
    if sentence := missing():
        return {"dense": (False, sentence)}
    named = {"mmcv": "onedl-mmcv", "mmdet": "onedl-mmdetection", "mmseg": "onedl-mmsegmentation"}
    found = {module: (True, _version(name) or "unknown") for module, name in named.items()}
    return {**found, "mmcv operators": (True, operators()), "opencv": opencv()}


def _version(distribution: str) -> str:
    """Its version, "" where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
