"""The bridge to mmdet and mmseg: call `install()` before the first import of either.

mmcv is installed without its compiled operators, so that nobody needs a compiler; but `mmcv.ops`
and `mmdet.models` import them. Both libraries' forks keep the import names and change the
distributions' names, which mmengine knows only for the originals.
"""

from __future__ import annotations

import sys

from sslbench.benchmarks.dense.installation import compiled, missing
from sslbench.errors import UserError


def install() -> None:
    """Makes mmdet and mmseg importable and their configs inheritable (`mmseg::...`).

    Puts the stand-in for mmcv's operators where the compiled ones are missing. May be called again;
    imports neither library. UserError where the extra `dense` is not installed.
    """
    if sentence := missing():
        raise UserError(sentence)
    if "mmcv._ext" not in sys.modules and not compiled():
        from sslbench.benchmarks.dense import operators

        sys.modules["mmcv._ext"] = operators
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE["mmseg"] = "onedl-mmsegmentation"
