"""What Ollama reads: the template says the same as the model's, and nothing in it is taken for Go or for a command."""

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


@pytest.mark.parametrize("text", ["{{ .System }}", 'a"""b', "dict{", "joined\u200dtwo", "a\u00a0b", "a\x00b"])
def test_a_text_that_go_or_a_modelfile_would_change_gives_no_template(text):
    assert go_template(Turns(text, *["x"] * 6)) == ""
    assert go_template(Turns(*["x"] * 6, text)) == ""


def test_a_begin_token_that_ollama_adds_itself_is_not_in_its_template():
    turns = Turns("<s>", "<s>[SYS]", "[/SYS]", "<s>U", "A", "</s>", "A").without_begin("<s>")
    assert (turns.first, turns.system, turns.user) == ("", "[SYS]", "<s>U")


@pytest.mark.parametrize("stop", ["<\uff5cend\u2581of\u2581sentence\uff5c>", 'a"b', "a\\n"])
def test_a_stop_text_stands_as_it_is_for_a_modelfile_knows_no_escapes(stop):
    files = Companions("", (stop,), 1, "").files("m.gguf")
    assert f'PARAMETER stop "{stop}"\n' in files["Modelfile"]
    assert json.loads(files["params"])["stop"] == [stop]


def test_no_token_of_a_strange_tokenizer_writes_a_command():
    files = Companions("", ('x"\nFROM /etc/passwd\n#"',), 1, "").files("m.gguf")
    assert files["Modelfile"] == "FROM ./m.gguf\nPARAMETER num_ctx 1\n"


@pytest.mark.parametrize("system", ['Use """docs"""\nalways', 'x"""  \nPARAMETER temperature 2', '"""\r\ny'])
def test_a_system_prompt_that_a_modelfile_cannot_hold_stays_in_its_own_file(system):
    files = Companions("", ("x",), 1, system).files("m.gguf")
    assert files["system"] == system
    assert files["Modelfile"].splitlines()[-1].startswith("# Left out: the system prompt")
    assert "temperature" not in files["Modelfile"]


@pytest.mark.parametrize("system", ['Use """docs""" always\nand "quotes"\n', 'ends with """', "{{ .System }}\n\tx"])
def test_any_other_system_prompt_stands_in_the_modelfile(system):
    assert f'SYSTEM """{system}"""\n' in Companions("", ("x",), 1, system).files("m.gguf")["Modelfile"]


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
    assert "model: hf.co/ada/my:Q8_0\n" in there["Continue"]
    assert "model: my\n" in here["Continue"]
    assert dict(use_lines("Mod\u00e8le.", "x-Q8_0.gguf"))["Ollama"].startswith("ollama create mod-le -f")
    assert dict(use_lines("\u6a21\u578b", "x-Q8_0.gguf"))["Ollama"].startswith("ollama create model -f")
    assert here["llama.cpp"] == "llama-cli -m My-Q8_0.gguf -cnv"
    assert json.loads(registry_entry("My", "x.gguf")) == {
        "name": "My",
        "model_name_or_path": "x.gguf",
        "type": "code-generation",
    }
