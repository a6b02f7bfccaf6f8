"""The tools for developers fit the tree that they are for."""

from __future__ import annotations

import runpy

import pytest

from helpers.paths import REPOSITORY

MODULES = runpy.run_path(str(REPOSITORY / "tools" / "mutants.py"))["MODULES"]


@pytest.mark.parametrize("module", MODULES)
def test_every_mutant_breaks_a_text_that_its_module_has_once(module):
    text = (REPOSITORY / "packages" / module).read_text(encoding="utf-8")
    assert {old: text.count(old) for old in MODULES[module].changes} == dict.fromkeys(MODULES[module].changes, 1)


@pytest.mark.parametrize("module", MODULES)
def test_the_tests_of_a_mutant_are_there(module):
    assert all((REPOSITORY / test.partition("::")[0]).is_file() for test in MODULES[module].tests)
