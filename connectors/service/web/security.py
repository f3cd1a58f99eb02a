"""Who may talk to the page: the checks that every request passes before any handler sees it.

- *Host* must be a name of this daemon. A foreign site cannot make the browser call us under its own name (DNS
  rebinding), since the name that it would use is refused.
- *Whatever changes something* must come from our own pages: the browser's `Sec-Fetch-Site` and `Origin` are compared
  with the Host. Together with the cookie's `SameSite=Strict` this is the protection against forged requests; a secret
  in each form would add nothing. A client that sends neither header is no browser, and carries nobody's cookie.
- *The token*, where one is set, is presented once in a form, which gives a cookie, or with each request as
  `Authorization: Bearer`.
- *Size*: a request's body is at most `MAX_BODY` bytes and says its length.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors.config import WebConfig, is_loopback
from connectors.runtime import Runtime
from connectors.utils import quoted

__all__ = ["COOKIE", "MAX_BODY", "Guard", "TokenGate", "TooManyAttemptsError", "host_names", "local_path"]

COOKIE: Final = "connectors_session"
#: Bytes of a request's body. The largest form of ours is the token's.
MAX_BODY: Final = 16_384

_SESSION_SECONDS: Final = 30 * 86_400
#: Wrong tokens that may wait for their answer at the same time.
_MAX_WAITING: Final = 10
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN_PATHS: Final = frozenset({"/health", "/login"})
_NO_PAGES: Final = ("/live/", "/metrics")
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not bound to
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\s:/@\[\]\\]+)(?P<port>:\d{1,5})?")

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Other sites learn nothing. With "no-referrer" a browser would send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class TooManyAttemptsError(Exception):
    """So many wrong tokens wait for their answer that this one is not looked at."""


class TokenGate:
    """Knows the token without keeping it: compares what is presented, and makes and reads the cookie.

    The key takes long to make on purpose, so that a stolen cookie is of little help in guessing the token: call the
    constructor in a thread.

    Args:
        token: what visitors must present.
        penalty: seconds that a wrong token costs; wrong ones are answered one after another.
    """

    def __init__(self, token: str, runtime: Runtime, *, penalty: float = 1.0) -> None:
        self._runtime = runtime
        self._penalty = penalty
        self._key = hashlib.scrypt(token.encode(), salt=b"connectors web session", n=2**14, r=8, p=1, dklen=32)
        self._token = self._digest("token", token)
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def admits(self, presented: str) -> bool:
        """Whether this is the token. A wrong one is answered late; raises TooManyAttemptsError when many are."""
        if hmac.compare_digest(self._digest("token", presented), self._token):
            return True
        if self._waiting >= _MAX_WAITING:
            raise TooManyAttemptsError
        self._waiting += 1
        try:
            async with self._lock:
                await self._runtime.sleep(self._penalty)
        finally:
            self._waiting -= 1
        return False

    def new_session(self) -> str:
        """Returns the value of a cookie: when it ends, and a keyed digest of that."""
        expires = str(int(self._runtime.time()) + _SESSION_SECONDS)
        return f"{expires}.{self._digest('session', expires)}"

    def knows(self, session: str) -> bool:
        """Whether a cookie's value is one of ours and has not ended."""
        expires, _, digest = session.partition(".")
        genuine = hmac.compare_digest(digest.encode(), self._digest("session", expires).encode())
        return genuine and int(expires) > self._runtime.time()

    def set_cookie(self, response: Response, *, secure: bool) -> None:
        """Lets the visitor in from the next request on; `secure`: the visitor came by https."""
        response.set_cookie(
            COOKIE, self.new_session(), _SESSION_SECONDS, httponly=True, samesite="strict", secure=secure
        )

    def _digest(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


class Guard:
    """The outermost layer of the page: checks each request, and gives each answer its headers.

    Args:
        hosts: names, with or without a port, under which visitors may reach us besides this machine's own.
        gate: None: no token is asked for.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], gate: TokenGate | None) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; `request.state.trusted` tells handlers whether the visitor may know everything."""
        if scope["type"] != "http":
            return
        request = Request(scope)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer = self._refuse(request) or await self._identify(request)
        await (answer or self._app)(scope, receive, send_with_headers)

    # What any request has to be

    def _refuse(self, request: Request) -> Response | None:
        headers = request.headers
        host = self._checked_host(request)
        if host is None:
            shown = quoted(", ".join(headers.getlist("host")))
            return PlainTextResponse(
                f"This page is not served under the name {shown}. If it should be, add the name to web.allowed_hosts "
                "in config.yml and start the daemon again.\n",
                status_code=400,
            )
        if request.method not in _SAFE_METHODS and _is_foreign(headers, host):
            return PlainTextResponse(
                "This request was made by another site, so it is refused. Open the page itself and try again.\n",
                status_code=403,
            )
        if "transfer-encoding" in headers:
            return PlainTextResponse("A request has to say its length (Content-Length).\n", status_code=411)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 10) or int(length) > MAX_BODY:
            return PlainTextResponse(f"A request may have at most {MAX_BODY} bytes.\n", status_code=413)
        return None

    def _checked_host(self, request: Request) -> str | None:
        """Returns the Host header in lower case when it is one of our names."""
        given = request.headers.getlist("host")
        host = given[0].lower() if len(given) == 1 else ""
        found = _HOST.fullmatch(host)
        if found is None:
            return None
        name = found["name"].strip("[]")
        # A server that listens on every address is reached by the address that the visitor connected to.
        own = (request.scope.get("server") or ("",))[0]
        return host if is_loopback(name) or {name, host} & self._hosts or name == own else None

    # Who it is

    async def _identify(self, request: Request) -> Response | None:
        """Lets the visitor through, or returns the answer that asks for the token."""
        gate = self._gate
        if gate is None:
            request.state.trusted = True
            return None
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        bearer = scheme.lower() == "bearer"
        try:
            if bearer:
                request.state.trusted = await gate.admits(credentials.strip())
            else:
                request.state.trusted = gate.knows(request.cookies.get(COOKIE, ""))
        except TooManyAttemptsError:
            return PlainTextResponse("Too many wrong tokens; try again in a minute.\n", status_code=429)
        path: str = request.scope["path"]
        if request.state.trusted or (not bearer and (path in _OPEN_PATHS or path.startswith("/static/"))):
            return None
        wants_page = request.method in _SAFE_METHODS and "text/html" in request.headers.get("accept", "")
        if wants_page and not bearer and not path.startswith(_NO_PAGES):
            target = quote(path) + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/login?next={quote(target, safe='')}", status_code=303)
        return PlainTextResponse(
            "This needs the token of web.token: log in on the page, or send Authorization: Bearer.\n",
            status_code=401,
            headers={"WWW-Authenticate": 'Bearer realm="connectors"'},
        )


def _is_foreign(headers: Headers, host: str) -> bool:
    """Whether a browser says that the request comes from another site's page."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in {"same-origin", "none"}:
        return True
    return origin is not None and _authority(origin) != host


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def host_names(config: WebConfig) -> frozenset[str]:
    """Returns the names, besides this machine's own, under which the configuration lets visitors reach the page."""
    given = {name.strip().lower() for name in (config.host, *config.allowed_hosts)}
    return frozenset(given | {name.strip("[]") for name in given}) - _WILDCARDS


def local_path(target: str) -> str:
    """Returns the target of a redirect when it lies on our own pages, otherwise the first page."""
    inside = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if inside and target.isascii() and target.isprintable() else "/"
