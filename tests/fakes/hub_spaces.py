"""The Spaces of the test Hub: a small state machine for each, moved on by every look at its runtime.

    BUILDING -> APP_STARTING -> RUNNING; hardware, secrets, variables and restart lead back to APP_STARTING (the machine
    asked for is there from then on); pause to PAUSED, out of which only a restart leads; a commit to BUILDING.

Knobs are on the user who asks (`state.users[TOKEN]`), so that the Hub's reset forgets them:
    no_plan    namespaces that may have no Space on cpu-basic (402)
    no_credit  namespaces that may have no paid hardware (402)
A namespace that is not the user's is 403, a name that is taken 409.
"""

import copy
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FREE = "cpu-basic"
FLAVORS = frozenset({FREE, "cpu-upgrade", "t4-small", "l4x1", "l4x4", "a10g-small", "a100-large"})
NEXT = {"BUILDING": "APP_STARTING", "APP_STARTING": "RUNNING"}


def new_space(hardware: str = FREE, sleep_time_s: int | None = None) -> dict[str, Any]:
    """Return the state of a Space that was just made."""
    return {
        "stage": "BUILDING", "current": None, "requested": hardware, "sleep": sleep_time_s,
        "secrets": {}, "variables": {}, "restarts": 0,
    }  # fmt: skip


def rebuild(repo: dict[str, Any]) -> None:
    """A commit to a Space builds it anew, which restarts it."""
    if repo["kind"] == "spaces":
        space = repo.setdefault("space", new_space())
        space |= {"stage": "BUILDING", "restarts": space["restarts"] + 1}


class SpaceRoutes:
    """The endpoints, with the rights of the Hub they belong to."""

    def __init__(self, hub: Any, refusal: type[Exception]) -> None:
        self._hub, self._refusal = hub, refusal

    def routes(self) -> list[Route]:
        """Return them in the order they are tried."""
        one = "/api/spaces/{ns}/{name}"
        table = {
            "duplicate": ("POST", self.duplicate),
            "runtime": ("GET", self.runtime),
            "hardware": ("POST", self.hardware),
            "sleeptime": ("POST", self.sleep_time),
            "pause": ("POST", self.pause),
            "restart": ("POST", self.restart),
            "secrets": ("GET POST DELETE", self.secrets),
            "variables": ("GET POST DELETE", self.variables),
        }
        return [Route(f"{one}/{path}", view, methods=methods.split()) for path, (methods, view) in table.items()]

    async def duplicate(self, request: Request) -> Response:
        request.scope["path_params"]["kind"] = "spaces"
        origin, user, body = self._hub.repo(request), self._hub.user(request), await request.json()
        if user is None:
            raise self._refusal(401, "Invalid credentials in Authorization header")
        to_id = body["repository"]
        namespace = to_id.partition("/")[0]
        if namespace not in [user["name"], *user["orgs"]] or user["role"] != "write":
            raise self._refusal(403, f"You don't have the rights to create a space under the namespace {namespace}")
        if user.get("roles", {}).get(namespace, "write") not in {"write", "admin"}:
            raise self._refusal(403, f"Your role in {namespace} does not allow this")
        url = {"url": f"{request.base_url}spaces/{to_id}", "filesCopyPending": bool(user.get("slow_copy"))}
        hardware = body.get("hardware", FREE)
        with self._hub.state.lock:
            if f"spaces/{to_id}" in self._hub.state.repos:
                return JSONResponse({"error": "You already created this space repo", **url}, 409)
            self._pay(user, namespace, hardware)
            made = copy.deepcopy(origin)
            made |= {"id": to_id, "private": body.get("visibility", "public") == "private"}
            made["space"] = new_space(hardware, body.get("sleepTimeSeconds"))
            for kind in ("secrets", "variables"):
                made["space"][kind] = {row["key"]: row["value"] for row in body.get(kind, [])}
            self._hub.state.repos[f"spaces/{to_id}"] = made
            self._hub.state.save()
        return JSONResponse(url)

    async def runtime(self, request: Request) -> Response:
        space = self._space(request)
        answer = _answer(space)
        space["stage"] = NEXT.get(space["stage"], space["stage"])
        if space["stage"] != "BUILDING" and space["stage"] != "PAUSED":
            space["current"] = space["requested"]
        return JSONResponse(answer)

    async def hardware(self, request: Request) -> Response:
        space, body = self._space(request, write=True), await request.json()
        user, namespace = self._hub.user(request), request.path_params["ns"]
        self._pay(user, namespace, body["flavor"])
        space["requested"] = body["flavor"]
        space["sleep"] = body.get("sleepTimeSeconds", space["sleep"])
        return self._restarted(space)

    async def sleep_time(self, request: Request) -> Response:
        space, body = self._space(request, write=True), await request.json()
        if space["requested"] == FREE:
            raise self._refusal(400, "The sleep time of cpu-basic cannot be changed")
        space["sleep"] = body["seconds"]
        return JSONResponse(_answer(space))

    async def pause(self, request: Request) -> Response:
        space = self._space(request, write=True)
        space["stage"] = "PAUSED"
        return JSONResponse(_answer(space))

    async def restart(self, request: Request) -> Response:
        space = self._space(request, write=True)
        self._pay(self._hub.user(request), request.path_params["ns"], space["requested"])
        space["stage"] = "RUNNING"  # leaves a pause
        return self._restarted(space)

    async def secrets(self, request: Request) -> Response:
        await self._change(request, "secrets")
        kept = self._space(request, write=True)["secrets"]
        return JSONResponse({key: {"key": key, "updatedAt": "2026-01-01T00:00:00.000Z"} for key in kept})

    async def variables(self, request: Request) -> Response:
        await self._change(request, "variables")
        kept = self._space(request, write=True)["variables"]
        stamp = {"updatedAt": "2026-01-01T00:00:00.000Z"}
        return JSONResponse({key: {"key": key, "value": value, **stamp} for key, value in kept.items()})

    async def _change(self, request: Request, kind: str) -> None:
        if request.method == "GET":
            return
        space, body = self._space(request, write=True), await request.json()
        if request.method == "DELETE":
            space[kind].pop(body["key"], None)
        else:
            space[kind][body["key"]] = body["value"]
        self._restarted(space)

    def _restarted(self, space: dict[str, Any]) -> Response:
        """Any change of what it runs with restarts it; one that is paused or not built yet has nothing to restart."""
        if space["stage"] not in {"PAUSED", "BUILDING"}:
            space["stage"] = "APP_STARTING"
            space["restarts"] += 1
        return JSONResponse(_answer(space))

    def _pay(self, user: dict[str, Any], namespace: str, hardware: str) -> None:
        if hardware not in FLAVORS:
            raise self._refusal(400, f"Invalid hardware flavor {hardware}")
        if hardware == FREE and namespace in user.get("no_plan", []):
            raise self._refusal(402, "Subscribe to PRO to create a Docker Space")
        if hardware != FREE and namespace in user.get("no_credit", []):
            raise self._refusal(402, "Add a payment method to use paid hardware")

    def _space(self, request: Request, *, write: bool = False) -> dict[str, Any]:
        request.scope["path_params"]["kind"] = "spaces"
        repo = self._hub.repo(request, write=write)
        space: dict[str, Any] = repo.setdefault("space", new_space() | {"stage": "RUNNING", "current": FREE})
        return space


def _answer(space: dict[str, Any]) -> dict[str, Any]:
    hardware = {"current": space["current"], "requested": space["requested"]}
    rest = {"storage": None, "devMode": False, "volumes": None}
    return {"stage": space["stage"], "hardware": hardware, "gcTimeout": space["sleep"], **rest}
