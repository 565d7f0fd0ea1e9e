"""The Hub as this program sees it: the one class through which all others ask it, with our errors."""

import functools
import itertools
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from codex_space.core.errors import HubAuthError, HubError, HubNotFoundError
from codex_space.hub.records import Account, Change, ModelHit, ModelInfo, RemoteFile, RepoType
from codex_space.hub.refusals import TOKEN_CURE, hub_errors
from codex_space.hub.session import CONNECT_TIMEOUT_S, load_library

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobHardwareInfo

_SMALL_FILE_BYTES = 20_000_000
_WRITERS = frozenset({"admin", "write"})


class Hub:
    """One account on one Hub."""

    def __init__(self, token: str | None, endpoint: str | None = None) -> None:
        """Remember the account; nothing is imported or asked yet."""
        self._token = token
        self._endpoint = endpoint

    @functools.cached_property
    def _api(self) -> "HfApi":
        return load_library().HfApi(endpoint=self._endpoint, token=self._token or False)

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
        auth = answer.get("auth", {})
        token = auth.get("accessToken", {}) if auth.get("type") != "oauth" else {}
        role = str(token.get("role", "oauth"))
        orgs = tuple(str(org["name"]) for org in answer.get("orgs", []))
        writes_in = tuple(str(org["name"]) for org in answer.get("orgs", []) if org.get("roleInOrg") in _WRITERS)
        name, can_write = str(answer["name"]), _can_write(role, token)
        return Account(name, orgs, role, can_write, writes_in, bool(answer.get("isPro")))

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
        try:
            self._prove_write(repo_id, repo_type)
        except HubNotFoundError:
            self.make_repo(repo_id, private=private, repo_type=repo_type)
            self._prove_write(repo_id, repo_type)

    def _prove_write(self, repo_id: str, repo_type: RepoType) -> None:
        # not by create_repo(exist_ok): it is content with a repository that one may only read
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
        return ModelInfo(sha=info.sha or "", private=bool(info.private), gated=bool(info.gated))

    def search_models(self, text: str, limit: int = 20) -> list[ModelHit]:
        """Return the most downloaded text-generation models whose name holds `text`.

        Raises:
            HubBusyError: No answer.
        """
        with hub_errors("Hub search"):
            found = self._api.list_models(search=text, pipeline_tag="text-generation", sort="downloads", limit=limit)
            return [ModelHit(hit.id, hit.downloads or 0, hit.likes or 0, bool(hit.gated)) for hit in found]

    def prices(self) -> dict[str, float]:
        """Return US dollars an hour of each flavour of hardware that Spaces and Jobs run on.

        Raises:
            HubBusyError: No answer.
        """
        with hub_errors("Hub hardware"):
            return hourly([*self._api.list_jobs_hardware(), *self._api.list_spaces_hardware()])

    def is_private(self, repo_id: str, repo_type: RepoType) -> bool:
        """Return whether only its owners can see the repository.

        Raises:
            HubNotFoundError: It is not there.
        """
        with hub_errors(repo_id):
            return bool(self._api.repo_info(repo_id, repo_type=repo_type).private)

    def check_readable(self, repo_id: str, revision: str, repo_type: RepoType = "model") -> None:
        """Pass a revision that this token may download.

        Raises:
            HubNotFoundError: It is not there, or hidden from this token.
            HubGatedError: Its terms are not accepted.
        """
        with hub_errors(repo_id):
            self._api.auth_check(repo_id, repo_type=repo_type)
            self._api.repo_info(repo_id, repo_type=repo_type, revision=revision)

    def storage_bytes(self, repo_id: str, repo_type: RepoType = "model") -> int:
        """Return what a repository holds, all its revisions together, as the Hub counts it.

        Raises:
            HubNotFoundError: It is not there.
        """
        with hub_errors(repo_id):
            info = self._api.repo_info(repo_id, repo_type=repo_type, expand="usedStorage")
        return int(getattr(info, "used_storage", None) or 0)

    def head(self, repo_id: str, repo_type: RepoType = "model", revision: str | None = None) -> str:
        """Return the commit a revision stands for.

        Raises:
            HubNotFoundError: It is not there.
        """
        with hub_errors(repo_id):
            return str(self._api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha)

    def tree(
        self, repo_id: str, revision: str, repo_type: RepoType = "model", *, max_files: int | None = None
    ) -> dict[str, RemoteFile]:
        """Return all files of a revision by path.

        Raises:
            HubNotFoundError: It is not there.
            HubError: There are more than `max_files` files and folders.
        """
        from huggingface_hub import RepoFile  # noqa: PLC0415  # slow import

        with hub_errors(repo_id):
            listed = self._api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=repo_type)
            rows = list(itertools.islice(listed, None if max_files is None else max_files + 1))
        if max_files is not None and len(rows) > max_files:
            raise HubError(f"there are more than {max_files:,} files", where=repo_id, cure="Use git for it instead.")
        files = [row for row in rows if isinstance(row, RepoFile)]
        return {
            row.path: RemoteFile(row.path, row.size, row.lfs.sha256 if row.lfs else None, row.blob_id) for row in files
        }

    def tags(self, repo_id: str, repo_type: RepoType = "model") -> dict[str, str]:
        """Return the tags, each with its commit.

        Raises:
            HubNotFoundError: The repository is not there.
        """
        with hub_errors(repo_id):
            refs = self._api.list_repo_refs(repo_id, repo_type=repo_type)
        return {tag.name: tag.target_commit for tag in refs.tags}

    def commit(self, repo_id: str, change: Change, repo_type: RepoType = "model") -> str:
        """Make one commit and return its id.

        Raises:
            HubBusyError: Also when another commit came first.
            HubAuthError: The token may not write.
        """
        library = load_library()
        operations = [library.CommitOperationDelete(path_in_repo=path) for path in change.deleted]
        for path, source in change.files.items():
            operations.append(library.CommitOperationAdd(path_in_repo=path, path_or_fileobj=source))
        with hub_errors(repo_id):
            done = self._api.create_commit(
                repo_id,
                operations=operations,
                commit_message=change.message,
                parent_commit=change.parent,
                revision=change.branch,
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

    def make_branch(self, repo_id: str, branch: str, commit: str, repo_type: RepoType = "model") -> None:
        """Make a branch at a commit, anew where it exists.

        Raises:
            HubError: As the Hub refuses.
        """
        self.delete_branch(repo_id, branch, repo_type)
        with hub_errors(repo_id):
            self._api.create_branch(repo_id, branch=branch, revision=commit, repo_type=repo_type)

    def delete_branch(self, repo_id: str, branch: str, repo_type: RepoType = "model") -> None:
        """Delete a branch if it is there; its tagged commits stay.

        Raises:
            HubError: As the Hub refuses.
        """
        with hub_errors(repo_id):
            names = {row.name for row in self._api.list_repo_refs(repo_id, repo_type=repo_type).branches}
            if branch in names:
                self._api.delete_branch(repo_id, branch=branch, repo_type=repo_type)

    def open_discussion(self, repo_id: str, title: str, text: str) -> None:
        """Open a discussion in a model's repository, of which its watchers are told.

        Raises:
            HubError: As the Hub refuses.
        """
        with hub_errors(repo_id):
            self._api.create_discussion(repo_id, title=title, description=text)

    def download(self, repo_id: str, path: str, revision: str, into: Path, repo_type: RepoType = "model") -> Path:
        """Download one file below `into`, keeping its path in the repository, and return it.

        Raises:
            HubNotFoundError: It is not there.
            HubGatedError: The repository's terms are not accepted yet.
            HubError: The path leads out of `into`.
        """
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
            raise HubError(f"the file name {path!r} is not a plain path", where=repo_id, cure="It is not downloaded.")
        with hub_errors(repo_id):
            found = self._api.hf_hub_download(
                repo_id, path, revision=revision, repo_type=repo_type, local_dir=into, etag_timeout=CONNECT_TIMEOUT_S
            )
        return Path(found)

    def read_text(self, repo_id: str, path: str, revision: str, repo_type: RepoType = "model") -> str:
        """Return the text of a small file.

        Raises:
            HubNotFoundError: It is not there.
            HubError: It is over 20 MB or not UTF-8.
        """
        file = self.tree(repo_id, revision, repo_type).get(path)
        if file is None:
            raise HubNotFoundError(f"the file {path} is missing there", where=repo_id)
        if file.size > _SMALL_FILE_BYTES:
            raise HubError(f"the file {path} is too large to be what it should be", where=repo_id)
        with tempfile.TemporaryDirectory(prefix="codex-space-") as folder:
            data = self.download(repo_id, path, revision, Path(folder), repo_type).read_bytes()
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise HubError(f"the file {path} is not UTF-8 text", where=repo_id) from error


def hourly(machines: Iterable["JobHardwareInfo"]) -> dict[str, float]:
    """Return US dollars an hour by flavour; one whose unit of time is not known, or whose price is none, is left out."""
    hours = {"minute": 60.0, "hour": 1.0, "second": 3600.0}
    found = {
        one.name: round(one.unit_cost_usd * hours[one.unit_label], 4) for one in machines if one.unit_label in hours
    }
    return {name: usd for name, usd in found.items() if math.isfinite(usd) and usd >= 0}


def _can_write(role: str, token: Mapping[str, object]) -> bool:
    if role != "fineGrained":
        return role != "read"
    rights = token.get("fineGrained")
    return not isinstance(rights, Mapping) or "repo.write" in str(rights)
