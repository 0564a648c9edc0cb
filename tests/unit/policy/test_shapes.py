"""What fits into Cedar's types, and what does not."""

from decimal import Decimal

import pytest

from gateway.policy.shapes import EMPTY, Field, Record, Scalar, SetOf, UnfitError, declared, fitted, record

PERSON = Record(
    fields={
        "name": Field(shape=Scalar.STRING),
        "age": Field(shape=Scalar.LONG, required=False),
        "tags": Field(shape=SetOf(element=Scalar.STRING), required=False),
    }
)


@pytest.mark.parametrize(
    ("value", "shape", "fits"),
    [
        ("x", Scalar.STRING, "x"),
        ("", Scalar.STRING, ""),
        (2**63 - 1, Scalar.LONG, 2**63 - 1),
        (-(2**63), Scalar.LONG, -(2**63)),
        (False, Scalar.BOOL, False),
        (("a", "a"), SetOf(element=Scalar.STRING), ["a", "a"]),
        ((), SetOf(element=Scalar.STRING), []),
        ({"name": "x", "tags": ("a",)}, PERSON, {"name": "x", "tags": ["a"]}),
        ({}, EMPTY, {}),
    ],
)
def test_what_fits(value, shape, fits):
    made = fitted(value, shape, "it")
    assert made == fits
    assert type(made) is type(fits)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (1, Scalar.STRING),
        (None, Scalar.STRING),
        ({"__entity": {"type": "Agent", "id": "x"}}, Scalar.STRING),
        ({"__extn": {"fn": "ip", "arg": "10.0.0.1"}}, Scalar.STRING),
        (True, Scalar.LONG),
        ("1", Scalar.LONG),
        (Decimal("1.0"), Scalar.LONG),
        (None, Scalar.LONG),
        (2**63, Scalar.LONG),
        (-(2**63) - 1, Scalar.LONG),
        (1, Scalar.BOOL),
        ("true", Scalar.BOOL),
        ("a", SetOf(element=Scalar.STRING)),
        (("a", 1), SetOf(element=Scalar.STRING)),
        ((), PERSON),
        ({}, PERSON),
        ({"name": "x", "age": None}, PERSON),
        ({"name": "x", "__entity": {"type": "Agent", "id": "x"}}, PERSON),
        ({"name": "x", "other": 1}, PERSON),
    ],
)
def test_what_does_not_fit(value, shape):
    with pytest.raises(UnfitError, match=r"^it"):
        fitted(value, shape, "it")


def test_a_fault_names_the_place_and_not_the_value():
    with pytest.raises(UnfitError) as caught:
        record({"name": "x", "age": "secret"}, PERSON, "arguments")
    assert str(caught.value) == "arguments.age is not a Long"


def test_the_declaration_is_cedars():
    assert declared(PERSON) == {
        "type": "Record",
        "attributes": {
            "name": {"type": "String"},
            "age": {"type": "Long", "required": False},
            "tags": {"type": "Set", "element": {"type": "String"}, "required": False},
        },
    }
