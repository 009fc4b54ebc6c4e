"""A page that shows what the listener hears, for browsers; and its health, for monitoring."""

from edge.web.address import parse_address
from edge.web.sink import WebSink

__all__ = ["WebSink", "parse_address"]
