"""The agent's log: one JSON object a line, in the form that Cloud Logging reads."""

import json
import logging


class JsonLines(logging.Formatter):
    """`severity`, `message`, `logger`, the record's own `fields`, and the whole stack of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        told: dict[str, object] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["stack_trace"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def log_to_stderr() -> None:
    """Everything from INFO on, of every library, as JSON."""
    lines = logging.StreamHandler()
    lines.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[lines], force=True)
