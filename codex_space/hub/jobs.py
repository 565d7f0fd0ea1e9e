"""Hugging Face Jobs: start, find, watch, cancel one, and read its log, with our errors."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codex_space.core.errors import HubBusyError, HubNotFoundError
from codex_space.hub.client import Hub, hourly
from codex_space.hub.refusals import hub_errors

RUN_LABEL, ATTEMPT_LABEL = "codex-space-run", "codex-space-attempt"
STOP, SAVE = "stop", "save"
"""What a Job can be asked for: to save and end, or to save and go on."""


@dataclass(frozen=True)
class JobRequest:
    """What a Job is started with.

    Attributes:
        image: `hf.co/spaces/OWNER/NAME` for the image of a Space, or any Docker image.
        secrets: Encrypted by the Hub; nothing secret goes anywhere else.
        labels: By which it is found again.
    """

    image: str
    command: list[str]
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    labels: Mapping[str, str]
    flavor: str
    timeout_s: float
    namespace: str


@dataclass(frozen=True)
class JobState:
    """A Job as the Hub tells of it; `running_s` are the seconds that are paid for, None where it does not say."""

    job_id: str
    namespace: str
    url: str
    stage: str
    message: str
    running_s: float | None


class JobsHub(Hub):
    """A Hub account that rents machines."""

    def run_job(self, request: JobRequest) -> JobState:
        """Start a Job.

        Raises:
            HubError: Refused: no credit, no right to spend the namespace's, an unknown flavor or image.
            HubBusyError: Worth another try.
        """
        with hub_errors(f"Jobs of {request.namespace}"):
            made = self._api.run_job(
                image=request.image,
                command=request.command,
                env=dict(request.environment),
                secrets=dict(request.secrets),
                labels=dict(request.labels),
                flavor=request.flavor,
                timeout=request.timeout_s,
                namespace=request.namespace,
            )
        return _state(made)

    def find_job(self, namespace: str, labels: Mapping[str, str]) -> JobState | None:
        """Return the newest Job with these labels, None where there is none.

        Raises:
            HubError: As the Hub refuses.
        """
        with hub_errors(f"Jobs of {namespace}"):
            found = list(self._api.list_jobs(namespace=namespace, labels=dict(labels)))
        mine = [job for job in found if all((job.labels or {}).get(key) == value for key, value in labels.items())]
        return _state(mine[0]) if mine else None

    def inspect_job(self, job_id: str, namespace: str) -> JobState:
        """Return what has become of a Job.

        Raises:
            HubNotFoundError: There is no such Job.
            HubBusyError: No answer.
        """
        with hub_errors(f"Job {job_id}"):
            return _state(self._api.inspect_job(job_id=job_id, namespace=namespace))

    def cancel_job(self, job_id: str, namespace: str) -> None:
        """End a Job.

        Raises:
            HubBusyError: No answer.
        """
        with hub_errors(f"Job {job_id}"):
            self._api.cancel_job(job_id=job_id, namespace=namespace)

    def follow_job(self, job_id: str, namespace: str) -> Iterator[str]:
        """Yield the lines of its log from the first on, until the Job is over.

        Raises:
            HubError: The stream broke off, or is not one.
        """
        with hub_errors(f"log of Job {job_id}"):
            try:
                for line in self._api.fetch_job_logs(job_id=job_id, namespace=namespace, follow=True):
                    yield str(line)
            except (
                AttributeError,
                KeyError,
                TypeError,
                UnicodeError,
                ValueError,
            ) as error:  # the client trusts the server's JSON
                raise HubBusyError("the stream is damaged", where=f"log of Job {job_id}") from error

    def job_prices(self) -> dict[str, float]:
        """Return US dollars an hour of each flavor that Jobs run on.

        Raises:
            HubBusyError: No answer.
        """
        with hub_errors("Hub hardware"):
            return hourly(self._api.list_jobs_hardware())

    def delete_tag(self, repo_id: str, tag: str) -> None:
        """Remove a tag of a dataset; one that is not there is fine.

        Raises:
            HubBusyError: No answer.
        """
        try:
            with hub_errors(repo_id):
                self._api.delete_tag(repo_id, tag=tag, repo_type="dataset")
        except HubNotFoundError:
            return


def asking_tag(run_id: str, attempt: int, what: str) -> str:
    """Return the tag beside a run's rows by which its Job is asked for something.

    Nothing reaches into a Job, so it looks for the tag. The rows lie in a private dataset: a stranger does not see it,
    and a tag is made by those alone who may write there.
    """
    return f"{run_id}-{attempt}-{what}"


def _state(job: Any) -> JobState:  # noqa: ANN401  # huggingface_hub's JobInfo, imported where used
    stage = getattr(job.status.stage, "value", job.status.stage)
    running = job.durations.running_secs if job.durations else None
    if running is None and job.started_at and job.finished_at:
        running = (job.finished_at - job.started_at).total_seconds()
    running_s = float(running) if isinstance(running, int | float) and math.isfinite(running) else None
    return JobState(job.id, job.owner.name, job.url, str(stage), str(job.status.message or ""), running_s)
