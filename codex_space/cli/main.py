"""The commands and their options; the module that answers is imported only when its command runs."""

import argparse
import importlib
import sys
from pathlib import Path

from codex_space import __version__
from codex_space.core import scrub
from codex_space.core.errors import CodexError

_RUN_VERBS = {
    "show": "state, checkpoints and recipe of a run",
    "stop": "save a checkpoint and end",
    "cancel": "end at once",
    "save": "save a checkpoint and go on",
    "resume": "go on from the newest checkpoint",
    "delete": "remove a run and its files",
}
_FILE_VERBS = {
    "inspect": "say what a file is and what is wrong with it",
    "import": "check a file and keep it as a dataset",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0 fine, 1 our error on one line of standard error, 2 usage."""
    args = _parser().parse_args(argv)
    module_name, function_name = args.handler.split(":")
    try:
        module = importlib.import_module(f"codex_space.cli.{module_name}")
        return getattr(module, function_name)(args)
    except CodexError as error:
        print(f"codex-space: {scrub.clean(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has had enough
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codex-space", description="Train a code language model; every checkpoint on the Hub.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"codex-space {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = _command(commands, "serve", "page:serve", "open the page")
    serve.add_argument("--port", type=int, help="default: 7860")
    serve.add_argument("--host", help="default: 127.0.0.1; any other wants CODEX_SPACE_PASSWORD")
    for name, handler, text in (
        ("train", "training:train", "train a recipe in the foreground"),
        ("check", "training:check", "check a recipe, its data and its tokens without training"),
        ("show-command", "training:show_command", "print the command line a recipe stands for"),
    ):
        command = _command(commands, name, handler, text)
        command.add_argument(
            "recipe", help="a YAML file, a shipped recipe such as sft/tiny-cpu, or - for standard input"
        )
        command.add_argument("overrides", nargs="*", metavar="key=value", help="such as train.learning_rate=1e-4")
        if name == "check":
            command.add_argument(
                "--row", metavar="N", help="show a row's tokens: its number from 0, or first, longest, random"
            )
        if name == "show-command":
            command.add_argument(
                "--as",
                dest="form",
                default="codex-space",
                choices=("codex-space", "trl", "python", "skypilot", "slurm"),
                help="trl writes YAML for the trl command, python a script, both with rows and model beside them; skypilot and "
                "slurm write what a cluster of yours trains it with",
            )
            command.add_argument(
                "--out", type=Path, default=Path("portable"), help="folder for these; default: portable"
            )
        _add_json(command)
    estimated = _command(
        commands, "estimate", "estimate:estimate", "say what a recipe needs: memory, hours, dollars, disk"
    )
    estimated.add_argument("recipe", help="as for train")
    estimated.add_argument("overrides", nargs="*", metavar="key=value", help="such as train.max_length=4096")
    estimated.add_argument("--hardware", default="this", help="such as l4x1 or a100-large; default: this machine")
    estimated.add_argument(
        "--probe", action="store_true", help="of pretraining: try 20 steps on this machine and measure the time"
    )
    estimated.add_argument("--refresh-prices", action="store_true", help="ask the Hub what its machines cost now")
    _add_json(estimated)
    imported = _command(
        commands, "import", "training:import_config", "turn a flat TRL/HF config or codex.json into a recipe"
    )
    imported.add_argument("file", type=Path)
    imported.add_argument("--kind", help="sft, dpo, kto, orpo or reward, where the file does not say")
    chat = _command(commands, "chat", "chat:chat", "chat with a model")
    chat.add_argument("run", metavar="RUN_OR_MODEL", help="run id or name, RUN@step-N, gguf:RUN/FILE, Hub id or folder")
    chat.add_argument("--prompt", help="ask once and leave")
    chat.add_argument("--max-new-tokens", type=int, default=256)
    chat.add_argument("--temperature", type=float, default=0.7, help="0 for the likeliest answer")
    graded = _command(commands, "grade", "grade:grade", "grade samples of a code benchmark in the sandbox")
    graded.add_argument("samples", type=Path, help="JSON lines: task_id with solution or completion")
    graded.add_argument("--benchmark", required=True, help="humaneval, humaneval+, mbpp or mbpp+")
    graded.add_argument(
        "--problems", type=Path, metavar="FILE", help="the benchmark's own file, such as HumanEvalPlus.jsonl.gz"
    )
    graded.add_argument("--workers", type=_at_least_1, help="programs run at a time; default: the cores there are")
    _add_json(graded)
    audited = _command(commands, "audit", "audit:show", "print who did what in this workspace")
    audited.add_argument("--lines", type=_at_least_1, default=50, help="how many, the newest; default: 50")
    _add_json(audited)
    for add in (
        _add_evaluate,
        _add_new_models,
        _add_export,
        _add_runs,
        _add_data,
        _add_jobs,
        _add_space,
        _add_workspace,
    ):
        add(commands)
    return parser


def _add_workspace(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verbs = _group(commands, "workspace", "back up, restore, rebuild, measure, clean a workspace")
    saved = _command(verbs, "backup", "workspace:backup", "write one archive of the workspace, while it is used or not")
    saved.add_argument("file", type=Path, metavar="FILE.tar.zst", help="or FILE.tar.gz")
    _add_json(saved)
    restored = _command(verbs, "restore", "workspace:restore", "unpack an archive into an empty --workspace")
    restored.add_argument("file", type=Path)
    _add_json(restored)
    rebuilt = _command(verbs, "rebuild", "workspace:rebuild", "set the database aside, make it again from run folders")
    _add_json(rebuilt)
    measured = _command(verbs, "disk", "workspace:disk", "what each part takes, what is free, what may go")
    measured.add_argument("--hub", action="store_true", help="also ask the Hub what our repositories hold")
    _add_json(measured)
    cleaned = _command(verbs, "clean", "workspace:clean", "delete what can be had again; the Hub is asked first")
    cleaned.add_argument(
        "kinds",
        nargs="*",
        metavar="KIND",
        help="checkpoints, newest, scratch, caches, models; default: all but newest (the last checkpoint of ended runs) and models",
    )
    cleaned.add_argument("--dry-run", action="store_true", help="ask the Hub, say what would go, delete nothing")
    _add_json(cleaned)


def _at_least_1(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _add_new_models(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verbs = _group(commands, "tokenizer", "train tokenizers")
    trained = _command(verbs, "train", "training:train", "learn a tokenizer from text")
    trained.add_argument("recipe", nargs="?", default="tokenizer/stdlib", help="default: tokenizer/stdlib")
    trained.add_argument("overrides", nargs="*", metavar="key=value", help="such as method=sentencepiece_bpe")
    _add_json(trained)
    verbs = _group(commands, "model", "describe architectures of new models")
    described = _command(verbs, "describe", "model:describe", "parameters, config and memory of an architecture")
    described.add_argument("architecture", help="such as 700m, or a YAML file")
    described.add_argument("--vocab-size", type=_at_least_1, help="where the architecture leaves it to the tokenizer")
    _add_json(described)


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    asked = _command(commands, "evaluate", "evaluate:evaluate", "ask a model a benchmark and grade its answers")
    asked.add_argument("model", metavar="RUN_OR_MODEL", nargs="?", help="run id or name, RUN@step-N, Hub id or folder")
    asked.add_argument("--endpoint", metavar="URL", help="ask an OpenAI-compatible server instead: http://HOST/v1")
    asked.add_argument("--model", metavar="NAME", dest="served", help="the model's name on that server")
    asked.add_argument(
        "--key-variable", metavar="NAME", default="OPENAI_API_KEY", help="environment variable that holds its key"
    )
    asked.add_argument("--concurrency", type=_at_least_1, default=4, help="requests to it at a time")
    asked.add_argument(
        "--benchmark",
        default="first-steps",
        help="first-steps, humaneval, humaneval+, mbpp, mbpp+; of --data: perplexity, answers",
    )
    asked.add_argument(
        "--data", action="append", default=[], metavar="REF", help="rows to measure: file, Hub id, dataset:NAME"
    )
    asked.add_argument(
        "--metric", action="append", default=[], metavar="NAME", help="how answers are compared: bleu, rouge-l, ..."
    )
    asked.add_argument("--problems", help="a problems file on this machine instead of the benchmark's own")
    asked.add_argument("--mode", default="auto", choices=("auto", "chat", "completion"))
    forms = "auto, completion, completion-stripped, chat, chat-no-prefill, request, request-begun"
    asked.add_argument("--prompt-form", default="auto", metavar="FORM", help=forms)
    asked.add_argument("--limit", type=int, help="at most this many problems, spread over the benchmark")
    asked.add_argument("--num-samples", type=int, default=1, help="answers to each problem")
    asked.add_argument("--temperature", type=float, default=0.0, help="0 for the likeliest answer")
    asked.add_argument("--max-new-tokens", type=int, default=512)
    _add_json(asked)


def _add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    exported = _command(commands, "export", "export:export", "make GGUF files, each proven against the model")
    exported.add_argument("model", metavar="RUN_OR_MODEL", help="run id or name, RUN@step-N, Hub id or folder")
    exported.add_argument("--gguf", default="Q8_0,Q4_K_M", metavar="TYPES", help="such as F16,Q8_0,Q4_K_M")
    exported.add_argument("--name", default="", help="beginning of the files' names; default: the run's")
    exported.add_argument("--system", default="", help="system prompt for Ollama")
    exported.add_argument("--adapter", action="store_true", help="also the LoRA adapter as a file of its own")
    exported.add_argument("--push", default="", metavar="OWNER/NAME", help="repository the files go to, made private")
    exported.add_argument("--imatrix", action="store_true", help="quantise by an importance matrix")
    _add_json(exported)


def _add_runs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verbs = _group(commands, "runs", "list, show, stop, resume, ... runs")
    listed = _command(verbs, "list", "runs:list_all", "list runs, newest first")
    listed.add_argument("--limit", type=int, default=20)
    _add_json(listed)
    for name, text in _RUN_VERBS.items():
        verb = _command(verbs, name, f"runs:{name}", text)
        verb.add_argument("run", help="id or name")
        _add_json(verb)
    logs = _command(verbs, "logs", "runs:logs", "the end of a run's log")
    logs.add_argument("run", help="id or name")
    logs.add_argument("--lines", type=int, default=100)
    logs.add_argument("--search", default="")
    renamed = _command(verbs, "rename", "runs:rename", "give a run another name")
    renamed.add_argument("run", help="id or name")
    renamed.add_argument("name")
    compared = _command(verbs, "compare", "runs:compare", "recipe keys in which runs differ, and how each ended")
    compared.add_argument("runs", nargs="+", metavar="RUN")
    _add_json(compared)
    brought = _command(verbs, "take-up", "runs:take_up", "train the run whose folder was brought into the workspace")
    brought.add_argument("run", help="its id")
    brought.add_argument("--ready", action="store_true", help="only make its folder ready for a worker started by hand")
    _add_json(brought)
    interrupted = _command(
        verbs, "interrupted", "runs:interrupted", "runs that lost their machine, here and in the Hub"
    )
    interrupted.add_argument("--resume-all", action="store_true", help="go on with all that can, and follow them")
    _add_json(interrupted)
    back = _command(verbs, "fetch", "runs:fetch", "bring a checkpoint that is on the Hub only back to this machine")
    back.add_argument("run", help="id or name")
    back.add_argument("step", type=_at_least_1)
    _add_json(back)
    fetched = _command(verbs, "resume-from-hub", "runs:resume_from_hub", "go on with a run whose machine is gone")
    fetched.add_argument("repo_id")
    _add_json(fetched)


def _add_data(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verbs = _group(commands, "data", "list, inspect, import, delete datasets")
    _add_json(_command(verbs, "list", "data:list_all", "list datasets"))
    for name, text in _FILE_VERBS.items():
        verb = _command(verbs, name, f"data:{name}_file", text)
        verb.add_argument("file", type=Path)
        verb.add_argument("--name", help="name of the dataset; default: the file's")
        verb.add_argument(
            "--column", action="append", default=[], metavar="OURS=THEIRS", help="such as prompt=question"
        )
        _add_json(verb)
    deleted = _command(verbs, "delete", "data:delete", "remove a dataset")
    deleted.add_argument("name")


def _add_jobs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verbs = _group(commands, "jobs", "train on machines of Hugging Face")
    submitted = _command(verbs, "submit", "jobs:submit", "queue a recipe, or its sweep, as Jobs and leave")
    submitted.add_argument("recipe", help="as for train")
    submitted.add_argument("overrides", nargs="*", metavar="key=value", help="such as launch.flavor=a100-large")
    _add_json(submitted)
    logs = _command(verbs, "logs", "jobs:logs", "the end of a Job's log")
    logs.add_argument("run", help="id or name")
    logs.add_argument("--lines", type=int, default=100)
    logs.add_argument("--follow", action="store_true", help="once it is over")
    cancelled = _command(verbs, "cancel", "jobs:cancel", "end a Job at once")
    cancelled.add_argument("run", help="id or name")
    _add_json(cancelled)
    _add_json(_command(verbs, "list", "jobs:list_all", "list Jobs, newest first, with their cost"))
    inside = _command(commands, "job", "jobs:job", "train a run of the Hub here, as a Job does")
    inside.add_argument("repo_id", help="repository its checkpoints go to")
    inside.add_argument("run", help="its id")
    inside.add_argument("--attempt", type=_at_least_1, default=1, help="which start of the run this is")


def _add_space(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verbs = _group(commands, "space", "duplicate a Space, and its machine, sleep and pause")
    copied = _command(verbs, "duplicate", "space:duplicate", "make a private copy of a Space")
    copied.add_argument("to", metavar="ORG/NAME", help="name of the copy")
    copied.add_argument("--from", dest="source", default="", metavar="OWNER/NAME", help="default: this Space")
    copied.add_argument("--hardware", default="", metavar="FLAVOUR", help="such as l4x1; default: the Hub's, cpu-basic")
    copied.add_argument("--sleep-time", type=int, metavar="S", help="seconds without a request; -1 for never")
    copied.add_argument(
        "--secret", action="append", default=[], metavar="NAME", help="asked for; NAME=@VARIABLE takes that variable's"
    )
    copied.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="everybody may read it")
    _add_json(copied)
    left = _command(
        verbs, "leave", "leaving:leave", "move to other hardware, or pause, once runs are saved and uploads done"
    )
    left.add_argument("to", metavar="FLAVOR|pause", help="such as l4x1, cpu-basic, or pause")
    left.add_argument("--yes", action="store_true", help="go on though something lies on this disk only")
    _command(verbs, "stay", "leaving:stay", "take that back")
    updated = _command(verbs, "update", "updates:update", "take over what is new in the Space this one was copied from")
    updated.add_argument("--space", default="", metavar="OWNER/NAME", help="the copy; default: this Space")
    updated.add_argument("--from", dest="source", default="", metavar="OWNER/NAME", help="default: what its card says")
    updated.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    updated.add_argument("--own", choices=("keep", "overwrite"), default="", help="files changed on both sides")
    updated.add_argument("--drain", action="store_true", help="save and stop what runs here first; nothing new begins")
    updated.add_argument("--yes", action="store_true", help="do not ask")
    _add_json(updated)
    awake = _command(verbs, "awake", "leaving:awake", "lift the sleep time while runs train, and set it back after")
    awake.add_argument("state", choices=("on", "off"))
    _add_json(_command(verbs, "money", "leaving:money", "what is spent by month, and the cap"))
    switched = _command(verbs, "hardware", "space:hardware", "run it on another machine; it restarts")
    switched.add_argument("flavor", metavar="FLAVOUR", help="such as l4x1 or cpu-basic")
    slept = _command(verbs, "sleep", "space:sleep", "after how many seconds without a request it sleeps")
    slept.add_argument("seconds", type=int, help="-1 for never")
    named = {
        "status": "what it runs on",
        "pause": "stop it and its price until it is restarted",
        "restart": "start it again",
    }
    plain = [_command(verbs, name, f"space:{name}", text) for name, text in named.items()]
    for verb in (switched, slept, *plain):
        verb.add_argument("--space", default="", metavar="OWNER/NAME", help="default: this Space")
        _add_json(verb)


def _group(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    group = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    return group.add_subparsers(required=True, metavar="VERB")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, handler: str, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    parser.add_argument("--workspace", type=Path, help="default: CODEX_SPACE_HOME, else ./workspace")
    parser.set_defaults(handler=handler)
    return parser


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
