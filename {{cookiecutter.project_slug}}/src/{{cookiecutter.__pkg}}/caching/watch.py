"""The parts of a watched request: each notes by name what is read from it.

A name is the key of a header in a WSGI environ, REMOTE_ADDR for the client's address, wsgi.input
for the body, "session", "changed session", "g", "cookie NAME", or "*" for all headers.
"""

import functools
import sys
from typing import Any

from flask import g, request
from werkzeug.datastructures import EnvironHeaders, ImmutableMultiDict
from werkzeug.test import create_environ

#: Headers that say who the visitor is. Requests with one of them go past the cache.
PRIVATE_HEADERS = (
    # API keys, as OpenAPI's own example, Azure, Google, GitLab, RapidAPI and many others name them
    *("X-API-Key", "Api-Key", "ApiKey", "X-Auth-Token", "X-Access-Token", "X-Session-Token"),
    *("Ocp-Apim-Subscription-Key", "X-Functions-Key", "X-Goog-Api-Key", "Private-Token"),
    *("X-RapidAPI-Key", "X-User-Token", "X-Amz-Security-Token", "Proxy-Authorization"),
    # nginx, Traefik and Apache in front of an app, by custom; Grafana's auth proxy
    *("X-Remote-User", "X-User", "X-User-ID", "X-Email", "X-WebAuth-User", "X-Vouch-User"),
    # Client certificates: RFC 9440; Envoy; ingress-nginx; Traefik
    *("Client-Cert", "X-Forwarded-Client-Cert", "SSL-Client-Cert", "SSL-Client-Subject-DN"),
    *("X-SSL-Client-Cert", "X-SSL-Client-S-DN", "X-Forwarded-Tls-Client-Cert"),
    # https://oauth2-proxy.github.io/oauth2-proxy/configuration/overview#header-options
    *("X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username"),
    *("X-Forwarded-Groups", "X-Forwarded-Access-Token", "X-Auth-Request-User"),
    *("X-Auth-Request-Email", "X-Auth-Request-Preferred-Username", "X-Auth-Request-Groups"),
    "X-Auth-Request-Access-Token",
    # https://developers.cloudflare.com/cloudflare-one/identity/authorization-cookie/
    *("Cf-Access-Jwt-Assertion", "Cf-Access-Authenticated-User-Email"),
    *("Cf-Access-Client-Id", "Cf-Access-Client-Secret", "Cf-Access-Token"),
    # https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-authenticate-users.html
    *("X-Amzn-Oidc-Accesstoken", "X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Data"),
    # https://cloud.google.com/iap/docs/identity-howto
    *("X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id"),
    "X-Goog-Iap-Jwt-Assertion",
    # https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities
    *("X-MS-Client-Principal", "X-MS-Client-Principal-Id", "X-MS-Client-Principal-Name"),
    *("X-MS-Client-Principal-Idp", "X-MS-Token-AAD-Id-Token", "X-MS-Token-AAD-Access-Token"),
    # https://tailscale.com/kb/1312/serve#identity-headers
    *("Tailscale-User-Login", "Tailscale-User-Name", "Tailscale-User-Profile-Pic"),
    # https://www.authelia.com/integration/trusted-header-sso/introduction/; authentik; Pomerium
    *("Remote-User", "Remote-Email", "Remote-Name", "Remote-Groups"),
    *("X-Authentik-Username", "X-Authentik-Email", "X-Authentik-Jwt"),
    "X-Pomerium-Jwt-Assertion",
)


def environ_key(header: str) -> str:
    """Return the key of a header in a WSGI environ (PEP 3333)."""
    key = header.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


#: A hook may read these for a log or a limit, as long as the page takes nothing that hooks left.
FREE = {"REMOTE_ADDR"} | {
    environ_key(header)
    for header in (
        *("User-Agent", "Accept-Encoding", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP"),
        *("X-Request-ID", "X-Correlation-ID", "Traceparent", "Tracestate", "Baggage"),
        *("Sentry-Trace", "X-Amzn-Trace-Id", "X-Cloud-Trace-Context", "X-B3-TraceId"),
        *("X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags"),
    )
}
# Code that reads more than it uses. Flask-Login (0.6) makes this identifier for every visitor, and
# looks at it only if the session holds something, which is a read of its own.
_FREE_CODE = {("flask_login.utils", "_create_identifier")}


def note(request: Any, name: str) -> None:
    """Note that `name` was read, unless to format a log record or by code that does not use it."""
    if name in request.reads:
        return
    frame: Any = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] == "logging" or (module, frame.f_code.co_name) in _FREE_CODE:
            return
        frame = frame.f_back
    request.reads.add(name)


class Environ(tuple[dict[str, Any], Any]):
    """A WSGI environ as `Headers` needs it, and the request, which notes what is read from it."""

    def __getitem__(self, key: Any) -> Any:
        """Return one header."""
        environ, request = self
        note(request, key)
        return environ[key]

    def items(self) -> Any:
        """Return all headers, and more."""
        environ, request = self
        note(request, "*")
        return environ.items()


class Headers(EnvironHeaders):
    """The headers of a watched request."""

    def getlist(self, key: str, type: Any = None) -> Any:
        """Return the header as a list, without a look at the others."""
        value = self.get(key, type=type)
        return [] if value is None else [value]

    get_all = getlist  # type: ignore[assignment]


class Cookies(ImmutableMultiDict[str, str]):
    """The cookies of a watched request; each of them is noted by name, or all at once."""

    request: Any = None


def _noting(method: str, by_name: bool) -> Any:
    def reading(self: Cookies, *args: Any, **kwargs: Any) -> Any:
        note(self.request, f"cookie {args[0]}" if by_name else "HTTP_COOKIE")
        return getattr(super(Cookies, self), method)(*args, **kwargs)

    return reading


for _method in ("__getitem__", "__contains__", "get", "getlist"):
    setattr(Cookies, _method, _noting(_method, by_name=True))
for _method in (
    *("__iter__", "__len__", "__eq__", "__or__", "__repr__", "__reduce_ex__", "__copy__"),
    *("keys", "values", "items", "lists", "listvalues", "to_dict", "copy", "deepcopy"),
):
    setattr(Cookies, _method, _noting(_method, by_name=False))


def hide(request: Any) -> None:
    """Hide what hooks left in `g` and on the request, until it is read or `show` is called."""
    here: Any = g._get_current_object()
    attributes = vars(request)
    left = {name: attributes[name] for name in attributes.keys() - _fresh(request.__class__)}
    for name in left:
        del attributes[name]
    request.hidden = left, vars(here).copy(), here.__class__
    vars(here).clear()
    here.__class__ = _hiding(here.__class__)


def show(request: Any) -> None:
    """Give back what is hidden; what was set meanwhile stays."""
    if request.hidden:
        left, values, kind = request.hidden
        request.hidden = None
        g._get_current_object().__class__ = kind
        vars(request).update({**left, **vars(request)})
        vars(g).update({**values, **vars(g)})


@functools.cache
def _hiding(base: Any) -> Any:
    """Return the class of a `g` that shows its hidden values when one of them is read."""

    def showing(method: str) -> Any:
        def reading(self: Any, *args: Any) -> Any:
            proxy: Any = request
            asked = proxy._get_current_object()
            if not args or args[0] in asked.hidden[1]:
                note(asked, "g")
                show(asked)
            return getattr(base, method)(self, *args)

        return reading

    methods = ("__getattr__", "__delattr__", "__contains__", "__iter__", "get", "pop", "setdefault")
    return type(base.__name__, (base,), {method: showing(method) for method in methods})


@functools.cache
def _fresh(request_class: Any) -> set[str]:
    """Return the names of the attributes that a request has before any hook runs."""
    routed = {"view_args", "url_rule", "routing_exception", "json_module"}
    return {*vars(request_class(create_environ())), *routed, "hidden", "pages_being_made"}
