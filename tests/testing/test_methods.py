"""The kit passes for every installed method and names what a broken one breaks."""

from __future__ import annotations

from typing import Any

import pytest

from sslbench import plugins
from sslbench.settings import typed
from sslbench.testing import BrokenPromise, check_method
from tests.testing import broken_methods
from tests.training import small


@pytest.mark.parametrize("name", sorted(plugins.available(plugins.METHODS)))
def test_every_installed_method_keeps_its_promises(name: str, tokenizer) -> None:
    method = plugins.load(plugins.METHODS, name)
    config = typed(method.Config, small.METHODS[name], "method")
    check_method(method, config, needs={need: str(tokenizer) for need in method.needs})


def test_a_sound_method_keeps_its_promises(registered) -> None:
    check_method(broken_methods.Sound)


@pytest.mark.parametrize(("name", "sentence"), broken_methods.BROKEN.items())
def test_a_broken_method_is_caught(registered, name: str, sentence: str) -> None:
    broken: Any = getattr(broken_methods, name)
    with pytest.raises(BrokenPromise, match=sentence):
        check_method(broken)
