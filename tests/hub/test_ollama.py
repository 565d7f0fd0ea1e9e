"""What Ollama reads: the template says the same as the model's, and nothing in it is taken for Go."""

import json

import pytest

from codex_space.hub.ollama import Companions, Turns, go_template, registry_entry, use_lines

CHATML = Turns(
    "", "<|s|>system\n", "<|e|>\n", "<|s|>user\n", "<|e|>\n<|s|>assistant\n", "<|e|>\n", "<|e|>\n<|s|>assistant\n"
)


def test_a_conversation_is_the_texts_around_its_messages():
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert CHATML.render(chat) == "<|s|>system\nS<|e|>\n<|s|>user\nU<|e|>\n<|s|>assistant\n"
    assert go_template(CHATML).endswith("{{ end }}{{ end }}<|e|>\n<|s|>assistant\n")


@pytest.mark.parametrize("text", ["{{ .System }}", 'a"""b'])
def test_a_text_that_go_would_read_gives_no_template(text):
    assert go_template(Turns(text, *["x"] * 6)) == ""


def test_the_files_beside_a_gguf():
    files = Companions(go_template(CHATML), ("<|e|>",), 4096, "Be brief.").files("m-Q4_K_M.gguf")
    assert set(files) == {"Modelfile", "params", "template", "system"}
    assert json.loads(files["params"]) == {"stop": ["<|e|>"], "num_ctx": 4096}
    assert files["Modelfile"].startswith('FROM ./m-Q4_K_M.gguf\nTEMPLATE """{{ range .Messages }}')
    assert files["Modelfile"].endswith('PARAMETER stop "<|e|>"\nPARAMETER num_ctx 4096\nSYSTEM """Be brief."""\n')
    assert set(Companions("", ("x",), 1, "").files("m.gguf")) == {"Modelfile", "params"}


def test_lines_to_copy_name_the_file_or_the_repository():
    here, there = dict(use_lines("My", "My-Q8_0.gguf")), dict(use_lines("My", "My-Q8_0.gguf", "ada/my"))
    assert list(here) == ["Ollama", "LM Studio", "llama.cpp", "llama.vscode", "Continue", "vLLM", "transformers"]
    assert there["Ollama"] == "ollama run hf.co/ada/my:Q8_0"
    assert here["llama.cpp"] == "llama-cli -m My-Q8_0.gguf -cnv"
    assert json.loads(registry_entry("My", "x.gguf")) == {
        "name": "My",
        "model_name_or_path": "x.gguf",
        "type": "code-generation",
    }
