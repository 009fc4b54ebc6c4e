"""Web page with live results of the listener, and endpoints for monitoring."""

from edge.web.address import parse_address
from edge.web.sink import WebSink

__all__ = ["WebSink", "parse_address"]
