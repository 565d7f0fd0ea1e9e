"""What a worker is started with: nothing secret in its environment, nothing of an earlier attempt in its folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from codex_space.core import durable
from codex_space.core.errors import RecipeError, TrainingError
from codex_space.core.paths import JobDir, share_dir
from codex_space.core.recipe import parse_recipe
from codex_space.jobs.launch import SHARDED, launch, launch_facts, worker_command, worker_environ
from codex_space.jobs.process import ASK_KILL, ASK_TERM
from codex_space.jobs.shim import NICER
from tests.jobs.conftest import DEADLINE_S, RECIPE

SECRETS = {
    "HF_TOKEN": "hf_write", "HUGGING_FACE_HUB_TOKEN": "hf_write", "OAUTH_CLIENT_SECRET": "s", "OAUTH_CLIENT_ID": "i",
    "CODEX_SPACE_PASSWORD": "p", "AWS_SECRET_ACCESS_KEY": "a", "NVIDIA_API_KEY": "n", "TORCH_AUTH_token": "t",
    "GITHUB_TOKEN": "g", "SPACE_ID": "me/space", "HF_TOKEN_PATH": "/home/me/token", "LD_PRELOAD": "/tmp/x.so",
}  # fmt: skip
PLAIN = {"PATH": "/bin", "HOME": "/home/me", "CUDA_VISIBLE_DEVICES": "1", "HF_HOME": "/hf", "NVIDIA_TF32_OVERRIDE": "0"}


def until(condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_secret_reaches_a_worker():
    environ = worker_environ({**SECRETS, **PLAIN}, num_threads=2, offline=True)
    assert not set(SECRETS.values()) & set(environ.values())
    assert {name: environ[name] for name in PLAIN} == PLAIN


def test_the_stored_token_is_not_found_by_a_worker_that_goes_online():
    environ = worker_environ({**SECRETS, **PLAIN}, num_threads=2, offline=False)
    assert environ["HF_TOKEN_PATH"] == os.devnull
    assert "HF_TOKEN" not in environ
    assert "HF_HUB_OFFLINE" not in environ


def test_a_worker_that_reads_from_the_hub_gets_the_read_token_and_never_the_one_that_writes():
    environ = worker_environ({**SECRETS, **PLAIN, "HF_READ_TOKEN": "hf_read"}, num_threads=2, offline=False)
    assert environ["HF_TOKEN"] == "hf_read"
    assert "hf_write" not in environ.values()
    assert not (set(SECRETS) - {"HF_TOKEN", "HF_TOKEN_PATH"}) & set(environ)


def test_what_cuda_reads_at_its_start_is_set_for_a_deterministic_run_only():
    plain = worker_environ(PLAIN, num_threads=2, offline=True)
    exact = worker_environ(PLAIN, num_threads=2, offline=True, deterministic=True)
    assert exact["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "CUBLAS_WORKSPACE_CONFIG" not in plain


def test_proxies_matter_online_only():
    proxy = {"HTTPS_PROXY": "http://user:pass@proxy", "no_proxy": "localhost"}
    assert proxy.items() <= worker_environ(proxy, num_threads=1, offline=False).items()
    assert not proxy.keys() & worker_environ(proxy, num_threads=1, offline=True).keys()


def test_what_keeps_a_worker_quiet_and_repeatable_is_set():
    environ = worker_environ({"OMP_NUM_THREADS": "64", "OMP_WAIT_POLICY": "ACTIVE"}, num_threads=3, offline=True)
    assert environ["OMP_NUM_THREADS"] == environ["RAYON_NUM_THREADS"] == "3"
    assert environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environ["TOKENIZERS_PARALLELISM"] == "false"
    assert environ["PYTHONUNBUFFERED"] == environ["HF_HUB_OFFLINE"] == environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_the_environment_of_a_real_worker_holds_no_secret(bench):
    ours = {"PATH": os.environ["PATH"]}
    bench.supervisor = bench.new_supervisor(environ={**SECRETS, **ours})
    run = bench.submit("environ")
    assert bench.until_ended(run).state == "succeeded"
    seen = json.loads((bench.job(run).root / "environ.json").read_text())
    assert not set(SECRETS.values()) & set(seen.values())
    assert seen["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("model", "dataset", "offline"),
    [
        ("fresh:tiny", "sample:x", True),
        ("fresh:tiny", "builtin:python-stdlib", True),
        ("fresh:tiny", "/tmp", True),
        ("fresh:tiny", "rows.jsonl", True),
        ("Qwen/Qwen2.5-Coder-0.5B", "sample:x", False),
        ("fresh:tiny", "google/mbpp", False),
    ],
)
def test_a_worker_is_online_only_where_its_recipe_reads_from_the_hub(bench, model, dataset, offline):
    recipe = parse_recipe(RECIPE.format(name="x", model=model), [f"datasets.0.path={dataset}"])
    run = bench.submit("x")
    assert launch_facts(recipe, bench.workspace, bench.job(run), attempt=1)["offline"] is offline


def test_threads_come_from_the_recipe_then_from_the_machine(bench):
    job = bench.job(bench.submit("x"))
    asked = parse_recipe(RECIPE.format(name="x", model="fresh:tiny"), ["launch.num_threads=5"])
    plain = parse_recipe(RECIPE.format(name="x", model="fresh:tiny"))
    assert launch_facts(asked, bench.workspace, job, attempt=1)["num_threads"] == 5
    assert launch_facts(plain, bench.workspace, job, attempt=1, num_cores=3)["num_threads"] == 3
    assert launch_facts(plain, bench.workspace, job, attempt=1)["num_threads"] == len(os.sched_getaffinity(0))


def test_traces_of_an_earlier_attempt_are_gone_before_the_next(bench):
    job = bench.job(bench.submit("x"))
    for path in (job.exit, job.stop_request, job.save_request):
        path.write_text('{"code": 7}')
    handle = launch(job, ["sleep", "60"], {"PATH": os.environ["PATH"]})
    assert not any(path.exists() for path in (job.exit, job.stop_request, job.save_request))
    handle.send(ASK_KILL)
    assert handle.wait(DEADLINE_S)
    handle.close()


def test_files_in_the_job_folder_cannot_stand_in_for_modules(bench):
    job = bench.job(bench.submit("x"))
    (job.root / "json.py").write_text("raise SystemExit(9)")
    environ = worker_environ({"PATH": os.environ["PATH"]}, num_threads=1, offline=True)
    handle = launch(job, [sys.executable, "-m", "json.tool", "--help"], environ)
    assert handle is None or handle.wait(DEADLINE_S)
    assert json.loads(job.exit.read_text()) == {"code": 0}


@pytest.mark.parametrize(
    ("command", "record"),
    [(["true"], {"code": 0}), (["sh", "-c", "exit 5"], {"code": 5}), (["sh", "-c", "kill -11 $$"], {"signal": 11})],
)
def test_exit_json_says_how_the_worker_ended(bench, command, record):
    job = bench.job(bench.submit("x"))
    handle = launch(job, command, {"PATH": os.environ["PATH"]})
    assert handle is None or handle.wait(DEADLINE_S)
    assert json.loads(job.exit.read_text()) == record


def test_the_shim_outlives_what_ends_other_programs_and_its_worker_hears_sigterm(bench):
    run = bench.submit("x")
    job = bench.job(run)
    handle = launch(job, ["sleep", "60"], {"PATH": os.environ["PATH"]})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        handle.send(number)
    assert not handle.wait(0.1)
    assert len(bench.alive(run)) == 2
    handle.send(ASK_TERM)
    assert handle.wait(DEADLINE_S)
    assert json.loads(job.exit.read_text()) == {"signal": 15}
    handle.close()


def test_a_worker_dies_with_its_shim(bench):
    run = bench.submit("x")
    handle = launch(bench.job(run), ["sleep", "60"], {"PATH": os.environ["PATH"]})
    worker = json.loads(bench.job(run).worker.read_text())["worker_pid"]
    handle.send(signal.SIGKILL)
    until(lambda: worker not in bench.alive(run))
    handle.close()


def test_a_shim_that_cannot_say_who_it_is_leaves_no_worker(bench):
    run = bench.submit("x")
    job = bench.job(run)
    (job.root / ".worker.json.tmp").mkdir()
    marked = {"PATH": os.environ["PATH"]}
    with pytest.raises(TrainingError, match="could not be started"):
        launch(job, ["sh", "-c", "echo $$ > pid; sleep 60"], marked)
    marker = f"CODEX_SPACE_JOB={job.root}".encode()
    until(lambda: not [entry for entry in Path("/proc").iterdir() if _carries(entry, marker)])


def test_a_worker_and_all_it_starts_give_way_to_the_page(bench):
    run = bench.submit("x")
    job = bench.job(run)
    handle = launch(
        job,
        ["sh", "-c", f"(nice; cat /proc/self/autogroup) > {job.root}/nice; sleep 0.1"],
        {"PATH": os.environ["PATH"]},
    )
    assert handle.wait(DEADLINE_S)
    handle.close()
    told, *session = (job.root / "nice").read_text().splitlines()
    niceness = os.getpriority(os.PRIO_PROCESS, 0) + NICER
    assert int(told) == niceness
    assert not session or session[0].endswith(f" nice {niceness}")


def test_the_shim_itself_cleans_up_what_fled_into_another_session(bench):
    run = bench.submit("x")
    script = "setsid sleep 60 & setsid sh -c 'sleep 61 & sleep 62' & sleep 0.1; exit 4"
    handle = launch(bench.job(run), ["sh", "-c", script], {"PATH": os.environ["PATH"]})
    assert handle.wait(DEADLINE_S)
    assert json.loads(bench.job(run).exit.read_text()) == {"code": 4}
    assert bench.alive(run) == []
    handle.close()


def _carries(entry, marker):
    try:
        return marker in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def sharing(config, more=""):
    text = "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: 'sample:x'}]\n"
    return parse_recipe(text + f"launch: {{num_processes: 2, config: {config}}}\n{more}")


def test_processes_that_share_a_model_start_under_accelerate_with_its_file(workspace):
    job = JobDir(workspace.root / "job")
    job.root.mkdir()
    facts = launch_facts(sharing("fsdp2"), workspace, job, attempt=1, num_cores=2)
    durable.write_json(job.launch, facts)
    command = worker_command(job)
    assert command[1:3] == ["-m", "accelerate.commands.launch"]
    file = Path(command[command.index("--config_file") + 1])
    written = yaml.safe_load(file.read_text())
    assert (written["distributed_type"], written["fsdp_config"]["fsdp_version"]) == ("FSDP", 2)
    assert written["fsdp_config"]["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    assert command[command.index("--num_processes") + 1] == "2"


@pytest.mark.parametrize("name", SHARDED)
def test_accelerate_knows_every_key_of_our_files(name):
    """It refuses a file with one it does not know, at the start of the run."""
    path = share_dir("configs") / "accelerate" / f"{name}.yaml"
    loader = "import sys; from accelerate.commands.config.config_args import load_config_from_file as load; print(load(sys.argv[1]).distributed_type)"
    done = subprocess.run([sys.executable, "-c", loader, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1].lower().rpartition(".")[2] in {"fsdp", "deepspeed"}


def test_deepspeed_that_is_not_installed_is_one_sentence(workspace, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"DeepSpeed is not installed.*pip install deepspeed"):
        launch_facts(sharing("zero3"), workspace, JobDir(workspace.root / "job"), attempt=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("launch: {config: fsdp2}\n", "num_processes to 2"),
        ("launch: {config: fsdp3, num_processes: 2}\n", "fsdp2"),
        ("launch: {config: fsdp1, num_processes: 2}\n", "for a base in 4 bits"),
        ("launch: {config: fsdp2, num_processes: 2}\nsamples: {}\n", "samples do not go together"),
        ("launch: {config: zero3, num_processes: 2}\nevaluate: {benchmarks: [mbpp]}\n", "evaluate do not go together"),
    ],
)
def test_what_processes_that_share_a_model_cannot_do_is_refused(text, said):
    with pytest.raises(RecipeError, match=said):
        parse_recipe("kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: 'sample:x'}]\n" + text)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["launch.config=fsdp2"], "take fsdp1, which shares those in 4 bits"),
        (["kind=dpo"], "fsdp1 is for sft"),
        (["model.added_tokens=[<new>]"], "trains adapters alone"),
        (["lora.modules_to_save=[lm_head]"], "trains adapters alone"),
        (["model.dtype=float32"], "numbers of 16"),
        (["lora=null"], "needs a lora section"),
    ],
)
def test_a_base_in_4_bits_is_shared_by_fsdp1_and_trains_adapters_alone(changes, said):
    text = "kind: sft\nmodel: {model_name_or_path: fresh:tiny, load_in_4bit: true}\nlora: {}\ndatasets: [{path: 'sample:x'}]\n"
    text += "launch: {num_processes: 2, config: fsdp1}\n"
    assert parse_recipe(text).launch.config == "fsdp1"
    with pytest.raises(RecipeError, match=said):
        parse_recipe(text, changes)
