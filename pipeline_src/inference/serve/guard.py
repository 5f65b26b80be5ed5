"""What every request has to pass, and what every answer carries.

A page of another site may make the browser ask this server: by its own name after the name's
address was changed (Host), by a form (Origin, a header that no form sends), or by embedding
(Sec-Fetch-Site).
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from pipeline_src.errors import PipelineError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OWN_HEADER = "X-AV-Pipeline"
READING = ("GET", "HEAD")
FROM_ELSEWHERE = ("cross-site", "same-site")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cache-Control": "no-cache",
}


def make_guard(host: str) -> Middleware:
    """Return the middleware of a server that was bound to ``host``."""
    names = {"localhost", host.lower(), socket.gethostname().lower()}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        problem = _problem(request, names)
        if problem:
            return _with_headers(web.json_response({"error": problem}, status=403))
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = web.json_response({"error": error.reason}, status=error.status)
        except PipelineError as error:
            response = web.json_response({"error": str(error)}, status=400)
        except LookupError as error:
            response = web.json_response({"error": str(error)}, status=404)
        return _with_headers(response)

    return guard


def _problem(request: web.Request, names: set[str]) -> str:
    """Say why a request is refused; empty = it is not."""
    if not _is_own_host(request.host, names):
        return f"Host {request.host!r} is not this server's"
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return f"Origin {origin!r} is another site"
    is_reading = request.method in READING
    from_elsewhere = request.headers.get("Sec-Fetch-Site") in FROM_ELSEWHERE
    if from_elsewhere and not (is_reading and request.path == "/"):
        return "asked by a page of another site"
    if not is_reading and OWN_HEADER not in request.headers:
        return f"the header {OWN_HEADER} is missing"
    return ""


def _is_own_host(value: str, names: set[str]) -> bool:
    """Tell whether Host is an address or a name of this machine; names can be led elsewhere."""
    try:
        hostname = urlsplit(f"//{value}").hostname or ""
    except ValueError:
        return False
    if hostname in names:
        return True
    try:
        ipaddress.ip_address(hostname)
    except ValueError:
        return False
    return True


def _with_headers(response: web.StreamResponse) -> web.StreamResponse:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
