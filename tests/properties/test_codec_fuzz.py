"""The generated codec against google.protobuf: the same bytes accepted, the same values read, the same bytes written.

Deliberately stricter than google.protobuf (upb), and nowhere else:

| Input                                                                  | google          | ours        |
|------------------------------------------------------------------------|-----------------|-------------|
| a varint of ten bytes whose last is above 1: it does not fit 64 bits   | cut, then taken | DecodeError |
| field number 0 in a message without fields, or inside an unknown group | skipped         | DecodeError |
| more than MAX_MESSAGES messages within one (no input here has so many) | taken           | DecodeError |

As a program it runs longer: `python tests/properties/test_codec_fuzz.py --inputs 1000000 --seed 7`.
"""

import argparse
import importlib
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError as GoogleDecodeError
from google.protobuf.message import Message

ROOT = Path(__file__).resolve().parents[2]
OVER_64_BITS = re.compile(rb"[\x80-\xff]{9}[\x02-\x7f]")
TEXTS = ("", "a", "run-1", "é", "\u20ac", "\U0001f600", "\x00", "x" * 127, "x" * 128, '{"k":[1,2]}')
INTEGERS = (
    2**32,
    2**33 + 5,
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    16383,
    16384,
    2**31 - 1,
    -(2**31),
    2**32 - 1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
)
REALS = (0.0, -0.0, 1.0, -1.5, 0.1, 1e-45, 3.4e38, 1e300, math.inf, -math.inf, math.nan)
RANGES = {
    **dict.fromkeys((FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_ENUM), (-(2**31), 2**31 - 1)),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


@dataclass
class Subject:
    """One message type in both libraries."""

    google: type[Message]
    ours: type
    encode: object
    decode: object
    refusal: type[Exception]
    ordered: bool  # no map below it, whose order google sorts

    @property
    def descriptor(self) -> Descriptor:
        return self.google.DESCRIPTOR


@dataclass
class Tally:
    """What a run has seen."""

    inputs: Counter = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)


def subjects_of(package: str) -> list[Subject]:
    """Every message type of a generated package, found from its descriptors alone."""
    top = importlib.import_module(package)
    wire_format = importlib.import_module(f"{package}.wire_format")
    files = descriptor_pb2.FileDescriptorSet.FromString(Path(top.__path__[0], "descriptors.bin").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    found = []
    # Of google's packages no code is made.
    for proto_package in sorted({file.package for file in files.file if not file.package.startswith("google.")}):
        folder = importlib.import_module(f"{package}.{proto_package}")
        codecs = importlib.import_module(f"{package}.{proto_package}.codec").CODECS
        descriptors = [message for file in files.file if file.package == proto_package for message in walk(pool, file)]
        assert len(descriptors) == len(codecs)
        for descriptor in descriptors:
            ours = getattr(folder, descriptor.full_name.removeprefix(f"{proto_package}.").replace(".", ""))
            found.append(
                Subject(
                    google=message_factory.GetMessageClass(descriptor),
                    ours=ours,
                    encode=codecs[ours].encode,
                    decode=codecs[ours].decode,
                    refusal=wire_format.DecodeError,
                    ordered=not holds_a_map(descriptor, set()),
                )
            )
    return found


def walk(pool, file):
    names = [f"{file.package}.{message.name}" for message in file.message_type]
    while names:
        descriptor = pool.FindMessageTypeByName(names.pop())
        yield descriptor
        names += [nested.full_name for nested in descriptor.nested_types if not nested.GetOptions().map_entry]


def holds_a_map(descriptor, seen):
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    inner = [each.message_type for each in descriptor.fields if each.message_type]
    return any(each.GetOptions().map_entry or holds_a_map(each, seen) for each in inner)


# Inputs


def random_message(rng, google, depth=4):
    """A message of google's with random fields set."""
    message = google()
    for each in google.DESCRIPTOR.fields:
        if rng.random() < 0.5:
            continue
        if each.message_type and each.message_type.GetOptions().map_entry:
            fill_map(rng, message, each, depth)
        elif each.message_type and depth == 0:
            continue
        elif each.is_repeated:
            into = getattr(message, each.name)
            for _ in range(rng.choice((1, 1, 2, 5))):
                if each.message_type:
                    into.add().CopyFrom(
                        random_message(rng, message_factory.GetMessageClass(each.message_type), depth - 1)
                    )
                else:
                    into.append(random_scalar(rng, each))
        elif each.message_type:
            inner = random_message(rng, message_factory.GetMessageClass(each.message_type), depth - 1)
            getattr(message, each.name).CopyFrom(inner)
            getattr(message, each.name).SetInParent()
        else:
            setattr(message, each.name, random_scalar(rng, each))
    return message


def fill_map(rng, message, each, depth):
    key, value = each.message_type.fields
    into = getattr(message, each.name)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not value.message_type:
            into[random_scalar(rng, key)] = random_scalar(rng, value)
        elif depth > 0:
            inner = random_message(rng, message_factory.GetMessageClass(value.message_type), depth - 1)
            into[random_scalar(rng, key)].CopyFrom(inner)


def random_scalar(rng, each):
    kind = each.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        text = rng.choice(TEXTS) if rng.random() < 0.9 else "y" * rng.choice((16383, 16384))
        return text.encode() + rng.randbytes(rng.randrange(4)) if each.type == FieldDescriptor.TYPE_BYTES else text
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return rng.choice(REALS)
    low, high = RANGES[kind]
    number = rng.choice(INTEGERS) if rng.random() < 0.8 else rng.randint(low, high)
    return number if low <= number <= high else rng.randrange(4)


def varint(number, padding=0):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    if padding:
        out[-1] |= 128
        out += b"\x80" * (padding - 1) + b"\x00"
    return bytes(out)


def random_varint(rng):
    number = rng.choice(INTEGERS) if rng.random() < 0.7 else rng.getrandbits(rng.choice((3, 7, 14, 32, 40, 64, 66, 71)))
    return varint(number & (1 << 70) - 1 if number >= 0 else number + (1 << 64), rng.choice((0, 0, 0, 0, 1, 3, 8)))


def random_fields(rng, descriptor, depth=5):
    """Fields one by one as no writer would send them: wrong wire types, padding, repetition, groups, nonsense."""
    parts = []
    for _ in range(rng.choice((0, 1, 1, 2, 3, 6))):
        each = rng.choice(descriptor.fields) if descriptor.fields and rng.random() < 0.9 else None
        number = each.number if each else rng.choice((0, 1, 15, 16, 99, 2047, 536870911))
        parts.append(random_field(rng, each, number, depth))
        if rng.random() < 0.2:
            parts.append(rng.choice(parts))
    return b"".join(parts)


def right_wire_type(each):
    if each.cpp_type in (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE):
        return 2
    if each.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32):
        return 5
    if each.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64):
        return 1
    return 0


def random_field(rng, each, number, depth):
    if each and rng.random() < 0.85:
        wire_type = right_wire_type(each)
        if each.is_repeated and wire_type != 2 and rng.random() < 0.5:
            wire_type = 2
    else:
        wire_type = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 3, 0, 1, 2))
    tag = varint(number << 3 | wire_type, rng.choice((0,) * 12 + (1, 2, 5)))
    if wire_type == 0:
        return tag + random_varint(rng)
    if wire_type in (1, 5):
        return tag + rng.randbytes(8 if wire_type == 1 else 4)
    if wire_type == 2:
        body = random_body(rng, each, depth)
        size = len(body) + (rng.choice((-1, 1, 2**31, 2**32)) if rng.random() < 0.02 else 0)
        return tag + varint(max(size, 0), rng.choice((0,) * 12 + (1, 2, 5))) + body
    if wire_type == 3 and depth > 0:
        inner = b"".join(random_field(rng, None, rng.choice((0, 1, 7)), depth - 1) for _ in range(rng.randrange(3)))
        close = number if rng.random() < 0.9 else number + 1
        return tag + inner + varint(close << 3 | 4)
    return tag


def random_body(rng, each, depth):
    if each and each.message_type and depth > 0:
        return random_fields(rng, each.message_type, depth - 1)
    if each and each.is_repeated and right_wire_type(each) == 0:
        packed = b"".join(random_varint(rng) for _ in range(rng.randrange(4)))
        return packed[:-1] if rng.random() < 0.1 else packed
    if each and right_wire_type(each) != 2:
        return rng.randbytes(rng.choice((0, 4, 8, 16, 7)))
    return rng.choice(TEXTS).encode() if rng.random() < 0.9 else rng.randbytes(rng.randrange(5))


def mutated(rng, data, other):
    """The bytes with one to four accidents."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        upto = min(len(out), at + rng.randrange(1, 9))
        accident = rng.randrange(8)
        if accident == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif accident == 1:
            del out[at:]
        elif accident == 2:
            out[at:at] = rng.randbytes(rng.randrange(1, 5))
        elif accident == 3:
            del out[at:upto]
        elif accident == 4 and at < len(out):
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0xC0, 0xED))
        elif accident == 5:
            out[at:at] = out[at:upto]
        elif accident == 6:
            out += other
        else:
            out[at:at] = b"\xff" * 9 + rng.choice((b"\x01", b"\x02", b"\x7f"))
    return bytes(out)


def random_input(rng, google):
    """(how it was made, bytes)"""
    kind = rng.choice(("valid", "fields", "fields", "mutated", "mutated", "merged", "random"))
    if kind == "random":
        return kind, rng.randbytes(rng.choice((0, 1, 2, 3, 8, 20, 60)))
    if kind == "fields":
        return kind, random_fields(rng, google.DESCRIPTOR)
    data = random_message(rng, google).SerializeToString()
    if kind == "valid":
        return kind, data
    other = random_message(rng, google).SerializeToString()
    return kind, data + other if kind == "merged" else mutated(rng, data, other)


# Comparison


def same(google, ours):
    """Whether a message of google's and one of ours hold the same, presence included."""
    return all(same_field(google, ours, each) for each in google.DESCRIPTOR.fields)


def same_field(google, ours, each):
    mine = getattr(ours, python_name(ours, each))
    theirs = getattr(google, each.name)
    if each.message_type and each.message_type.GetOptions().map_entry:
        value = each.message_type.fields_by_name["value"]
        return mine.keys() == theirs.keys() and all(same_value(theirs[key], mine[key], value) for key in theirs)
    if each.is_repeated:
        return len(mine) == len(theirs) and all(same_value(*pair, each) for pair in zip(theirs, mine, strict=True))
    if each.has_presence and not google.HasField(each.name):
        return mine is None
    return mine is not None and same_value(theirs, mine, each)


def same_value(theirs, mine, each):
    if each.message_type:
        return same(theirs, mine)
    if each.enum_type:
        return isinstance(mine, int) and type(mine) is not int and int(mine) == theirs
    if isinstance(theirs, float):
        return (
            type(mine) is float
            and (theirs == mine or (theirs != theirs and mine != mine))
            and (math.copysign(1, theirs) == math.copysign(1, mine) or theirs != theirs)
        )
    return type(mine) is type(theirs) and mine == theirs


def python_name(ours, each):
    names = NAMES.get(type(ours))
    if names is None:
        names = {meta.number: name for name, meta in type(ours)._betterproto.meta_by_field_name.items()}
        NAMES[type(ours)] = names
    return names[each.number]


NAMES: dict[type, dict[int, str]] = {}


def judge(subject, data, tally):
    """Reads the bytes with both libraries; a sentence in the tally for each difference."""
    google = subject.google()
    try:
        google.ParseFromString(data)
        accepted = True
    except GoogleDecodeError:
        accepted = False
    where = f"{subject.descriptor.full_name} {data.hex() if len(data) < 400 else data[:400].hex() + '...'}"
    try:
        ours = subject.decode(data)
    except subject.refusal as refusal:
        if not accepted:
            tally.inputs["refused by both"] += 1
        elif on_purpose(subject, str(refusal), data):
            tally.inputs["refused by ours on purpose"] += 1
        else:
            tally.differences.append(f"refused by ours only ({refusal}): {where}")
        return
    if not accepted:
        tally.differences.append(f"accepted by ours only: {where}")
        return
    tally.inputs["accepted by both"] += 1
    if not same(google, ours):
        tally.differences.append(f"read differently: {where}\n{google}\n{ours}")
        return
    written = subject.encode(ours)
    again = subject.google.FromString(written)
    if not same(again, ours):
        tally.differences.append(f"written differently: {where}")
    google.DiscardUnknownFields()
    if subject.ordered and google.SerializeToString() != written and not contains_nan(ours):
        tally.differences.append(f"written in other bytes: {where}")


def on_purpose(subject, sentence, data):
    """Whether a refusal is one of the table above, where google accepts."""
    if "does not fit 64 bits" in sentence:
        return OVER_64_BITS.search(data) is not None
    name, _, rest = sentence.partition(": ")
    if "unknown group has the number 0" in rest:
        return True
    return "has the number 0" in rest and not subject.descriptor.file.pool.FindMessageTypeByName(name).fields


def contains_nan(ours):
    return "nan" in repr(ours)


def fuzz(subjects, inputs, seed, report=None):
    """Judges that many inputs over all message types in turn. The same seed gives the same inputs."""
    rng = random.Random(seed)
    tally = Tally()
    for count in range(inputs):
        subject = subjects[count % len(subjects)]
        kind, data = random_input(rng, subject.google)
        tally.inputs[f"made: {kind}"] += 1
        judge(subject, data, tally)
        if report and (count + 1) % 10_000 == 0:
            report(count + 1, tally)
    return tally


def every_type(folder):
    """A generated package that holds every field type, from the proto of the unit tests."""
    protos = ROOT / "tests" / "unit" / "generated"
    command = [
        sys.executable,
        ROOT / "protos" / "generate.py",
        "--protos",
        protos,
        "--out",
        Path(folder) / "fuzz_types",
    ]
    subprocess.run(command, check=True, capture_output=True)
    sys.path.insert(0, str(folder))
    try:
        return subjects_of("fuzz_types")
    finally:
        sys.path.remove(str(folder))


def test_every_message_of_the_contract_is_read_and_written_as_google_does():
    subjects = subjects_of("generated")
    assert len(subjects) > 30
    tally = fuzz(subjects, 12_000, seed=20261122)
    assert not tally.differences, "\n".join(tally.differences[:5])
    for outcome, least in (("accepted by both", 3000), ("refused by both", 3000), ("refused by ours on purpose", 10)):
        assert tally.inputs[outcome] > least, tally.inputs


def test_every_field_type_is_read_and_written_as_google_does(tmp_path):
    tally = fuzz(every_type(tmp_path), 8_000, seed=20261122)
    assert not tally.differences, "\n".join(tally.differences[:5])


def say(line):
    print(line, flush=True)  # noqa: T201 # the report of the program


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    began = time.monotonic()

    def report(count, tally):
        rate = count / (time.monotonic() - began)
        say(f"{count:,} of {asked.inputs:,} inputs, {rate:,.0f}/s, {len(tally.differences)} differences")

    with tempfile.TemporaryDirectory() as folder:
        tally = fuzz(subjects_of("generated") + every_type(folder), asked.inputs, asked.seed, report)
    for outcome, count in sorted(tally.inputs.items()):
        say(f"{outcome}: {count:,}")
    say("\n".join(tally.differences[:20]))
    return bool(tally.differences)


if __name__ == "__main__":
    sys.exit(main())
