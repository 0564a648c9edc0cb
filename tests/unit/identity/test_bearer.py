"""Which of the headers says who calls."""

import pytest
from made_tokens import EMAIL, claims, signed, stripped

from gateway.identity.bearer import presented
from gateway.terms.caller import Credentials
from gateway.terms.limits import TOKEN_BYTES_MAX
from gateway.terms.verdict import RefusedError

TOKEN = signed(claims())
OTHER = signed(claims(email="b" + EMAIL))


def reason_of(**headers):
    with pytest.raises(RefusedError) as caught:
        presented(Credentials(**headers))
    return caught.value.refusal.reason


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_has_no_case(scheme):
    assert presented(Credentials(authorization=(f"{scheme} {TOKEN}",))) == TOKEN
    assert presented(Credentials(serverless_authorization=(f"{scheme} {TOKEN}",))) == TOKEN


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer  {TOKEN}",
        f"Bearer {TOKEN}, Bearer {OTHER}",
        " Bearer x",
    ],
)
def test_refuses_other_forms(value):
    assert reason_of(authorization=(value,)) == "identity.malformed"
    assert reason_of(serverless_authorization=(value,), authorization=(f"Bearer {TOKEN}",)) == "identity.malformed"


def test_refuses_no_header():
    assert reason_of() == "identity.no_token"


def test_refuses_a_header_that_stands_twice():
    bearer = f"Bearer {TOKEN}"
    assert reason_of(authorization=(bearer, bearer)) == "identity.duplicate_header"
    assert reason_of(serverless_authorization=(bearer, bearer)) == "identity.duplicate_header"
    assert reason_of(authorization=("a", "b"), serverless_authorization=(bearer,)) == "identity.duplicate_header"


def test_refuses_a_header_beyond_every_token():
    assert reason_of(authorization=("Bearer " + "a" * (TOKEN_BYTES_MAX + 1),)) == "identity.too_long"


def test_takes_the_header_that_the_edge_checked():
    assert (
        presented(Credentials(authorization=("Bearer sk-app-key",), serverless_authorization=(f"Bearer {TOKEN}",)))
        == TOKEN
    )


def test_the_same_token_may_stand_in_both_stripped_or_not():
    both = Credentials(authorization=(f"Bearer {TOKEN}",), serverless_authorization=(f"Bearer {stripped(TOKEN)}",))
    assert presented(both) == stripped(TOKEN)


def test_refuses_two_tokens():
    headers = {"authorization": (f"Bearer {OTHER}",), "serverless_authorization": (f"Bearer {TOKEN}",)}
    assert reason_of(**headers) == "identity.two_tokens"


def test_no_sentence_repeats_a_token():
    for values in ((f"Bearer {TOKEN}, x",), (f"Basic {TOKEN}",), (f"Bearer {TOKEN}", "x")):
        with pytest.raises(RefusedError) as caught:
            presented(Credentials(authorization=values))
        assert TOKEN[:20] not in caught.value.refusal.sentence
