"""The generated JSON codec against google.protobuf's json_format: the same texts taken, the same values, the same JSON.

Deliberately stricter than json_format, and nowhere else; the names are those of `ROWS`, whose functions look for each
point in a text without our reader, so that it may refuse these texts and must refuse them:

| Input                                                                       | json_format          | ours            |
|-----------------------------------------------------------------------------|----------------------|-----------------|
| both names: one field by both of its names                                  | the last one is kept | JsonDecodeError |
| equal keys: two keys of a map that are the same number: "1" and "1.0"       | the last one is kept | JsonDecodeError |
| no object: an empty array or an empty string where a message belongs        | an empty message     | JsonDecodeError |
| no number: a string that JSON would not take as a number: "1_0", " 1"       | as Python reads it   | JsonDecodeError |
| rounded: an integer with fraction or exponent that no float equals          | rounded              | JsonDecodeError |
| too great: "1e999" in a string; more than 32 bits hold, for a `float`       | infinity             | JsonDecodeError |
| truth: true or false for a number or an enum                                | 1 or 0               | JsonDecodeError |
| enum: a fraction, or a number in a string, for an enum                      | as `int` reads it    | JsonDecodeError |
| cut: an enum's number beyond 32 bits, such as 4294967296                    | cut to 32 bits       | JsonDecodeError |
| base64: other characters, or padding that is neither whole nor left out     | left out             | JsonDecodeError |
| more than MAX_MESSAGES messages, MAX_BRACKETS brackets (none here has them) | taken                | JsonDecodeError |

One point is accepted that json_format refuses, though it writes it: 3.4028235e+38, the greatest `float`, rounded up.

As a program it runs longer: `python tests/properties/test_json_fuzz.py --inputs 200000 --seed 7`.
"""

import argparse
import importlib
import json
import random
import re
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from test_codec_fuzz import INTEGERS, ROOT, TEXTS, Tally, every_type, random_message, same, subjects_of

REALS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
STRINGS = FieldDescriptor.CPPTYPE_STRING
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
BASE64 = re.compile(r"(?=(?:.{4})*$|[^=]*$)[A-Za-z0-9+/_-]*={0,2}")
SPECIAL = ("NaN", "Infinity", "-Infinity")
FLOAT_MAX, FLOAT_END = 3.4028234663852886e38, 3.4028235677973366e38

INTEGER_TEXTS = (
    "1.0", "1e2", "1E+2", "-0", "-0.0", "0.5", "1.00", "1e-1", "10e-1", "2147483647.0", "2147483648.0", "1e400", "1e18",
    "9007199254740993.0", "9223372036854775807.0", "9223372036854775808", "18446744073709551616", "1.00000000000000001",
    "01", "+1", ".5", "1.", "1_0", " 1", "1 ", "\\t1", "\\u0661", "007", "0x10", "", "-", "1e", "true", "null", "NaN",
    "Infinity", "1" * 25, "-1", "-1.0", "1e0", "100000e-5",
)  # fmt: skip
REAL_TEXTS = (
    "0.1", "-0.0", "-0", "1", "-1.5", "1e-45", "1e-50", "5e-324", "3.4028234663852886e38", "3.4028235e38", "1.5e-7",
    "-3.4028235e38", "3.4028235677973366e38", "1e39", "1e300", "1e308", "1e309", "-1e999", "1" * 39, "1" * 400, "NaN",
    "Infinity", "-Infinity", "+Infinity", "inf", "nan", "NAN", "-nan", "infinity", " 1.5", "1.5 ", "1_0.5", "1.", ".5",
    "01.5", "", "true", "null", "9007199254740993", "0.30000000000000004", "16777217",
)  # fmt: skip
STRING_TEXTS = (
    '"\\ud83d\\ude00"', '"\\ud800"', '"\\ude00\\ud83d"', '"\\ud83d"', '"\\u0000"', '"\\x"', '"\t"', '"\\/"',
    '"\\uD83D\\uDE00x"', '"\\ud83d\\u0041"', '"\x7f\u2028"', '"a', "'a'", '"\\u12"', '"\\ud83d\\\\ude00"',
)  # fmt: skip
BYTES_TEXTS = (
    "", "QQ==", "QQ", "QQ=", "QR==", "QUI=", "QUI", "QUJD", "QUJD====", "Q", "Q===", "=", "====", "-_", "+/", "-/+_",
    "!!", "QQ==QQ==", "Q Q=", "QQ\\n", "QU=I", "\\u00e9\\u00e9\\u00e9\\u00e9", "QUJDRA", "QUJDRA=", "QUJDRA===",
)  # fmt: skip
ODD = (
    "null", "true", "false", "0", "1", '""', '"a"', "[]", "{}", "[null]", "1.5", "-1", "NaN", "-Infinity", "[[]]",
    '{"a":1}', "[{}]", "[1]", "{",
)  # fmt: skip


EMPTY = ("{}", "{}", "[]", '""')


class Literal(str):
    """A number as it is written."""

    __slots__ = ()


@dataclass
class Subject:
    """One message type in both libraries."""

    google: type[Message]
    encode: object
    decode: object
    refusal: type[Exception]
    ordered: bool


def json_subjects(package):
    found = []
    refusal = importlib.import_module(f"{package}.json_format").JsonDecodeError
    for each in subjects_of(package):
        codec = importlib.import_module(f"{each.ours.__module__}.json_codec").JSON_CODECS[each.ours]
        found.append(Subject(each.google, codec.encode, codec.decode, refusal, each.ordered))
    return found


# Inputs


def written_text(rng, google):
    """What json_format writes, in one of its forms."""
    return json_format.MessageToJson(
        random_message(rng, google),
        indent=rng.choice((None, 2, 0)),
        preserving_proto_field_name=rng.random() < 0.3,
        use_integers_for_enums=rng.random() < 0.3,
        ensure_ascii=rng.random() < 0.5,
        unquote_int64_if_possible=rng.random() < 0.3,
    )


def grown_text(rng, descriptor, depth=4):
    """An object member by member as no writer would write it: every spelling of values, nulls, repetition, nonsense."""
    members = []
    for _ in range(rng.choice((0, 1, 1, 2, 3, 6))):
        each = rng.choice(descriptor.fields) if descriptor.fields else None
        if each is None or rng.random() < 0.03:
            members.append(f"{json.dumps(rng.choice(('x', '', 'Model', '[a.b]')))}:{rng.choice(ODD)}")
        else:
            members.append(f"{grown_key(rng, each)}:{grown_value(rng, each, depth)}")
    if members and rng.random() < 0.03:
        members.append(rng.choice(members))
    return "{" + rng.choice((",", " , ")).join(members) + "}"


def grown_key(rng, each):
    key = json.dumps(each.json_name if rng.random() < 0.7 else each.name)
    return key if rng.random() < 0.95 else f'"\\u{ord(key[1]):04x}{key[2:]}' if key[1].isalpha() else key


def grown_value(rng, each, depth):
    if rng.random() < 0.08:
        return rng.choice(ODD) if rng.random() < 0.7 else "null"
    if each.message_type and each.message_type.GetOptions().map_entry:
        key, value = each.message_type.fields
        entries = [f"{map_key(rng, key)}:{grown_item(rng, value, depth)}" for _ in range(rng.randrange(4))]
        return "{" + ",".join(entries) + "}"
    if each.is_repeated:
        return "[" + ", ".join(grown_item(rng, each, depth) for _ in range(rng.randrange(4))) + "]"
    return grown_item(rng, each, depth)


def grown_item(rng, each, depth):
    if rng.random() < 0.01:
        return rng.choice(ODD)
    if each.message_type:
        return grown_text(rng, each.message_type, depth - 1) if depth and rng.random() < 0.96 else rng.choice(EMPTY)
    return scalar_text(rng, each)


def map_key(rng, key):
    text = scalar_text(rng, key) if rng.random() < 0.7 else rng.choice(("1", "1.0", "10e-1"))
    return text if text.startswith('"') else f'"{text}"'


def quoted(rng, text):
    return f'"{text}"' if rng.random() < 0.5 else text


def scalar_text(rng, each):
    kind = each.cpp_type
    if each.type == FieldDescriptor.TYPE_BYTES:
        return f'"{rng.choice(BYTES_TEXTS)}"'
    if kind == STRINGS:
        plain = json.dumps(rng.choice(TEXTS), ensure_ascii=rng.random() < 0.5)
        return plain if rng.random() < 0.7 else rng.choice(STRING_TEXTS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.choice(("true", "false", "true", "false", '"true"', "1", "0"))
    if kind == FieldDescriptor.CPPTYPE_ENUM and rng.random() < 0.6:
        names = [value.name for value in each.enum_type.values]
        return f'"{rng.choice((*names, *names, names[0].lower(), "NOBODY"))}"'
    if kind in REALS:
        return quoted(rng, rng.choice(REAL_TEXTS) if rng.random() < 0.7 else repr(rng.uniform(-1e6, 1e6)))
    return quoted(rng, str(rng.choice(INTEGERS)) if rng.random() < 0.6 else rng.choice(INTEGER_TEXTS))


def mutated(rng, text):
    """The text with one to three accidents."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(text) + 1)
        upto = min(len(text), at + rng.randrange(1, 9))
        token = rng.choice(list(re.finditer(r'"[^"]*"|[-0-9.e]+|true|false', text)) or [None])
        accident = rng.randrange(7)
        if accident == 0:
            text = text[:at] + text[upto:]
        elif accident == 1:
            text = text[:at] + rng.choice('{}[]",:\\0 \n\x00\ud800é-.e') + text[at:]
        elif accident == 2:
            text = text[:upto] + text[at:]
        elif accident == 3 and rng.random() < 0.3:
            text = text[:at]
        elif token:
            other = rng.choice((*ODD, *INTEGER_TEXTS, *REAL_TEXTS, f'"{rng.choice(BYTES_TEXTS)}"'))
            text = text[: token.start()] + other + text[token.end() :]
    return text


def random_input(rng, google):
    """(how it was made, text or bytes)"""
    kind = rng.choice(("written", "grown", "grown", "grown", "mutated", "mutated"))
    text = grown_text(rng, google.DESCRIPTOR) if kind == "grown" else written_text(rng, google)
    if kind == "mutated":
        text = mutated(rng, text)
    if rng.random() < 0.02:
        text = (
            rng.choice((" \n", "\ufeff", "\x0b", "")) + text + rng.choice((" \t\r\n", "\u00a0", "{}", "null", "\x00"))
        )
    return kind, text if rng.random() < 0.5 else text.encode(errors="surrogatepass")


# The deliberate points, looked for without our reader. They may assume that json_format accepts the text.


def rows_of(descriptor, text):
    value = json.loads(text, object_pairs_hook=tuple, parse_float=Literal)
    return set(of_message(descriptor, value))


def of_message(descriptor, value):
    if not isinstance(value, tuple):
        yield "no object"
        return
    fields = {each.name: each for each in descriptor.fields} | {each.json_name: each for each in descriptor.fields}
    numbers = [fields[key].number for key, _ in value]
    if len(set(numbers)) < len(numbers):
        yield "both names"
    for key, item in value:
        if item is not None:
            yield from of_field(fields[key], item)


def of_field(each, value):
    if each.message_type and each.message_type.GetOptions().map_entry:
        key, item = each.message_type.fields
        for name, inner in value:
            yield from of_scalar(key, name)
            yield from of_item(item, inner)
        if key.cpp_type != STRINGS and len({whole(name) for name, _ in value}) < len(value):
            yield "equal keys"
    elif each.is_repeated:
        for item in value:
            yield from of_item(each, item)
    else:
        yield from of_item(each, value)


def of_item(each, value):
    return of_message(each.message_type, value) if each.message_type else of_scalar(each, value)


def whole(text):
    try:
        return int(text)
    except ValueError:
        return int(float(text))


def of_scalar(each, value):
    kind = each.cpp_type
    if each.type == FieldDescriptor.TYPE_BYTES:
        if not BASE64.fullmatch(value):
            yield "base64"
    elif kind in (STRINGS, FieldDescriptor.CPPTYPE_BOOL):
        return
    elif value is True or value is False:
        yield "truth"
    elif type(value) is str and each.enum_type:
        if value not in each.enum_type.values_by_name:
            yield "enum"
    elif type(value) is str and not NUMBER.fullmatch(value):
        if value not in SPECIAL or kind not in REALS:
            yield "no number"
    else:
        yield from of_real(each, value) if kind in REALS else of_integer(each, value)


def of_integer(each, value):
    number = Fraction(value)
    if type(value) is not int and re.search("[.eE]", value) and number != float(value):
        yield "rounded"
    elif each.enum_type and number.denominator != 1:
        yield "enum"
    elif each.enum_type and not -(2**31) <= number < 2**31:
        yield "cut"


def of_real(each, value):
    number = float(value)
    if value in SPECIAL:
        return
    if abs(number) == float("inf"):
        yield "too great"
    elif each.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        try:
            struct.pack("<f", number)
        except OverflowError:
            yield "too great"


ROWS = ("both names", "equal keys", "no object", "no number", "rounded", "too great", "truth", "enum", "cut", "base64")


# Comparison


def judge(subject, text, tally):
    """Reads the text with both libraries; a sentence in the tally for each difference."""
    google = subject.google()
    where = f"{subject.google.DESCRIPTOR.full_name} {text[:600]!r}"
    try:
        json_format.Parse(text, google)
        refused = None
    except (json_format.ParseError, UnicodeDecodeError) as error:
        refused = str(error)
    try:
        ours = subject.decode(text)
    except subject.refusal as refusal:
        str(refusal).encode()
        if refused is not None:
            tally.inputs["refused by both"] += 1
            return
        rows = rows_of(subject.google.DESCRIPTOR, text)
        for row in rows:
            tally.inputs[f"refused by ours: {row}"] += 1
        if not rows:
            tally.differences.append(f"refused by ours only ({refusal}): {where}")
        return
    if refused is not None:
        if rounded_up(refused, text):
            tally.inputs["accepted by ours: rounded up"] += 1
        else:
            tally.differences.append(f"accepted by ours only ({refused}): {where}")
        return
    tally.inputs["accepted by both"] += 1
    rows = rows_of(subject.google.DESCRIPTOR, text)
    if rows:
        tally.differences.append(f"accepted by ours though {rows}: {where}")
    compare(subject, google, ours, tally, where)


def rounded_up(refused, text):
    """Whether json_format refused nothing but a number that rounds to the greatest float."""
    if "Float value too" not in refused:
        return False
    found = [
        abs(float(each)) for each in re.findall(r"[-0-9.]+e\+?38", text if isinstance(text, str) else text.decode())
    ]
    return any(FLOAT_MAX < each < FLOAT_END for each in found)


def compare(subject, google, ours, tally, where):
    if not same(google, ours):
        tally.differences.append(f"read differently: {where}\n{google}\n{ours}")
        return
    found = subject.encode(ours)
    wanted = json.dumps(json_format.MessageToDict(google), ensure_ascii=False, separators=(",", ":")).encode()
    if found != wanted and (subject.ordered or as_values(found) != as_values(wanted)):
        tally.differences.append(f"written differently: {where}\n{wanted}\n{found}")
    if not same(google, subject.decode(found)):
        tally.differences.append(f"read again differently: {where}")


def as_values(text):
    return json.loads(text, parse_float=str, parse_int=str)


def fuzz(subjects, inputs, seed, report=None):
    """Judges that many inputs over all message types in turn. The same seed gives the same inputs."""
    rng = random.Random(seed)
    tally = Tally()
    for count in range(inputs):
        subject = subjects[count % len(subjects)]
        kind, text = random_input(rng, subject.google)
        tally.inputs[f"made: {kind}"] += 1
        judge(subject, text, tally)
        if report and (count + 1) % 10_000 == 0:
            report(count + 1, tally)
    return tally


def every_json_type(folder):
    every_type(folder)
    sys.path.insert(0, str(folder))
    try:
        return json_subjects("fuzz_types")
    finally:
        sys.path.remove(str(folder))


def test_every_message_of_the_contract_is_json_as_google_reads_and_writes_it():
    subjects = json_subjects("generated")
    assert len(subjects) > 30
    tally = fuzz(subjects, 6_000, seed=20261122)
    assert not tally.differences, "\n".join(tally.differences[:5])
    assert min(tally.inputs["accepted by both"], tally.inputs["refused by both"]) > 1000, tally.inputs


def test_every_field_type_is_json_as_google_reads_and_writes_it(tmp_path):
    tally = fuzz(every_json_type(tmp_path), 6_000, seed=20261122)
    assert not tally.differences, "\n".join(tally.differences[:5])
    assert all(tally.inputs[f"refused by ours: {row}"] for row in ROWS), tally.inputs


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
        tally = fuzz(json_subjects("generated") + every_json_type(folder), asked.inputs, asked.seed, report)
    for outcome, count in sorted(tally.inputs.items()):
        say(f"{outcome}: {count:,}")
    say("\n".join(tally.differences[:20]))
    return bool(tally.differences)


if __name__ == "__main__":
    sys.exit(main())
