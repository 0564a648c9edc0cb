"""A secret's value as Secret Manager takes it: base64, and a CRC-32C of it that must be right if it is given."""

import base64
from typing import Final

from localcloud.run_admin.errors import ApiError
from localcloud.run_admin.shapes import JsonObject, text

_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli's, with its bits in reverse
_BYTES_MAX: Final = 65_536


def value_of(payload: JsonObject) -> bytes:
    """The value in a payload. Raises ApiError 400 for one that is damaged or too long."""
    try:
        value = base64.b64decode(text(payload, "data"), validate=True)
    except ValueError as error:
        raise ApiError(400, "Invalid value at 'payload.data': Base64 decoding failed.") from error
    if len(value) > _BYTES_MAX:
        raise ApiError(400, f"The secret payload must have at most {_BYTES_MAX} bytes.")
    if has_checksum(payload) and str(payload["dataCrc32c"]) != str(crc32c(value)):
        raise ApiError(400, "The checksum does not match the payload data.")
    return value


def has_checksum(payload: JsonObject) -> bool:
    """Whether the caller gave a checksum; gcloud wants to hear that it was looked at."""
    return "dataCrc32c" in payload


def crc32c(value: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4)."""
    remainder = 0xFFFFFFFF
    for byte in value:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (_POLYNOMIAL if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF
