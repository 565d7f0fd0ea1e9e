"""The reader of the Dockerfile, what a COPY takes of a checkout, and how the root is entered; without root and network."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.container import list_processes
from bench.dockerfile import DockerfileError, choose_sources, parse_dockerfile, read_base, read_ignored
from bench.image import Image
from bench.root import Program, Root, RootError, find_python

REPO = Path(__file__).parent.parent
FROM = "FROM python:3.12-slim-bookworm\n"


def read_one(text):
    return parse_dockerfile(FROM + text)[1]


def test_the_repository_s_own_dockerfile_is_understood_to_its_last_line():
    steps = parse_dockerfile((REPO / "Dockerfile").read_text())
    assert [step.name for step in steps][:2] == ["FROM", "RUN"]
    assert read_base(steps[0]).suite == "bookworm"
    assert steps[-2].words == ("tini", "--")
    assert steps[-1].words == ("python", "app.py")
    settings = next(step.settings for step in steps if step.name == "ENV")
    assert settings["PATH"].split(":")[0] == "/home/user/.local/bin"
    assert settings["PYTHONUNBUFFERED"] == "1"  # the last of a block of many lines


def test_continued_lines_are_one_instruction_and_comments_within_drop_out():
    step = read_one("RUN echo one \\\n# why\n\n    && echo two\\  \n  three\n")
    assert step.line == 2
    assert step.text.split() == ["echo", "one", "&&", "echo", "two", "three"]
    assert "why" not in step.text


def test_env_keeps_quotes_spaces_and_equals_signs_of_values():
    step = read_one("ENV A=1 \\\n  B=\"two words\" C='x=y' D=\n")
    assert step.settings == {"A": "1", "B": "two words", "C": "x=y", "D": ""}


def test_copy_says_owner_sources_and_target():
    step = read_one("COPY --chown=user:staff a.txt folder ./there/\n")
    assert (step.owner, step.words) == ("user:staff", ("a.txt", "folder", "./there/"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ADD a b\n", "'ADD'"),
        ("HEALTHCHECK CMD true\n", "'HEALTHCHECK'"),
        ("FROM python:3.12-slim-bookworm AS two\n", "FROM"),
        ("FROM python:3.12-slim-bookworm\n", "second stage"),
        ("FROM\n", "says nothing"),
        ("RUN --mount=type=secret,id=x cat /run/secrets/x\n", "flags"),
        ("RUN <<EOF\necho\nEOF\n", "heredoc"),
        ('RUN ["a", "b"]\n', "list"),
        ("ENV A 1\n", "NAME=VALUE"),
        ("ENV A=$HOME\n", "variable"),
        ("ENV A='1\n", "quotation"),
        ("ENV 1A=2\n", "NAME=VALUE"),
        ("COPY --from=other a b\n", "--from"),
        ("COPY --chown=$USER a b\n", "variable"),
        ("COPY --chown=a;b a b\n", "--chown"),
        ("COPY a\n", "sources and a target"),
        ("COPY a b c\n", "slash"),
        ("USER a b\n", "USER"),
        ("CMD python app.py\n", "shell"),
        ("CMD []\n", "list"),
        ('CMD ["python", 1]\n', "list"),
        ("RUN echo \\\n", "ends within"),
        ("# escape=`\nRUN echo `\n", "escape"),
        ("\x00\x01\n", "not understood"),
    ],
)
def test_what_is_not_understood_is_refused_by_line(text, told):
    with pytest.raises(DockerfileError, match="Line 2") as caught:
        parse_dockerfile(FROM + text)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n\n# nothing\n", "RUN echo\n", "USER user\n" + FROM])
def test_a_file_that_begins_with_something_else_is_refused(text):
    with pytest.raises(DockerfileError, match="FROM"):
        parse_dockerfile(text)


@pytest.mark.parametrize(
    "image", ["python:3.12", "python:latest", "debian:bookworm", "evil/python:3.12-slim-bookworm", "python:3.12-slim"]
)
def test_another_image_cannot_be_stood_in_for(image):
    with pytest.raises(DockerfileError, match="stood in"):
        read_base(parse_dockerfile(f"FROM {image}\n")[0])


def test_ignored_paths_take_what_lies_below_and_a_later_exception_wins():
    is_ignored = read_ignored("# why\n/tests\nworkspace/\n**/__pycache__\n*.log\ndocs/**\n!docs/kept.md\n\n")
    ignored = [
        "tests/a.py",
        "tests/a/b.py",
        "workspace/x",
        "a/b/__pycache__/c.pyc",
        "__pycache__/c",
        "x.log",
        "docs/a/b",
    ]
    assert all(is_ignored(path) for path in ignored)
    assert not any(is_ignored(path) for path in ["a/tests", "tests.py", "a/x.log", "docs/kept.md", "pycache"])


@pytest.mark.parametrize("pattern", ["[a-z]", "a\\b", "!x]"])
def test_a_pattern_that_is_not_understood_is_refused_by_line(pattern):
    with pytest.raises(DockerfileError, match=r"line 2"):
        read_ignored(f"fine\n{pattern}\n")


def test_sources_are_files_folders_and_the_whole_checkout():
    paths = ["a.txt", "dir/b.txt", "dir/sub/c.txt", "director"]
    assert choose_sources(["a.txt"], paths, 1) == [("a.txt", "a.txt")]
    assert choose_sources(["dir/b.txt"], paths, 1) == [("dir/b.txt", "b.txt")]
    assert choose_sources(["dir"], paths, 1) == [("dir/b.txt", "b.txt"), ("dir/sub/c.txt", "sub/c.txt")]
    assert choose_sources(["."], paths, 1) == [(path, path) for path in paths]


@pytest.mark.parametrize("source", ["../secret", "a/../../b", "*.txt", "missing", "di", "$HOME", "/etc/passwd"])
def test_a_source_outside_or_unknown_is_refused(source):
    with pytest.raises(DockerfileError, match="Line 7"):
        choose_sources([source], ["a.txt", "dir/b.txt"], 7)


@pytest.fixture
def image(tmp_path):
    context, root = tmp_path / "context", tmp_path / "root"
    (context / "scripts").mkdir(parents=True)
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(f"root:x:0:0::/:/bin/sh\nuser:x:{os.getuid()}:1::/:/bin/sh\nbroken\n")
    (root / "etc/group").write_text(f"staff:x:{os.getgid()}:\n")
    (context / "a.txt").write_text("a")
    (context / "scripts/run.sh").write_text("#!/bin/sh\n")
    (context / "scripts/run.sh").chmod(0o755)
    made = Image(SimpleNamespace(folder=root), context, ["a.txt", "scripts/run.sh"])
    made.execute(read_one("WORKDIR /app\n"))
    return made


def test_copy_lays_files_where_docker_does_with_owner_and_mode(image):
    for text in ("a.txt ./", "scripts/run.sh scripts/", "a.txt /else/b.txt", "scripts there"):
        image.execute(read_one(f"COPY --chown=user:staff {text}\n"))
    there = image.root.folder
    assert (there / "app/a.txt").read_text() == (there / "else/b.txt").read_text() == "a"
    assert (there / "app/there/run.sh").is_file()
    assert (there / "app/scripts/run.sh").stat().st_mode & 0o777 == 0o755
    assert (there / "app/a.txt").stat().st_mode & 0o777 == 0o644
    assert (there / "app/a.txt").stat().st_uid == os.getuid()


@pytest.mark.parametrize("owner", ["nobody-here", "user:no-group"])
def test_an_owner_whom_the_image_does_not_know_is_refused(image, owner):
    with pytest.raises(DockerfileError, match="nobody is called"):
        image.execute(read_one(f"COPY --chown={owner} a.txt ./\n"))
    assert not (image.root.folder / "app/a.txt").exists()


def test_a_program_gets_the_environment_of_the_dockerfile_and_nothing_of_this_machine(image, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THIS_MACHINE", "x")
    assert image.program(["true"]).environ == {"HOME": "/root", "PATH": image.environ["PATH"]}
    for text in ("ENV HOME=/home/user A=1\n", "USER user\n", "WORKDIR sub\n"):
        image.execute(read_one(text))
    program = image.program(["true"])
    assert program.environ == {"HOME": "/home/user", "A": "1", "PATH": image.environ["PATH"]}
    assert (program.user, program.folder) == ("user", "/app/sub")


def test_this_machine_s_python_is_found_by_its_version():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert Path(find_python(version, sys.executable)).name == f"python{version}"


@pytest.mark.parametrize("named", [sys.executable, "/bin/false", "/bin/echo"])
def test_a_python_of_another_version_is_refused(named):
    with pytest.raises(RootError, match="--python"):
        find_python("3.99", named)


@pytest.fixture
def root(tmp_path):
    """A root as its constructor leaves it, without what it asks of apt and pip."""
    made = object.__new__(Root)
    made.folder, made._machine, made._shown = tmp_path / "a root", tmp_path, []
    made.environ_online = {"PIP_CERT": "/mnt/1"}
    return made


def test_a_command_runs_as_its_user_with_its_environment_alone(root):
    words = root.command(Program(["tini", "--", "x y"], "user", "/app", {"A": "b c"}))
    start = words.index("-i")
    assert words[start:] == ["-i", "-C", "/app", "A=b c", "tini", "--", "x y"]
    assert "--userspec=user" in words
    assert "--pid" in words
    assert not any("/mnt" in word or "PIP_CERT" in word for word in words)
    assert f"'{root.folder}'/proc" in " ".join(words)  # a folder with a space is one word of the shell's


def test_only_a_step_of_the_build_sees_this_machines_mirrors(root):
    words = root.command(Program(["true"], is_online=True))
    assert "PIP_CERT=/mnt/1" in words
    assert "/mnt" in " ".join(words)


def test_files_that_pips_settings_name_are_shown_below_mnt(root, tmp_path):
    (tmp_path / "index/simple").mkdir(parents=True)
    (tmp_path / "ca.crt").write_text("")
    value = f"{tmp_path}/ca.crt file://{tmp_path}/index/simple https://a.test/simple /not/there"
    assert root._show_files(value) == "/mnt/1 file:///mnt/2/simple https://a.test/simple /not/there"
    assert root._shown == [tmp_path / "ca.crt", tmp_path / "index"]


def test_the_processes_of_a_namespace_are_listed_with_who_they_are():
    found = {one.pid: one for one in list_processes(os.getpid())}
    assert found[os.getpid()].uids[0] == os.getuid()
    assert list_processes(1 << 30) == []
