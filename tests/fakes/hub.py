"""A local test Hub over real HTTP: repositories, LFS uploads, users and roles, and faults on demand.

It speaks the endpoints the unmodified huggingface_hub client uses with HF_HUB_DISABLE_XET=1. In a thread through
`hub_fixture.py`, or alone: `python -m tests.fakes.hub --port 8797 --state DIR`.

    POST   /_test   {"fail": [{"path": REGEX, "method", "status", "times", "message", "text", "headers", "delay_s", "how"}]}
                    how: answer (default) | drop (cut mid-request) | lose (do it, then cut the answer) | slow (do it late)
                    {"users": {TOKEN: {"name", "role", "orgs", "writes"}}}
                    {"put": {"kind", "id", "files": {PATH: TEXT}, "private", "gated", "revision"}}
    GET    /_test   {"requests": [{"method", "path", "status", "user"}], "repos": [...]}
    DELETE /_test   forget the faults and the request log
"""

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.fakes.hub_jobs import JobRoutes, JobsHost
from tests.fakes.hub_spaces import SpaceRoutes, rebuild

LFS_ABOVE_BYTES = 100_000
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".parquet", ".npy")
USERS: dict[str, dict[str, Any]] = {
    "hf_write": {"name": "ada", "role": "write", "orgs": ["lab"]},
    "hf_read": {"name": "ada", "role": "read", "orgs": ["lab"]},
    "hf_fine": {"name": "ada", "role": "fineGrained", "orgs": ["lab"], "writes": []},
    "hf_fine_one": {"name": "ada", "role": "fineGrained", "orgs": [], "writes": ["ada/allowed"]},
    "hf_other": {"name": "bob", "role": "write", "orgs": []},
}


class RefusalError(Exception):
    """An HTTP error with the headers the client switches on."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message, **headers, **({"X-Error-Code": code} if code else {})}


@dataclass
class HubState:
    """Repositories as JSON and content as files named by hash; survives a restart when `root` does."""

    root: Path
    users: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(USERS))
    faults: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        (self.root / "blobs").mkdir(parents=True, exist_ok=True)
        saved = self.root / "repos.json"
        self.jobs = JobsHost(self.root)
        self.repos: dict[str, dict[str, Any]] = json.loads(saved.read_text()) if saved.is_file() else {}

    def save(self) -> None:
        temporary = self.root / f"repos.{secrets.token_hex(4)}.tmp"
        temporary.write_text(json.dumps(self.repos))
        temporary.replace(self.root / "repos.json")

    def blob(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256

    def keep(self, content: bytes) -> dict[str, Any]:
        sha256 = hashlib.sha256(content).hexdigest()
        self.blob(sha256).write_bytes(content)
        return {"size": len(content), "blob": sha256, "lfs": False, "oid": git_sha1(content)}

    def make_repo(self, kind: str, repo_id: str, *, private: bool = False, gated: bool = False) -> dict[str, Any]:
        repo = {
            "id": repo_id, "kind": kind, "private": private, "gated": gated, "created": now(),
            "commits": {}, "heads": {}, "tags": {}, "accepted": [],
        }  # fmt: skip
        self.repos[f"{kind}/{repo_id}"] = repo
        self.add_commit(repo, "main", {".gitattributes": self.keep(b"*.safetensors filter=lfs\n")}, "initial commit")
        return repo

    def add_commit(self, repo: dict[str, Any], branch: str, tree: dict[str, Any], title: str) -> str:
        oid = secrets.token_hex(20)
        parent = repo["heads"].get(branch)
        repo["commits"][oid] = {"parent": parent, "tree": tree, "title": title, "date": now()}
        repo["heads"][branch] = oid
        self.save()
        return oid

    def put(
        self,
        kind: str,
        repo_id: str,
        files: dict[str, str | bytes],
        *,
        private: bool = False,
        gated: bool = False,
        revision: str = "main",
    ) -> str:
        """Make or change a repository from the outside; the whole tree of that revision becomes `files`."""
        with self.lock:
            repo = self.repos.get(f"{kind}/{repo_id}") or self.make_repo(kind, repo_id, private=private, gated=gated)
            tree = {path: self.keep(text.encode() if isinstance(text, str) else text) for path, text in files.items()}
            return self.add_commit(repo, revision, tree, "put")

    def files(self, kind: str, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """Return what a revision holds."""
        repo = self.repos[f"{kind}/{repo_id}"]
        tree = repo["commits"][_commit_of(repo, revision)]["tree"]
        return {path: self.blob(entry["blob"]).read_bytes() for path, entry in tree.items()}

    def reset(self) -> None:
        with self.lock:
            self.jobs.close()
            self.repos.clear()
            self.faults.clear()
            self.requests.clear()
            self.users = dict(USERS)
            for blob in (self.root / "blobs").iterdir():
                blob.unlink()


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _commit_of(repo: dict[str, Any], revision: str) -> str:
    found = repo["heads"].get(revision) or repo["tags"].get(revision)
    found = found or next((oid for oid in repo["commits"] if oid == revision), None)
    if not found:
        raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return found


class TestHub:
    """The routes; one instance a server."""

    __test__ = False

    def __init__(self, state: HubState) -> None:
        self.state = state
        self.app = Faulty(Starlette(routes=self._routes(), exception_handlers={RefusalError: _refuse}), state)

    def _routes(self) -> list[Route]:
        repo = "/api/{kind}/{ns}/{name}"
        page = "/{ns}/{name}"
        table: list[tuple[str, str, Any]] = [
            ("POST GET DELETE", "/_test", self.control),
            ("PUT", "/_lfs/{oid}", self.lfs_put),
            ("POST", "/_lfs/verify", self.ok),
            ("GET", "/api/whoami-v2", self.whoami),
            ("POST", "/api/validate-yaml", self.ok_yaml),
            ("POST", "/api/repos/create", self.create),
            ("DELETE", "/api/repos/delete", self.delete),
            ("GET", "/api/{kind}/hardware", self.hardware),
            ("GET", "/api/{kind}", self.search),
            ("GET", repo, self.info),
            ("GET", repo + "/revision/{rev}", self.info),
            ("GET", repo + "/auth-check", self.auth_check),
            ("GET", repo + "/auth-check/write", self.auth_check_write),
            ("GET", repo + "/tree/{rev}", self.tree),
            ("GET", repo + "/tree/{rev}/{path:path}", self.tree),
            ("POST", repo + "/paths-info/{rev}", self.paths_info),
            ("GET", repo + "/refs", self.refs),
            ("GET", repo + "/commits/{rev}", self.commits),
            ("POST", repo + "/preupload/{rev}", self.preupload),
            ("POST", repo + "/commit/{rev}", self.commit),
            ("POST", repo + "/discussions", self.discuss),
            ("GET", repo + "/discussions/{num:int}", self.discussion),
            ("POST DELETE", repo + "/branch/{rev}", self.branch),
            ("POST DELETE", repo + "/tag/{rev}", self.tag),
            ("POST", "/{kind}" + page + ".git/info/lfs/objects/batch", self.lfs_batch),
            ("POST", page + ".git/info/lfs/objects/batch", self.lfs_batch),
            ("GET HEAD", "/{kind}" + page + "/resolve/{rev}/{path:path}", self.resolve),
            ("GET HEAD", page + "/resolve/{rev}/{path:path}", self.resolve),
        ]
        routes = [Route(path, view, methods=methods.split()) for methods, path, view in table]
        hardware = [route for route in routes if route.path.endswith("/hardware")]
        spaces = SpaceRoutes(self, RefusalError).routes()
        return [*hardware, *JobRoutes(self, RefusalError).routes(), *spaces, *routes]

    async def discuss(self, request: Request) -> Response:
        repo, body = self.repo(request, content=True), await request.json()
        kept = repo.setdefault("discussions", [])
        kept.append({"title": body["title"], "description": body["description"]})
        return JSONResponse({"num": len(kept)})

    async def discussion(self, request: Request) -> Response:
        num, path = request.path_params["num"], request.path_params
        one = self.repo(request)["discussions"][num - 1]
        where = {"repo": {"name": f"{path['ns']}/{path['name']}", "type": "model"}, "author": {"name": "ada"}}
        facts = {"num": num, "status": "open", "isPullRequest": False, "createdAt": now(), "events": []}
        return JSONResponse({"title": one["title"], **facts, **where})

    async def hardware(self, request: Request) -> Response:
        """Flavours and what a minute of them costs; Jobs have one that Spaces have not."""
        made = {"l4x1": 0.015} | ({"h200": 0.1} if request.path_params["kind"] == "jobs" else {})
        fields = {"prettyName": "", "cpu": "8 vCPU", "ram": "30 GB", "accelerator": None, "unitLabel": "minute"}
        rows = [{"name": k, "unitCostUSD": v, "unitCostMicroUSD": round(v * 1e6), **fields} for k, v in made.items()]
        return JSONResponse(rows)

    # Who asks, and for what.

    def user(self, request: Request) -> dict[str, Any] | None:
        header = request.headers.get("authorization")
        if not header:
            return None
        user = self.state.users.get(header.removeprefix("Bearer "))
        if user is None:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        return user

    def repo(self, request: Request, *, write: bool = False, content: bool = False) -> dict[str, Any]:
        """Return the repository when this user may do that with it."""
        path, user = request.path_params, self.user(request)
        repo_id = f"{path['ns']}/{unquote(path['name'])}"
        repo = self.state.repos.get(f"{path.get('kind', 'models')}/{repo_id}")
        mine = user is not None and repo is not None and path["ns"] in [user["name"], *user["orgs"]]
        if repo is None or (repo["private"] and not mine):
            raise RefusalError(404 if user else 401, "Repository not found", "RepoNotFound")
        if content and repo["gated"] and not mine and (user is None or user["name"] not in repo["accepted"]):
            raise RefusalError(403, f"Access to model {repo_id} is restricted.", "GatedRepo")
        if write and not (user and mine and self._may_write(user, repo_id)):
            raise RefusalError(403, "You don't have the required permissions to write to this repository")
        return repo

    def _may_write(self, user: dict[str, Any], repo_id: str) -> bool:
        return user["role"] == "write" or (user["role"] == "fineGrained" and repo_id in user.get("writes", []))

    async def whoami(self, request: Request) -> Response:
        user = self.user(request)
        if user is None:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        token: dict[str, Any] = {"displayName": "test", "role": user["role"], "createdAt": now()}
        if user["role"] == "fineGrained":
            scoped = [
                {"entity": {"type": "model", "name": name}, "permissions": ["repo.write"]}
                for name in user.get("writes", [])
            ]
            token["fineGrained"] = {"scoped": scoped, "global": []}
        roles = user.get("roles", {})
        orgs = [
            {"type": "org", "name": org, "roleInOrg": roles.get(org, "write"), "isEnterprise": False}
            for org in user["orgs"]
        ]
        answer = {"type": "user", "name": user["name"], "fullname": user["name"].title(), "orgs": orgs, "isPro": False}
        by_token = {"type": "access_token", "accessToken": token}
        return JSONResponse({**answer, "auth": {"type": "oauth"} if user["role"] == "oauth" else by_token})

    async def auth_check(self, request: Request) -> Response:
        self.repo(request, content=True)
        return JSONResponse({})

    async def auth_check_write(self, request: Request) -> Response:
        self.repo(request, write=True)
        return JSONResponse({})

    # Reading.

    async def info(self, request: Request) -> Response:
        repo = self.repo(request)
        sha = _commit_of(repo, unquote(request.path_params.get("rev", "main")))
        told = _info(repo, sha)
        if "usedStorage" in request.query_params.getlist("expand"):
            blobs = {e["blob"]: e["size"] for commit in repo["commits"].values() for e in commit["tree"].values()}
            told = {"_id": told["_id"], "id": told["id"], "usedStorage": sum(blobs.values())}
        return JSONResponse(told)

    async def search(self, request: Request) -> Response:
        kind, words = request.path_params["kind"], request.query_params.get("search", "").lower()
        if kind not in {"models", "datasets", "spaces"}:  # the client asks for other lists too, and keeps the answers
            raise RefusalError(404, "Not found")
        limit = int(request.query_params.get("limit", "100"))
        hits = [r for r in self.state.repos.values() if r["kind"] == kind and words in r["id"].lower()]
        return JSONResponse([_info(r, r["heads"]["main"]) for r in hits if not r["private"]][:limit])

    async def tree(self, request: Request) -> Response:
        repo = self.repo(request)
        sha = _commit_of(repo, unquote(request.path_params["rev"]))
        base = unquote(request.path_params.get("path", "")).strip("/")
        prefix = base + "/" if base else ""
        deep = request.query_params.get("recursive", "").lower() in {"true", "1"}
        out: list[dict[str, Any]] = []
        seen: set[str] = set()
        for path, entry in sorted(repo["commits"][sha]["tree"].items()):
            if not path.startswith(prefix):
                continue
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts) if deep else min(2, len(parts))):
                folder = prefix + "/".join(parts[:depth])
                if folder not in seen:
                    seen.add(folder)
                    out.append({"type": "directory", "oid": git_sha1(folder.encode()), "size": 0, "path": folder})
            if deep or len(parts) == 1:
                out.append(_entry(path, entry))
        if base and not out:
            raise RefusalError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": sha})
        return JSONResponse(out)

    async def paths_info(self, request: Request) -> Response:
        repo = self.repo(request)
        tree = repo["commits"][_commit_of(repo, unquote(request.path_params["rev"]))]["tree"]
        form = await request.form()
        return JSONResponse([_entry(str(p), tree[str(p)]) for p in form.getlist("paths") if str(p) in tree])

    async def refs(self, request: Request) -> Response:
        repo = self.repo(request)

        def rows(names: dict[str, str], prefix: str) -> list[dict[str, str]]:
            return [{"name": name, "ref": prefix + name, "targetCommit": oid} for name, oid in names.items()]

        heads = {name: oid for name, oid in repo["heads"].items() if not name.startswith("refs/")}
        converts = {name: oid for name, oid in repo["heads"].items() if name.startswith("refs/convert/")}
        answer = {"branches": rows(heads, "refs/heads/"), "tags": rows(repo["tags"], "refs/tags/")}
        return JSONResponse({**answer, "converts": rows(converts, "")})

    async def commits(self, request: Request) -> Response:
        repo = self.repo(request)
        oid: str | None = _commit_of(repo, unquote(request.path_params["rev"]))
        out = []
        while oid:
            row = repo["commits"][oid]
            author = [{"user": repo["id"].split("/")[0]}]
            out.append({"id": oid, "title": row["title"], "message": "", "authors": author, "date": row["date"]})
            oid = row["parent"]
        return JSONResponse(out)

    async def resolve(self, request: Request) -> Response:
        repo = self.repo(request, content=True)
        sha = _commit_of(repo, unquote(request.path_params["rev"]))
        entry = repo["commits"][sha]["tree"].get(unquote(request.path_params["path"]))
        if entry is None:
            raise RefusalError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": sha})
        etag = entry["blob"] if entry["lfs"] else entry["oid"]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"'}
        return FileResponse(self.state.blob(entry["blob"]), headers=headers, media_type="application/octet-stream")

    # Writing.

    async def create(self, request: Request) -> Response:
        user, body = self.user(request), await request.json()
        if user is None:
            raise RefusalError(401, "Invalid credentials in Authorization header")
        repo_id = f"{body.get('organization') or user['name']}/{body['name']}"
        kind = body.get("type", "model") + "s"
        url = {"url": f"{request.base_url}{'' if kind == 'models' else kind + '/'}{repo_id}"}
        if repo_id.split("/")[0] not in [user["name"], *user["orgs"]] or not self._may_write(user, repo_id):
            raise RefusalError(403, f"You don't have the rights to create a {kind[:-1]} under this namespace")
        with self.state.lock:
            if f"{kind}/{repo_id}" in self.state.repos:
                return JSONResponse({"error": "You already created this repo", **url}, 409)
            self.state.make_repo(kind, repo_id, private=body.get("visibility") == "private")
        return JSONResponse(url)

    async def delete(self, request: Request) -> Response:
        user, body = self.user(request), await request.json()
        owner = body.get("organization") or (user or {}).get("name")
        found = self.state.repos.pop(f"{body.get('type', 'model')}s/{owner}/{body['name']}", None)
        if not found:
            raise RefusalError(404, "Repository not found", "RepoNotFound")
        return Response()

    async def preupload(self, request: Request) -> Response:
        repo = self.repo(request, write=True)
        tree = repo["commits"][_commit_of(repo, unquote(request.path_params["rev"]))]["tree"]
        out = []
        for file in (await request.json())["files"]:
            old = tree.get(file["path"])
            lfs = file["size"] > LFS_ABOVE_BYTES or file["path"].endswith(LFS_SUFFIXES)
            oid = (old["blob"] if old["lfs"] else old["oid"]) if old else None
            mode = "lfs" if lfs else "regular"
            out.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return JSONResponse({"files": out})

    async def lfs_batch(self, request: Request) -> Response:
        self.repo(request, write=True)
        objects = []
        for wanted in (await request.json())["objects"]:
            row = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
            if not self.state.blob(wanted["oid"]).is_file():
                upload = {"href": f"{request.base_url}_lfs/{wanted['oid']}", "header": {}}
                row["actions"] = {"upload": upload, "verify": {"href": f"{request.base_url}_lfs/verify"}}
            objects.append(row)
        answer = {"transfer": "basic", "objects": objects}
        return JSONResponse(answer, media_type="application/vnd.git-lfs+json")

    async def lfs_put(self, request: Request) -> Response:
        digest, temporary = hashlib.sha256(), self.state.blob(secrets.token_hex(8) + ".part")
        with temporary.open("wb") as file:
            async for chunk in request.stream():
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != request.path_params["oid"]:
            temporary.unlink()
            raise RefusalError(400, "the content does not match its hash")
        temporary.replace(self.state.blob(digest.hexdigest()))
        return Response(headers={"ETag": '"x"'})

    async def commit(self, request: Request) -> Response:
        repo, branch = self.repo(request, write=True), unquote(request.path_params["rev"])
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        header = lines[0]["value"]
        with self.state.lock:
            head = _commit_of(repo, branch)
            if header.get("parentCommit") and header["parentCommit"] != head:
                raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
            tree = dict(repo["commits"][head]["tree"])
            for line in lines[1:]:
                self._apply(tree, line["key"], line["value"])
            oid = self.state.add_commit(repo, branch, tree, header["summary"])
            rebuild(repo)
        url = f"{request.base_url}{repo['id']}/commit/{oid}"
        return JSONResponse({"success": True, "commitOid": oid, "commitUrl": url, "pullRequestUrl": None})

    def _apply(self, tree: dict[str, Any], key: str, value: dict[str, Any]) -> None:
        path = value["path"]
        if key == "file":
            tree[path] = self.state.keep(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            blob = self.state.blob(value["oid"])
            if not blob.is_file():
                raise RefusalError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{value['oid']}\n"
            oid = git_sha1(pointer.encode())
            tree[path] = {"size": blob.stat().st_size, "blob": value["oid"], "lfs": True, "oid": oid}
        elif key == "deletedFile":
            if tree.pop(path, None) is None:
                raise RefusalError(404, "A file with this name doesn't exist", "EntryNotFound")
        elif key == "deletedFolder":
            for inside in [p for p in tree if p.startswith(path.rstrip("/") + "/")]:
                del tree[inside]

    async def branch(self, request: Request) -> Response:
        repo, name = self.repo(request, write=True), unquote(request.path_params["rev"])
        if request.method == "DELETE":
            if repo["heads"].pop(name, None) is None:
                raise RefusalError(404, "no such branch", "RevisionNotFound")
        elif name in repo["heads"]:
            raise RefusalError(409, f"Reference already exists: {name}")
        else:
            body = await request.json()
            repo["heads"][name] = _commit_of(repo, body.get("startingPoint") or "main")
        self.state.save()
        return JSONResponse({})

    async def tag(self, request: Request) -> Response:
        repo, revision = self.repo(request, write=True), unquote(request.path_params["rev"])
        if request.method == "DELETE":
            if repo["tags"].pop(revision, None) is None:
                raise RefusalError(404, "no such tag", "RevisionNotFound")
        else:
            name = (await request.json())["tag"]
            if name in repo["tags"]:
                raise RefusalError(409, "Tag already exists")
            repo["tags"][name] = _commit_of(repo, revision)
        self.state.save()
        return JSONResponse({})

    async def ok(self, _request: Request) -> Response:
        return Response()

    async def ok_yaml(self, _request: Request) -> Response:
        return JSONResponse({"warnings": [], "errors": []})

    async def control(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.state.faults.clear()
            self.state.requests.clear()
        if request.method == "POST":
            body = await request.json()
            self.state.faults.extend(body.get("fail", []))
            self.state.users.update(body.get("users", {}))
            if "put" in body:
                put = dict(body["put"])
                self.state.put(put.pop("kind", "models"), put.pop("id"), put.pop("files"), **put)
        return JSONResponse({"requests": self.state.requests, "repos": list(self.state.repos)})


class Faulty:
    """Routes on the raw path (a branch `a/b` arrives as a%2Fb), logs each request, and fails when told to."""

    def __init__(self, app: Any, state: HubState) -> None:
        self.app, self.state = app, state

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["path"] = scope["raw_path"].decode().split("?")[0]
        headers = dict(scope["headers"])
        token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        row = {"method": scope["method"], "path": scope["path"], "token": token, "status": None}
        fault = self._fault(scope) if scope["path"] != "/_test" else None
        if scope["path"] != "/_test":
            self.state.requests.append(row)

        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                row["status"] = message["status"]
            await send(message)

        if fault is None:
            await self.app(scope, receive, note)
            return
        await anyio.sleep(fault.get("delay_s", 0))
        match fault.get("how", "answer"):
            case "slow":
                await self.app(scope, receive, note)
            case "drop":
                await receive()
                await _cut(send)
            case "lose":
                await self.app(scope, receive, _swallow)
                await _cut(send)
            case _:
                if "text" in fault:
                    await PlainTextResponse(fault["text"], fault.get("status", 200))(scope, receive, note)
                    return
                message = fault.get("message", "made to fail")
                extra = {"X-Error-Message": message, **fault.get("headers", {})}
                await JSONResponse({"error": message}, fault.get("status", 500), extra)(scope, receive, note)

    def _fault(self, scope: Any) -> dict[str, Any] | None:
        with self.state.lock:
            for fault in self.state.faults:
                wanted = fault.get("method", scope["method"]) == scope["method"]
                if wanted and fault.get("times", 1) != 0 and re.search(fault.get("path", ""), scope["path"]):
                    fault["times"] = fault.get("times", 1) - 1
                    return fault
        return None


async def _swallow(_message: Any) -> None:
    """Take an answer that the client must not see."""


async def _cut(send: Any) -> None:
    """Promise a body and stop: uvicorn then closes the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})


async def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return JSONResponse({"error": error.message}, error.status, error.headers)


def _entry(path: str, entry: dict[str, Any]) -> dict[str, Any]:
    lfs = {"lfs": {"oid": entry["blob"], "size": entry["size"], "pointerSize": 134}} if entry["lfs"] else {}
    return {"type": "file", "oid": entry["oid"], "size": entry["size"], "path": path, **lfs}


def _info(repo: dict[str, Any], sha: str) -> dict[str, Any]:
    commit = repo["commits"][sha]
    siblings = [
        {"rfilename": path, "size": entry["size"], "blobId": entry["oid"]} for path, entry in commit["tree"].items()
    ]
    return {
        "_id": "0" * 24, "id": repo["id"], "modelId": repo["id"], "author": repo["id"].split("/")[0], "sha": sha,
        "lastModified": commit["date"], "createdAt": repo["created"], "private": repo["private"],
        "gated": "manual" if repo["gated"] else False, "disabled": False, "downloads": 7, "likes": 0, "tags": [],
        "pipeline_tag": "text-generation", "library_name": "transformers", "siblings": siblings,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the test Hub.")
    parser.add_argument("--port", type=int, default=8797)
    parser.add_argument("--state", type=Path, required=True)
    arguments = parser.parse_args()
    os.umask(0o077)
    hub = TestHub(HubState(arguments.state))
    uvicorn.run(hub.app, host="127.0.0.1", port=arguments.port, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()
