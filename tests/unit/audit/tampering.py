"""What someone with the file in hands can do to it, and what the verifier then says."""

import sqlite3
from contextlib import closing

from gateway.audit.verify import verify


def write(path, *statements):
    """Change a ledger file by SQL: texts, or pairs of text and values."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            text, values = statement if isinstance(statement, tuple) else (statement, ())
            connection.execute(text, values)
        connection.commit()


def found(path, **wanted):
    """Where the first bad record is, and what is wrong with it."""
    report = verify(path, **wanted)
    assert not report.ok
    return (report.bad.boot, report.bad.sequence, report.bad.problem)
