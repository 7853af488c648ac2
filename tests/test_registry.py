"""The registry class, and that every entry of every registry leads to a class. `test_imports.py` has their laziness."""

import importlib

import pytest

from tests import registries
from utils.errors import UserError
from utils.registry import Registry, UnknownName


@pytest.mark.parametrize("package", registries.ALL)
def test_every_entry_of_a_registry_leads_to_a_class(package):
    registry = importlib.import_module(package).REGISTRY
    assert isinstance(registry, Registry) and len(registry) > 0
    for name in registry:
        assert isinstance(registry[name], type), name


def test_an_entry_is_imported_only_when_it_is_asked_for():
    registry = Registry("thing", there="fractions:Fraction", missing="no_such_module:Thing")
    assert list(registry) == ["there", "missing"] and "missing" in registry and len(registry) == 2
    assert registry["there"].__name__ == "Fraction"
    with pytest.raises(ModuleNotFoundError):
        registry["missing"]


def test_classes_and_lazy_strings_can_be_added_and_removed():
    registry = Registry("thing")
    registry["mine"] = dict
    registry["lazy"] = "fractions:Fraction"
    assert registry["mine"] is dict and registry["lazy"].__name__ == "Fraction"
    del registry["mine"]
    assert "mine" not in registry


def test_a_duplicate_is_refused_and_the_first_entry_stays():
    registry = Registry("mixer", vdn=list)
    with pytest.raises(ValueError, match="mixer 'vdn' is already registered"):
        registry["vdn"] = dict
    assert registry["vdn"] is list


def test_an_unknown_name_is_answered_by_one_sentence_with_the_nearest_and_all_names():
    registry = Registry("mixer", vdn=list, qmix=dict)
    with pytest.raises(UnknownName) as caught:
        registry["qmx"]
    assert str(caught.value) == "unknown mixer 'qmx'; did you mean 'qmix'? (known: qmix, vdn)"
    assert isinstance(caught.value, KeyError) and isinstance(caught.value, UserError)
