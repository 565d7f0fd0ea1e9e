"""What other programs need beside a GGUF file: Ollama's Modelfile, template, params and system, and lines to copy."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NUM_CTX = 8192


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
        """Return what `ollama create NAME -f Modelfile` reads."""
        lines = [f"FROM ./{gguf}"]
        if self.template:
            lines.append(f'TEMPLATE """{self.template}"""')
        lines += [f"PARAMETER stop {json.dumps(stop)}" for stop in self.stops]
        lines.append(f"PARAMETER num_ctx {self.num_ctx}")
        if self.system:
            lines.append(f'SYSTEM """{self.system}"""')
        return "\n".join(lines) + "\n"


def go_template(turns: Turns) -> str:
    """Return a template in Go's language as Ollama takes it, empty where a text in it would be read as Go."""
    if any("{{" in text or '"""' in text for text in vars(turns).values()):
        return ""
    first = f'{{{{ if ne (index .Messages 0).Role "system" }}}}{turns.first}{{{{ end }}}}' if turns.first else ""
    return (
        f"{first}{{{{ range .Messages }}}}"
        f'{{{{ if eq .Role "system" }}}}{turns.system}{{{{ .Content }}}}{turns.after_system}'
        f'{{{{ else if eq .Role "user" }}}}{turns.user}{{{{ .Content }}}}'
        f'{{{{ else if eq .Role "assistant" }}}}{turns.assistant}{{{{ .Content }}}}{turns.after_assistant}'
        f"{{{{ end }}}}{{{{ end }}}}{turns.tail}"
    )


def use_lines(name: str, gguf: str, repo_id: str = "") -> list[tuple[str, str]]:
    """Return (program, lines that work as pasted) for a file in the folder one stands in, or in a Hub repository."""
    kind = gguf.removesuffix(".gguf").rpartition("-")[2]
    model = name.lower()
    server = f"llama-server -m {gguf} --port 8012"
    remote = f"llama-server -hf {repo_id}:{kind} --port 8012"
    found = [
        ("Ollama", f"ollama run hf.co/{repo_id}:{kind}" if repo_id else f"ollama create {model} -f Modelfile\nollama run {model}"),
        ("LM Studio", f"lms get https://huggingface.co/{repo_id}" if repo_id else f"lms import {gguf}"),
        ("llama.cpp", f"llama-cli -hf {repo_id}:{kind} -cnv" if repo_id else f"llama-cli -m {gguf} -cnv"),
        ("llama.vscode", f"{remote if repo_id else server}\n# VS Code settings: \"llama-vscode.endpoint\": \"http://127.0.0.1:8012\""),
        ("Continue", f"models:\n  - name: {name}\n    provider: ollama\n    model: {model}\n    roles: [chat, edit, autocomplete]"),
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
