"""What other programs need beside a GGUF file: Ollama's Modelfile, template, params and system, and lines to copy."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

NUM_CTX = 8192
_NO_SYSTEM = (
    'Left out: the system prompt (in the file "system"), as a Modelfile cannot hold a line that ends with three quotes.'
)


@dataclass(frozen=True)
class Turns:
    """A chat template taken apart into the texts around each message; `tail` asks for the next answer.

    Attributes:
        first: Stands before a conversation that has no system message.
    """

    first: str
    system: str
    after_system: str
    user: str
    assistant: str
    after_assistant: str
    tail: str

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return what `go_template` renders a conversation to."""
        parts = [] if messages and messages[0]["role"] == "system" else [self.first]
        around = {
            "system": (self.system, self.after_system),
            "user": (self.user, ""),
            "assistant": (self.assistant, self.after_assistant),
        }
        for message in messages:
            before, after = around[message["role"]]
            parts += [before, message["content"], after]
        return "".join([*parts, self.tail])

    def without_begin(self, token: str) -> "Turns":
        """Return it without a token that stands at the very beginning: of a model that begins each text with it Ollama adds it."""
        return replace(self, first=self.first.removeprefix(token), system=self.system.removeprefix(token))


@dataclass(frozen=True)
class Companions:
    """What the files beside a GGUF say.

    Attributes:
        template: Ollama's template, empty where the model's own cannot be written as one.
    """

    template: str
    stops: tuple[str, ...]
    num_ctx: int
    system: str

    def files(self, gguf: str) -> dict[str, str]:
        """Return name to text; `gguf` is the file that Modelfile takes."""
        found = {
            "Modelfile": self.modelfile(gguf),
            "params": json.dumps({"stop": list(self.stops), "num_ctx": self.num_ctx}, indent=1),
        }
        if self.template:
            found["template"] = self.template
        if self.system:
            found["system"] = self.system
        return found

    def modelfile(self, gguf: str) -> str:
        """Return what `ollama create NAME -f Modelfile` reads: a quoted text ends where a line does, and knows no escapes."""
        lines = [f"FROM ./{gguf}"]
        if self.template:
            lines.append(f'TEMPLATE """{self.template}"""')
        lines += [f'PARAMETER stop "{stop}"' for stop in self.stops if stop.isprintable()]
        lines.append(f"PARAMETER num_ctx {self.num_ctx}")
        if _ends_early(self.system):
            lines.append(f"# {_NO_SYSTEM}")
        elif self.system:
            lines.append(f'SYSTEM """{self.system}"""')
        return "\n".join(lines) + "\n"


def go_template(turns: Turns) -> str:
    """Return a template in Go's language as Ollama takes it, empty where a text in it would be read as Go or not at all."""
    if any("{{" in text or text.endswith("{") or '"""' in text or not _is_kept(text) for text in vars(turns).values()):
        return ""
    first = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{turns.first}{{{{ end }}}}' if turns.first else ""
    return (
        f"{first}{{{{ range .Messages }}}}"
        f'{{{{ if eq .Role "system" }}}}{turns.system}{{{{ .Content }}}}{turns.after_system}'
        f'{{{{ else if eq .Role "user" }}}}{turns.user}{{{{ .Content }}}}'
        f'{{{{ else if eq .Role "assistant" }}}}{turns.assistant}{{{{ .Content }}}}{turns.after_assistant}'
        f"{{{{ end }}}}{{{{ end }}}}{turns.tail}"
    )


def _is_kept(text: str) -> bool:
    """Whether Ollama keeps each character of a text in a Modelfile: of those that do not print it keeps line ends and tabs."""
    return re.sub(r"[\n\r\t]", "", text).isprintable()


def _ends_early(system: str) -> bool:
    """Whether Ollama would take a line of a system prompt for its end, and what follows for commands."""
    return any(line.rstrip().endswith('"""') for line in re.split(r"[\r\n]", system)[:-1])


def use_lines(name: str, gguf: str, repo_id: str = "") -> list[tuple[str, str]]:
    """Return (program, lines that work as pasted) for a file in the folder one stands in, or in a Hub repository."""
    kind = gguf.removesuffix(".gguf").rpartition("-")[2]
    model = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "model"
    local = f"hf.co/{repo_id}:{kind}" if repo_id else model
    server = f"llama-server -m {gguf} --port 8012"
    remote = f"llama-server -hf {repo_id}:{kind} --port 8012"
    found = [
        ("Ollama", f"ollama run {local}" if repo_id else f"ollama create {model} -f Modelfile\nollama run {model}"),
        ("LM Studio", f"lms get https://huggingface.co/{repo_id}" if repo_id else f"lms import {gguf}"),
        ("llama.cpp", f"llama-cli -hf {repo_id}:{kind} -cnv" if repo_id else f"llama-cli -m {gguf} -cnv"),
        ("llama.vscode", f"{remote if repo_id else server}\n# VS Code settings: \"llama-vscode.endpoint\": \"http://127.0.0.1:8012\""),
        ("Continue", f"models:\n  - name: {name}\n    provider: ollama\n    model: {local}\n    roles: [chat, edit, autocomplete]"),
        ("vLLM", f"vllm serve {repo_id}:{kind}" if repo_id else f"vllm serve ./{gguf}"),
    ]  # fmt: skip
    option = f'"{repo_id or "."}", gguf_file="{gguf}"'
    found.append(
        (
            "transformers",
            "# pip install gguf\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"model = AutoModelForCausalLM.from_pretrained({option})\ntokenizer = AutoTokenizer.from_pretrained({option})",
        )
    )
    return found


def registry_entry(name: str, model: str) -> str:
    """Return the JSON by which host programs list a model that writes code."""
    entry = {"name": name, "model_name_or_path": model, "type": "code-generation"}
    return json.dumps(entry, indent=1) + "\n"
