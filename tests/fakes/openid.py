"""A local OpenID provider over real HTTP, as huggingface.co is one: the person who sits at the browser is `state.person`."""

import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT = ("the-client", "the-client-secret-of-this-space")
SCOPES = "openid profile read-memberships"


@dataclass
class ProviderState:
    """Who signs in next, and what was given out.

    Attributes:
        users: The test Hub's accounts by token; a sign-in adds a token there.
        expires_in_s: Life of the access tokens given out.
    """

    users: dict
    person: dict | None = None
    expires_in_s: int = 28800
    codes: dict = field(default_factory=dict)
    given: list = field(default_factory=list)


class Provider:
    """The five endpoints that authlib asks."""

    def __init__(self, state: ProviderState) -> None:
        self.state, self.issuer = state, ""
        self._key = RSAKey.generate_key(2048, parameters={"kid": "one"})
        table = {
            "/.well-known/openid-configuration": self.configuration,
            "/oauth/authorize": self.authorize,
            "/oauth/jwks": self.jwks,
            "/oauth/userinfo": self.userinfo,
        }
        routes = [Route(path, view) for path, view in table.items()]
        self.app = Starlette(routes=[*routes, Route("/oauth/token", self.token, methods=["POST"])])

    async def configuration(self, _: Request) -> Response:
        where = {
            name: f"{self.issuer}/oauth/{path}"
            for name, path in [
                ("authorization_endpoint", "authorize"),
                ("token_endpoint", "token"),
                ("userinfo_endpoint", "userinfo"),
                ("jwks_uri", "jwks"),
            ]
        }
        return JSONResponse({"issuer": self.issuer, **where, "id_token_signing_alg_values_supported": ["RS256"]})

    async def jwks(self, _: Request) -> Response:
        return JSONResponse({"keys": [self._key.as_dict(private=False)]})

    async def authorize(self, request: Request) -> Response:
        asked = request.query_params
        assert asked["client_id"] == CLIENT[0]
        if self.state.person is None:
            refused = urlencode({"error": "access_denied", "state": asked["state"]})
            return RedirectResponse(f"{asked['redirect_uri']}&{refused}", 302)
        code = secrets.token_hex(8)
        self.state.codes[code] = (self.state.person, asked.get("nonce"))
        join = "&" if "?" in asked["redirect_uri"] else "?"
        return RedirectResponse(asked["redirect_uri"] + join + urlencode({"code": code, "state": asked["state"]}), 302)

    async def token(self, request: Request) -> Response:
        form = await request.form()
        found = self.state.codes.pop(form.get("code"), None)
        if found is None or not request.headers.get("authorization", "").startswith("Basic "):
            return JSONResponse({"error": "invalid_grant"}, 400)
        person, nonce = found
        access = f"hf_oauth_{secrets.token_urlsafe(24)}"
        self.state.users[access] = {"role": "oauth", "orgs": [], **person}
        self.state.given.append(access)
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT[0], "iat": now, "exp": now + 600, "nonce": nonce}
        claims |= {"sub": person["name"], "preferred_username": person["name"], "name": person["name"].title()}
        claims |= {"profile": "", "picture": ""}
        id_token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self._key)
        life = {"expires_in": self.state.expires_in_s}
        return JSONResponse(
            {"access_token": access, "token_type": "bearer", **life, "scope": SCOPES, "id_token": id_token}
        )

    async def userinfo(self, _: Request) -> Response:
        return JSONResponse({})
