"""What the packages offer: exactly what `__all__` says."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

import pytest
from python import run_python

PACKAGES = ["models", "worker"]


@pytest.fixture(params=PACKAGES)
def package(request):
    return importlib.import_module(request.param)


def test_each_exported_name_is_there(package):
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_exported_names_are_sorted_constants_and_classes_first(package):
    def rank(name):
        return (not name.isupper(), not name[0].isupper(), name)

    assert package.__all__ == sorted(set(package.__all__), key=rank)


def test_what_is_public_is_exported(package):
    public = {
        name
        for name, value in vars(package).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public - {"annotations", "User"} == set(package.__all__)  # the example's


def test_no_exported_name_is_a_module_s(package):
    """Else `from worker import sweep` would depend on what was imported before."""
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)


def test_every_module_says_what_it_is_for(package):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if ".migrations" not in module.name:
            assert importlib.import_module(module.name).__doc__, module.name


def test_models_needs_neither_dramatiq_nor_redis():
    code = "import models, sys; print({'dramatiq', 'redis', 'worker'} & {*sys.modules})"
    assert run_python(code).stdout == "set()\n"
