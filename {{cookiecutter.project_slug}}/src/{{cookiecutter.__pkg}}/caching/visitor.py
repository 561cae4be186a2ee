"""Names that tell of a visitor: headers, by their keys in a WSGI environ, and what is in `g`."""

_PRIVATE = """
X-API-Key API-Key ApiKey X-Auth-Token X-Access-Token X-Session-Token X-User-Token  # by custom
Private-Token X-Goog-Api-Key X-RapidAPI-Key X-Amz-Security-Token  # GitLab, Google, RapidAPI, AWS
Ocp-Apim-Subscription-Key X-Functions-Key Proxy-Authorization  # Azure; RFC 9110
X-Remote-User X-User X-User-ID X-Email X-WebAuth-User X-Vouch-User  # nginx by custom; Grafana
Client-Cert X-Forwarded-Client-Cert X-Forwarded-Tls-Client-Cert  # RFC 9440, Envoy, Traefik
SSL-Client-Cert SSL-Client-Subject-DN X-SSL-Client-Cert X-SSL-Client-S-DN  # ingress-nginx, HAProxy
X-Forwarded-User X-Forwarded-Email X-Forwarded-Preferred-Username X-Forwarded-Groups
X-Forwarded-Access-Token X-Auth-Request-User X-Auth-Request-Email X-Auth-Request-Groups
X-Auth-Request-Preferred-Username X-Auth-Request-Access-Token  # oauth2-proxy, header options
Cf-Access-Jwt-Assertion Cf-Access-Authenticated-User-Email Cf-Access-Token
Cf-Access-Client-Id Cf-Access-Client-Secret  # Cloudflare Access, authorization cookie
X-Amzn-Oidc-Accesstoken X-Amzn-Oidc-Identity X-Amzn-Oidc-Data  # AWS ALB, user claims
X-Goog-Authenticated-User-Email X-Goog-Authenticated-User-ID X-Goog-IAP-JWT-Assertion  # Google IAP
X-MS-Client-Principal X-MS-Client-Principal-ID X-MS-Client-Principal-Name X-MS-Client-Principal-IDP
X-MS-Token-AAD-ID-Token X-MS-Token-AAD-Access-Token  # Azure App Service, user identities
Tailscale-User-Login Tailscale-User-Name Tailscale-User-Profile-Pic  # Tailscale, serve
Remote-User Remote-Email Remote-Name Remote-Groups  # Authelia, trusted header SSO
X-Authentik-Username X-Authentik-Email X-Authentik-JWT X-Pomerium-JWT-Assertion  # and Pomerium
"""
#: Headers that say who the visitor is. Requests with one of them go past the cache.
PRIVATE_HEADERS = tuple(" ".join(line.partition("#")[0] for line in _PRIVATE.splitlines()).split())
#: Names in `g` that say who the visitor is, or the language: of Flask's tutorial and patterns,
#: Flask-Login, Flask-WTF, Flask-HTTPAuth, Flask-JWT-Extended, Flask-Principal and Flask-Babel.
USER_NAMES = (
    *("user", "user_id", "current_user", "_login_user", "csrf_token", "csrf_valid"),
    *("flask_httpauth_user", "_jwt_extended_jwt", "_jwt_extended_jwt_user", "identity"),
    *("lang_code", "_flask_babel"),
)


def environ_key(header: str) -> str:
    """Return the key of a header in a WSGI environ (PEP 3333)."""
    key = header.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


_FREE = """User-Agent Accept-Encoding X-Forwarded-For X-Forwarded-Proto X-Real-IP X-Request-ID
X-Correlation-ID Traceparent Tracestate Baggage Sentry-Trace X-Amzn-Trace-Id X-Cloud-Trace-Context
X-B3-TraceId X-B3-SpanId X-B3-ParentSpanId X-B3-Sampled X-B3-Flags"""
#: A hook may read these for a log or a limit, as long as the page takes nothing that hooks left.
FREE = {"REMOTE_ADDR", *map(environ_key, _FREE.split())}
#: What says who the visitor is, beside the private headers.
PERSONAL = {"session", "HTTP_COOKIE", "HTTP_AUTHORIZATION", "REMOTE_USER"}
