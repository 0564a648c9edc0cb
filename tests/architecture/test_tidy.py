"""The shape of the code is a test: sizes, names, docstrings, and who may make a proof."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("gateway", "agent", "localcloud", "policies", "protos", "bench", "deploy")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
REFUSED_NAMES = re.compile(r"(^|_)(manager|handler|helper|helpers|utils|util|common|base|core|engine)(_|$)")


def trees():
    return [(path, ast.parse(path.read_text())) for path in SOURCES]


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_no_function_is_over_seventy_lines():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1}"
        for path, tree in trees()
        for node in functions(tree)
        if node.end_lineno - node.lineno + 1 > 70
    ]
    assert long == []


def test_function_lengths_stay_small():
    lengths = sorted(node.end_lineno - node.lineno + 1 for _, tree in trees() for node in functions(tree))
    assert lengths[len(lengths) // 2] <= 10
    assert lengths[len(lengths) * 9 // 10] <= 35


def test_no_file_is_over_five_hundred_lines_and_the_median_is_small():
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert [str(path.relative_to(ROOT)) for path, length in lengths.items() if length > 500] == []
    assert sorted(lengths.values())[len(lengths) // 2] <= 150


def test_every_module_says_what_it_is():
    silent = [str(path.relative_to(ROOT)) for path, tree in trees() if not (ast.get_docstring(tree) or "").strip()]
    assert silent == []


def test_no_module_has_a_name_that_takes_everything():
    vague = [str(path.relative_to(ROOT)) for path in SOURCES if REFUSED_NAMES.search(path.stem)]
    assert vague == []


def test_no_pictograms():
    pictograms = re.compile("[\U0001f000-\U0001ffff\u2600-\u27bf]")
    assert [str(path.relative_to(ROOT)) for path in SOURCES if pictograms.search(path.read_text())] == []


@pytest.mark.parametrize("proof, maker", [("Permit", "gateway/policy/"), ("Reservation", "gateway/ledger/")])
def test_only_its_station_makes_a_proof(proof, maker):
    """Invariant 2: a Permit comes from policy, a Reservation from the ledger, and from nowhere else."""
    makers = {
        str(path.relative_to(ROOT))
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == proof
    }
    assert makers
    assert sorted(name for name in makers if not name.startswith(maker)) == []


def test_test_modules_have_names_of_their_own():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)


def test_any_stays_in_the_wire():
    """`Any` switches the type checker off; only the wire, where the library has no types, may use it."""
    loose = [
        str(path.relative_to(ROOT))
        for path, tree in trees()
        if path.is_relative_to(ROOT / "gateway") and not path.is_relative_to(ROOT / "gateway" / "wire")
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    assert loose == []


def test_a_decision_has_a_number_that_no_other_has():
    named = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [int(path.name[:4]) for path in named]
    assert len(set(numbers)) == len(numbers)
    wrong = [path.name for path in named if not path.read_text().startswith(f"# {int(path.name[:4])}. ")]
    assert wrong == []
