"""How large an input may be. Every way in keeps to the same bounds."""

MAX_EVENT_BYTES = 1 << 20
"""An event as JSON, or a line of a file."""

MAX_TEXT_BYTES = 1 << 13
"""One text of an event, in UTF-8."""

KEPT_BYTES = 1 << 12
"""What a dead letter keeps of an event that is too large."""
