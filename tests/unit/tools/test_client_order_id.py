"""Client order ids are derived from the whole operation key and the gateway's secret."""

import re

import msgspec
import pytest

from gateway.terms.ids import IdempotencyKey, Principal, TenantName
from gateway.terms.operations import OperationKey
from gateway.tools.client_order_id import client_order_id

SECRET = b"s" * 32
KEY = OperationKey(tenant=TenantName("acme"), principal=Principal("12"), tool="place_order", key=IdempotencyKey("k"))


def test_its_form():
    assert re.fullmatch(r"gw-[a-z2-7]{32}", client_order_id(SECRET, KEY))


def test_it_is_always_the_same():
    assert client_order_id(SECRET, KEY) == client_order_id(SECRET, msgspec.structs.replace(KEY))
    assert client_order_id(SECRET, KEY) == "gw-pgvopvatyasy3ikghz5kt3odq5o6n4f2"  # a change would send orders twice


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(KEY, tenant=TenantName("other")),
        msgspec.structs.replace(KEY, principal=Principal("13")),
        msgspec.structs.replace(KEY, tool="place_orders"),
        msgspec.structs.replace(KEY, key=IdempotencyKey("l")),
        msgspec.structs.replace(KEY, tenant=TenantName("acme1"), principal=Principal("2")),
        msgspec.structs.replace(KEY, tool="place_orderk", key=IdempotencyKey("")),
    ],
)
def test_no_other_operation_has_it(other):
    assert client_order_id(SECRET, other) != client_order_id(SECRET, KEY)


def test_nobody_foresees_it_without_the_secret():
    assert client_order_id(b"t" * 32, KEY) != client_order_id(SECRET, KEY)
