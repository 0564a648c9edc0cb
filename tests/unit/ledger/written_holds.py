"""The view `holds` as a table that can be written: for who changes amounts behind a ledger's back."""

_SAME = "hold.value ->> 0 = OLD.scope AND hold.value ->> 1 = OLD.unit AND hold.value ->> 2 = OLD.time_window"
_NEW = "json_array(NEW.scope, NEW.unit, NEW.time_window, NEW.amount, NEW.charged, NEW.state)"

_EACH = "json_each(operations.holds) AS hold"
_CHANGED = f"(SELECT json_group_array(json(CASE WHEN {_SAME} THEN {_NEW} ELSE hold.value END)) FROM {_EACH})"
_OTHERS = f"(SELECT json_group_array(json(hold.value)) FROM {_EACH} WHERE NOT ({_SAME}))"

SQLITE = tuple(
    f"CREATE TEMP TRIGGER IF NOT EXISTS holds_{event} INSTEAD OF {event} ON holds BEGIN"
    f" UPDATE operations SET holds = {holds} WHERE number = {row}.operation; END"
    for event, row, holds in (
        ("INSERT", "NEW", f"json_insert(holds, '$[#]', {_NEW})"),
        ("UPDATE", "OLD", _CHANGED),
        ("DELETE", "OLD", _OTHERS),
    )
)
"""For one connection."""

POSTGRES = """
CREATE OR REPLACE FUNCTION holds_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE operations SET holds = (
            SELECT coalesce(json_agg(hold), '[]')::text FROM json_array_elements(operations.holds::json) AS hold
            WHERE NOT (hold ->> 0 = OLD.scope AND hold ->> 1 = OLD.unit AND hold ->> 2 = OLD.time_window)
        ) WHERE number = OLD.operation;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    UPDATE operations SET holds = (holds::jsonb || jsonb_build_array(jsonb_build_array(
        NEW.scope, NEW.unit, NEW.time_window, NEW.amount, NEW.charged, NEW.state
    )))::text WHERE number = NEW.operation;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER holds_written INSTEAD OF INSERT OR UPDATE OR DELETE ON holds
    FOR EACH ROW EXECUTE FUNCTION holds_written()
"""


def writable(connection):
    """In this connection to a SQLite file."""
    for statement in SQLITE:
        connection.execute(statement)
