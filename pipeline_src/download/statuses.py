"""What an HTTP status says of a clip."""

import email.utils
import time
from http import HTTPStatus

from pipeline_src.download.hosts import RateLimitedError
from pipeline_src.errors import MediaError

REASON_OF_STATUS = {
    401: "private",
    403: "private",
    404: "unavailable",
    407: "network",  # of the proxy
    408: "timeout",
    410: "unavailable",
    421: "network",
    423: "network",
    425: "network",
    429: "rate_limited",
    451: "geo_blocked",
    504: "timeout",
}


def status_error(status: int, detail: str, retry_after: str) -> MediaError:
    """Make the error for a status that brings no body.

    Args:
        retry_after: the header's text; with a 503 it asks for fewer requests too (RFC 9110).
    """
    is_server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    reason = REASON_OF_STATUS.get(status, "network" if is_server_error else "unavailable")
    seconds = _seconds(retry_after.strip())
    if reason == "rate_limited" or (status == HTTPStatus.SERVICE_UNAVAILABLE and seconds):
        return RateLimitedError("rate_limited", detail, seconds)
    return MediaError(reason, detail)


def _seconds(text: str) -> float:
    """Parse Retry-After, a number or a date, as seconds from now; 0 where it says nothing."""
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
