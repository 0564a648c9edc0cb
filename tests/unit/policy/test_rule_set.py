"""Loading Cedar files: every fault is found, and found at once."""

import pytest
from made_asks import ANYTHING, INPUTS

from gateway.policy.rule_set import FILE_BYTES_MAX, PolicyFile, PolicyLoadError, compiled, read_files
from gateway.policy.rules import Effect
from gateway.policy.schema import policy_schema

SCHEMA = policy_schema(INPUTS)


def compile_texts(*texts):
    files = tuple(PolicyFile(name=f"{number}.cedar", text=text) for number, text in enumerate(texts))
    return compiled(files, SCHEMA)


def faults_of(*texts):
    with pytest.raises(PolicyLoadError) as caught:
        compile_texts(*texts)
    return caught.value.faults


def test_reads_rules_and_what_they_say():
    rule_set = compile_texts(
        '@id("a") @obligation("redact:pii") permit (principal, action, resource);'
        '@id("b.c-d_1") @advice("approval") @say("Ask first.") forbid (principal, action, resource);',
        '@id("e") forbid (principal, action, resource) when { false };',
    )
    a, b, e = (rule_set.rules[name] for name in ("a", "b.c-d_1", "e"))
    assert (a.effect, a.obligation, a.advice, a.say) == (Effect.PERMIT, "redact:pii", "", "")
    assert (b.effect, b.advice, b.say) == (Effect.FORBID, "approval", "Ask first.")
    assert (e.effect, e.advice, e.say, e.id) == (Effect.FORBID, "", "", "e")
    assert len(rule_set.everything) == 3
    assert len(rule_set.without_approvals) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("permit (principal", "is not Cedar"),
        ("\x00", "is not Cedar"),
        ('@id("a") permit (principal == ?principal, action, resource);', "templates"),
        ("permit (principal, action, resource);", "@id"),
        ("@id permit (principal, action, resource);", "@id"),
        ('@id("") permit (principal, action, resource);', "@id"),
        ('@id("Big") permit (principal, action, resource);', "@id"),
        ('@id("a b") permit (principal, action, resource);', "@id"),
        ('@id("a\\n") permit (principal, action, resource);', "@id"),
        ('@id("a") @advise("approval") forbid (principal, action, resource);', "@advise is not known"),
        ('@id("a") @advice("approve") forbid (principal, action, resource);', "@advice can only say"),
        ('@id("a") @advice forbid (principal, action, resource);', "@advice can only say"),
        ('@id("a") @advice("approval") permit (principal, action, resource);', "@advice belongs to a forbid"),
        ('@id("a") @say("x") permit (principal, action, resource);', "@say belongs to a forbid"),
        ('@id("a") @obligation("x") forbid (principal, action, resource);', "@obligation belongs to a permit"),
        ('@id("a") @obligation("") permit (principal, action, resource);', "@obligation must name"),
        ('@id("a") @say("") forbid (principal, action, resource);', "@say must be one line"),
        ('@id("a") @say("a\\nb") forbid (principal, action, resource);', "@say must be one line"),
        ('@id("a") @say("\u202e") forbid (principal, action, resource);', "@say must be one line"),
    ],
)
def test_refuses_rules_that_are_not_said_right(text, message):
    (fault,) = faults_of(text)
    assert message in fault.message


@pytest.mark.parametrize(
    "condition",
    [
        "context.arguments.amuont > 5",
        "context.arguments.amount > 5",
        'context.facts.worth == "5"',
        "context.facts.price > 1",
        "principal.rool",
        'principal.role == Agent::"x"',
        "context.arguments.tags.contains(1)",
        "resource.owner == principal",
        "if context.facts.known then 1 else 2",
    ],
)
def test_strict_validation_finds_wrong_names_and_types(condition):
    """Governance study, section 1.4: unvalidated, each of these is an error that silences the rule."""
    text = f'@id("broken") forbid (principal, action == Action::"pay", resource) when {{ {condition} }};'
    assert {fault.rule for fault in faults_of(ANYTHING, text)} == {"broken"}
    assert {fault.file for fault in faults_of(ANYTHING, text)} == {"1.cedar"}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ('principal, action == Action::"pya", resource', "pya"),
        ("principal is Agnet, action, resource", "Agnet"),
        ('principal, action == Action::"chat", resource is Tool', "applicable"),
    ],
)
def test_strict_validation_finds_wrong_scopes(head, message):
    assert any(message in fault.message for fault in faults_of(f'@id("a") permit ({head});'))


@pytest.mark.parametrize(
    "condition",
    [
        "context.facts has wroth && context.facts.wroth > 5",
        "context has facts.wroth",
        "!(principal has rool)",
        'if context.arguments has "amuont" then true else false',
    ],
)
def test_a_misspelt_has_is_found(condition):
    """Cedar's validator takes it for a test that is always false, and the rule for one that never speaks."""
    text = f'@id("a") forbid (principal, action == Action::"pay", resource) when {{ {condition} }};'
    (fault,) = faults_of(text)
    assert "which nothing can have" in fault.message


def test_a_right_has_is_fine():
    compile_texts(
        '@id("a") forbid (principal, action == Action::"pay", resource)'
        " when { context.arguments has amount && context.arguments.amount > 5 }"
        " unless { context.arguments has place.city };"
    )


def test_ids_are_unique_over_all_files():
    (fault,) = faults_of(ANYTHING, ANYTHING)
    assert (fault.file, fault.rule) == ("1.cedar", "anything")
    assert "of its own" in fault.message


def test_every_fault_of_every_file_is_listed():
    faults = faults_of(
        "permit (principal",
        'permit (principal, action, resource); @id("b") @x permit (principal, action == Action::"no", resource);',
    )
    assert (faults[0].file, faults[0].rule) == ("0.cedar", "")
    assert {("1.cedar", "number 1"), ("1.cedar", "b")} <= {(fault.file, fault.rule) for fault in faults}
    assert "1.cedar, rule b: @x is not known" in "\n".join(str(fault) for fault in faults)


def test_a_long_condition_is_no_deep_one():
    terms = " && ".join(f"context.facts.worth != {number}" for number in range(40))
    compile_texts(f'@id("a") forbid (principal, action == Action::"pay", resource) when {{ {terms} }};')


def test_a_long_list_is_no_deep_condition():
    symbols = ", ".join(f'"S{number}"' for number in range(5_000))
    compile_texts(
        '@id("a") forbid (principal, action == Action::"pay", resource)'
        f" when {{ [{symbols}].contains(context.arguments.to) }}; // ((((" + "(" * 100
    )


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 5_000 + "true" + ")" * 5_000,
        "[" * 5_000,
        '{"a":' * 5_000,
        "!(" * 2_000 + "true" + ")" * 2_000,
        " && ".join(["true"] * 20_000),
        "context" + ".a" * 30_000,
        "if true then true else " * 8_000 + "true",
        "0 == 1" + "+1" * 20_000,
        " && ".join(["true"] * 500),
        " && ".join(["true"] * 80),
    ],
)
def test_a_condition_beyond_reason_is_refused(condition):
    """Unbounded, most of these end the process inside the engine's parser."""
    (fault,) = faults_of(f'@id("a") permit (principal, action, resource) when {{ {condition} }};')
    assert "too deep" in fault.message


def test_too_many_rules_are_refused():
    text = "\n".join(ANYTHING.replace("anything", f"r{number}") for number in range(1_001))
    assert any("more than" in fault.message for fault in faults_of(text))


def test_the_hash_changes_with_every_byte_and_with_the_tools():
    one = compile_texts(ANYTHING).hash
    assert one == compile_texts(ANYTHING).hash
    assert len({one, compile_texts(ANYTHING + " ").hash, compile_texts(ANYTHING, "").hash}) == 3
    other = compiled((PolicyFile(name="other.cedar", text=ANYTHING),), SCHEMA).hash
    fewer = policy_schema(type(INPUTS)(tools=INPUTS.tools[:1], facts={}))
    assert one not in {other, compiled((PolicyFile(name="0.cedar", text=ANYTHING),), fewer).hash}


def test_the_hash_does_not_depend_on_the_order_of_the_files():
    files = (PolicyFile(name="a", text=ANYTHING), PolicyFile(name="b", text="// nothing"))
    assert compiled(files, SCHEMA).hash == compiled(files[::-1], SCHEMA).hash


def test_reads_the_cedar_files_of_a_folder(tmp_path):
    (tmp_path / "b.cedar").write_text("// b")
    (tmp_path / "a.cedar").write_text(ANYTHING)
    (tmp_path / "notes.txt").write_text("no rule")
    assert [file.name for file in read_files(tmp_path)] == ["a.cedar", "b.cedar"]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"/" * (FILE_BYTES_MAX + 1)])
def test_refuses_files_that_are_no_text(tmp_path, content):
    (tmp_path / "a.cedar").write_bytes(content)
    with pytest.raises(PolicyLoadError, match=r"a\.cedar"):
        read_files(tmp_path)


def test_refuses_folders_without_rules(tmp_path):
    with pytest.raises(PolicyLoadError, match=r"0 files"):
        read_files(tmp_path)
    with pytest.raises(PolicyLoadError, match="cannot be read"):
        read_files(tmp_path / "missing")
    (tmp_path / "a.cedar").mkdir()
    with pytest.raises(PolicyLoadError, match="cannot be read"):
        read_files(tmp_path)
