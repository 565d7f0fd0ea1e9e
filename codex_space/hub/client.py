"""The Hub as this program sees it: the only user of huggingface_hub, with our errors and no retries of its own.

Retrying is the uploader's job, with its state on disk; a client that sleeps for minutes inside one call could neither
be stopped nor shown. So the client's built-in waiting is cut short: a busy answer is raised at once.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from codex_space.core.errors import HubAuthError, HubError, HubNotFoundError
from codex_space.hub.refusals import BUSY_STATUSES, TOKEN_CURE, busy, hub_errors, server_message

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi

RepoType = Literal["model", "dataset"]
CONNECT_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 120.0  # the Hub itself gives up a commit after 60 s


@dataclass(frozen=True)
class Account:
    """Whom a token belongs to and what it may do; `can_write` is a hint, `check_writable` the proof."""

    name: str
    orgs: tuple[str, ...]
    role: str
    can_write: bool


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model without downloading it."""

    id: str
    sha: str
    private: bool
    gated: bool
    size_bytes: int
    num_parameters: int | None
    library: str
    downloads: int
    has_safetensors: bool


@dataclass(frozen=True)
class ModelHit:
    """One line of a search."""

    id: str
    downloads: int
    likes: int
    gated: bool


@dataclass(frozen=True)
class RemoteFile:
    """A file of a revision; `sha256` is known for large files, `git_sha1` (of the content) for small ones."""

    path: str
    size: int
    sha256: str | None
    git_sha1: str


class Hub:
    """One account on one Hub."""

    def __init__(self, token: str | None, endpoint: str | None = None) -> None:
        """Remember the account; nothing is imported or asked yet."""
        self._token = token
        self._endpoint = endpoint

    @functools.cached_property
    def _api(self) -> "HfApi":
        return _library().HfApi(endpoint=self._endpoint, token=self._token or False)

    @property
    def endpoint(self) -> str:
        """The address asked."""
        return self._api.endpoint

    def whoami(self) -> Account:
        """Return the account of the token.

        Raises:
            HubAuthError: No token, or a revoked one.
            HubBusyError: No answer.
        """
        if not self._token:
            raise HubAuthError("there is no Hub token", where="HF_TOKEN", cure=TOKEN_CURE)
        with hub_errors("Hub account"):
            answer = self._api.whoami()
        token = answer.get("auth", {}).get("accessToken", {})
        role = str(token.get("role", "oauth"))
        orgs = tuple(str(org["name"]) for org in answer.get("orgs", []))
        return Account(name=str(answer["name"]), orgs=orgs, role=role, can_write=_can_write(role, token))

    def check_writable(self, repo_id: str, private: bool, repo_type: RepoType = "model") -> None:
        """Make the repository when missing, and prove that this token may write to it.

        Raises:
            HubAuthError: No token, a read token, or one without rights on this repository.
            HubBusyError: No answer.
        """
        account = self.whoami()
        if not account.can_write:
            what = f"the token of {account.name!r} has the role {account.role!r} and cannot write"
            raise HubAuthError(what, where=repo_id, cure=TOKEN_CURE)
        self.make_repo(repo_id, private=private, repo_type=repo_type)
        # create_repo(exist_ok) is content when the repository exists and is only readable
        with hub_errors(repo_id):
            self._api.auth_check(repo_id, repo_type=repo_type, write=True)

    def make_repo(self, repo_id: str, *, private: bool, repo_type: RepoType = "model") -> None:
        """Make a repository; one that is there stays as it is.

        Raises:
            HubError: As the Hub refuses.
        """
        with hub_errors(repo_id):
            self._api.create_repo(repo_id, private=private, repo_type=repo_type, exist_ok=True)

    def model_info(self, repo_id: str, revision: str | None = None) -> ModelInfo:
        """Return facts about a model this token may download.

        Raises:
            HubNotFoundError: Unknown model or revision, or hidden from this token.
            HubGatedError: Its terms are not accepted yet.
        """
        with hub_errors(repo_id):
            info = self._api.model_info(repo_id, revision=revision)
            if info.gated:
                self._api.auth_check(repo_id)
        files = self.tree(repo_id, info.sha or "main")
        return ModelInfo(
            id=info.id,
            sha=info.sha or "",
            private=bool(info.private),
            gated=bool(info.gated),
            size_bytes=sum(file.size for file in files.values()),
            num_parameters=info.safetensors.total if info.safetensors else None,
            library=info.library_name or "",
            downloads=info.downloads or 0,
            has_safetensors=any(path.endswith(".safetensors") for path in files),
        )

    def search_models(self, text: str, limit: int = 20) -> list[ModelHit]:
        """Return the most downloaded text-generation models whose name holds `text`.

        Raises:
            HubBusyError: No answer.
        """
        with hub_errors("Hub search"):
            found = self._api.list_models(search=text, pipeline_tag="text-generation", sort="downloads", limit=limit)
            return [ModelHit(hit.id, hit.downloads or 0, hit.likes or 0, bool(hit.gated)) for hit in found]

    def is_private(self, repo_id: str, repo_type: RepoType) -> bool:
        """Return whether only its owners can see the repository.

        Raises:
            HubNotFoundError: It is not there.
        """
        with hub_errors(repo_id):
            return bool(self._api.repo_info(repo_id, repo_type=repo_type).private)

    def head(self, repo_id: str, repo_type: RepoType = "model", revision: str | None = None) -> str:
        """Return the commit a revision stands for.

        Raises:
            HubNotFoundError: It is not there.
        """
        with hub_errors(repo_id):
            return str(self._api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha)

    def tree(self, repo_id: str, revision: str, repo_type: RepoType = "model") -> dict[str, RemoteFile]:
        """Return all files of a revision by path.

        Raises:
            HubNotFoundError: It is not there.
        """
        with hub_errors(repo_id):
            rows = list(self._api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=repo_type))
        files = [row for row in rows if hasattr(row, "blob_id")]
        return {
            row.path: RemoteFile(row.path, row.size, row.lfs.sha256 if row.lfs else None, row.blob_id)
            for row in files
        }  # fmt: skip

    def tags(self, repo_id: str, repo_type: RepoType = "model") -> dict[str, str]:
        """Return the tags, each with its commit.

        Raises:
            HubNotFoundError: The repository is not there.
        """
        with hub_errors(repo_id):
            refs = self._api.list_repo_refs(repo_id, repo_type=repo_type)
        return {tag.name: tag.target_commit for tag in refs.tags}

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, Path | bytes],
        *,
        message: str,
        parent: str,
        deleted: Iterable[str] = (),
        branch: str = "main",
        repo_type: RepoType = "model",
    ) -> str:
        """Add and delete files in one commit on top of `parent` and return its id.

        Raises:
            HubBusyError: Also when another commit came first.
            HubAuthError: The token may not write.
        """
        library = _library()
        operations = [library.CommitOperationDelete(path_in_repo=path) for path in deleted]
        operations += [
            library.CommitOperationAdd(path_in_repo=path, path_or_fileobj=source) for path, source in files.items()
        ]
        with hub_errors(repo_id):
            done = self._api.create_commit(
                repo_id,
                operations=operations,
                commit_message=message,
                parent_commit=parent,
                revision=branch,
                repo_type=repo_type,
                num_threads=2,
            )
        return str(done.oid)

    def set_tag(self, repo_id: str, tag: str, commit: str, repo_type: RepoType = "model") -> None:
        """Point a tag at a commit, moving it where it exists.

        Raises:
            HubError: As the Hub refuses.
        """
        old = self.tags(repo_id, repo_type).get(tag)
        if old == commit:
            return
        with hub_errors(repo_id):
            if old is not None:
                self._api.delete_tag(repo_id, tag=tag, repo_type=repo_type)
            self._api.create_tag(repo_id, tag=tag, revision=commit, repo_type=repo_type)

    def make_branch(self, repo_id: str, branch: str, commit: str) -> None:
        """Make a branch at a commit, anew where it exists.

        Raises:
            HubError: As the Hub refuses.
        """
        self.delete_branch(repo_id, branch)
        with hub_errors(repo_id):
            self._api.create_branch(repo_id, branch=branch, revision=commit)

    def delete_branch(self, repo_id: str, branch: str) -> None:
        """Delete a branch if it is there; its tagged commits stay.

        Raises:
            HubError: As the Hub refuses.
        """
        with hub_errors(repo_id):
            names = {row.name for row in self._api.list_repo_refs(repo_id).branches}
            if branch in names:
                self._api.delete_branch(repo_id, branch=branch)

    def download(
        self, repo_id: str, path: str, revision: str, into: Path, repo_type: RepoType = "model"
    ) -> Path:  # fmt: skip
        """Download one file below `into`, keeping its path in the repository, and return it.

        Raises:
            HubNotFoundError: It is not there.
            HubGatedError: The repository's terms are not accepted yet.
        """
        with hub_errors(repo_id):
            found = self._api.hf_hub_download(
                repo_id, path, revision=revision, repo_type=repo_type, local_dir=into, etag_timeout=CONNECT_TIMEOUT_S
            )
        return Path(found)

    def read_text(
        self, repo_id: str, path: str, revision: str, into: Path, repo_type: RepoType = "model"
    ) -> str:  # fmt: skip
        """Return the text of a small file, by way of the folder `into`.

        Raises:
            HubNotFoundError: It is not there.
            HubError: It is over 20 MB or not UTF-8.
        """
        file = self.tree(repo_id, revision, repo_type).get(path)
        if file is None:
            raise HubNotFoundError(f"the file {path} is missing there", where=repo_id)
        if file.size > 20_000_000:
            raise HubError(f"the file {path} is too large to be what it should be", where=repo_id)
        try:
            return self.download(repo_id, path, revision, into, repo_type).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise HubError(f"the file {path} is not UTF-8 text", where=repo_id) from error


def _can_write(role: str, token: Mapping[str, object]) -> bool:
    if role != "fineGrained":
        return role != "read"
    rights = token.get("fineGrained")
    return not isinstance(rights, Mapping) or "repo.write" in str(rights)


@functools.cache
def _library() -> ModuleType:
    import huggingface_hub  # noqa: PLC0415  # 0.5 s, and only where the Hub is asked

    huggingface_hub.utils.disable_progress_bars()
    huggingface_hub.set_client_factory(_new_session)
    return huggingface_hub


def _new_session() -> "httpx2.Client":
    """Return the client's own kind of session, with time limits (it has none) and without its waiting."""
    import httpx2  # noqa: PLC0415  # slow import
    from huggingface_hub.utils._http import hf_request_event_hook  # noqa: PLC0415  # huggingface_hub 2.4: not exported

    return httpx2.Client(
        event_hooks={"request": [hf_request_event_hook], "response": [_raise_when_busy]},
        follow_redirects=True,
        timeout=httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
    )


def _raise_when_busy(response: "httpx2.Response") -> None:
    if response.status_code in BUSY_STATUSES:
        response.read()
        where = str(response.request.url.path)
        raise busy(response.status_code, server_message(response), where, response.headers.get("Retry-After"))
