"""Files that reach the Data tab: real uploads become datasets and are cleared away; a named server path is refused."""

import asyncio
import dataclasses
import json
import re
import socket
import time
import urllib.request
from pathlib import Path

import gradio as gr
import pytest

from bench.page_client import Browser, PageMap
from codex_space.core.settings import read_settings
from codex_space.services import datasets, runs
from codex_space.services.context import open_context
from codex_space.store.runs import change_state
from codex_space.ui.serve import launch
from codex_space.ui.tabs.train_form import FormFields
from codex_space.ui.uploads import Uploads
from codex_space.ui.views.form import read_form

ROWS = "".join(json.dumps({"prompt": f"p{n}", "completion": f"c{n}"}) + "\n" for n in range(12)).encode()
RECIPE = (
    "kind: sft\nname: twice\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
)


class Visitor:
    """What a browser does to a launched page, without the browser."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = read_settings({"CODEX_SPACE_HOME": str(folder / "workspace"), "HF_HUB_OFFLINE": "1"}, port=port)
        self.ctx = open_context(settings, time.time, own=False)
        self.page, self.address = launch(self.ctx), f"http://127.0.0.1:{port}"

    def upload(self, name, content):
        mark = "edge-of-the-part"
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        body = head + content + f"\r\n--{mark}--\r\n".encode()
        kind = {"content-type": f"multipart/form-data; boundary={mark}"}
        return json.loads(self._read(urllib.request.Request(f"{self.address}/gradio_api/upload", body, kind)))[0]

    def press(self, elem_id, event, values, session="visitor"):
        blocks = self.page.demo.blocks.values()
        target = next(block._id for block in blocks if getattr(block, "elem_id", None) == elem_id)
        fits = [(target, event) in fn.targets and len(fn.inputs) == len(values) for fn in self.page.demo.fns.values()]
        return self.call(list(self.page.demo.fns)[fits.index(True)], values, session)

    def call(self, number, values, session):
        body = json.dumps({"fn_index": number, "data": values, "session_hash": session}).encode()
        kind = {"content-type": "application/json"}
        self._read(urllib.request.Request(f"{self.address}/gradio_api/queue/join", body, kind))
        with urllib.request.urlopen(
            f"{self.address}/gradio_api/queue/data?session_hash={session}", timeout=60
        ) as lines:
            return next(json.loads(line[5:]) for line in lines if b'"process_completed"' in line)

    def hand_over(self, path):
        return self.press("data-upload", "upload", [{"path": str(path), "meta": {"_type": "gradio.FileData"}}, ""])

    def close(self):
        self.page.close()
        self.ctx.close()

    @staticmethod
    def _read(request):
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read()


@pytest.fixture(scope="module")
def visitor(tmp_path_factory):
    opened = Visitor(tmp_path_factory.mktemp("page"))
    yield opened
    opened.close()


def test_an_upload_becomes_a_dataset_and_the_uploaded_copy_goes(visitor):
    path = visitor.upload("adders.jsonl", ROWS)
    ended = visitor.hand_over(path)
    assert ended["success"], ended
    assert "adders is ready" in json.dumps(ended["output"])
    assert [info.num_rows for info in datasets.list_datasets(visitor.ctx)] == [12]
    assert not Path(path).exists()
    datasets.delete(visitor.ctx, "adders")


def test_two_people_who_send_the_same_file_both_get_it(visitor):
    paths = [visitor.upload("same.jsonl", ROWS) for _ in range(2)]
    assert paths[0] == paths[1], "Gradio keeps equal files apart now: ui/uploads.py is no longer needed"
    for path in paths:
        assert "same is ready" in json.dumps(visitor.hand_over(path)["output"])
    assert not Path(paths[0]).exists()
    datasets.delete(visitor.ctx, "same")


def test_nothing_is_removed_while_another_comes_in(tmp_path):
    path, uploads = tmp_path / "same.jsonl", Uploads()
    path.write_bytes(ROWS)
    uploads.begin()
    uploads.end([str(path)])
    uploads.begin()  # somebody else sends it too, and it may be in its place already
    uploads.read(path)
    assert path.exists()
    uploads.end([str(path)])
    assert path.exists()
    uploads.read(path)
    assert not path.exists()


def test_an_upload_that_broke_off_keeps_nothing_for_ever(tmp_path):
    path, uploads = tmp_path / "one.jsonl", Uploads()
    path.write_bytes(ROWS)
    uploads.begin()
    uploads.end([str(path)])
    uploads.begin()
    uploads.read(path)
    uploads.end([])
    assert not path.exists()
    uploads.read(path)  # once more, which no page does: nothing happens


def test_good_rows_at_a_path_of_this_machine_are_refused_all_the_same(visitor, tmp_path):
    private = tmp_path / "private.jsonl"
    private.write_bytes(ROWS)
    assert visitor.hand_over(private)["success"] is False
    assert datasets.list_datasets(visitor.ctx) == []
    assert private.read_bytes() == ROWS


def test_a_wrong_upload_is_refused_with_its_line_and_goes_too(visitor):
    path = visitor.upload("wrong.jsonl", ROWS + b"not json\n")
    shown = json.dumps(visitor.hand_over(path)["output"])
    assert "wrong.jsonl was not added" in shown
    assert "line 13" in shown
    assert datasets.list_datasets(visitor.ctx) == []
    assert not Path(path).exists()


def press_train(visitor, text=RECIPE, **typed):
    """Press Train with that text; `typed` stands in the form and has not reached the text yet."""
    form = read_form(text)
    fields = [typed.get(known.name, getattr(form, known.name)) for known in dataclasses.fields(FormFields)]
    return json.dumps(visitor.press("train-go", "click", [None, text, text, *fields], "one")["output"])


def open_page(visitor):
    """What a page does when it opens: it gets the key that makes two presses one."""
    fns = visitor.page.demo.fns
    go = next(fn for fn in fns.values() if len(fn.inputs) > 20 and isinstance(fn.inputs[0], gr.State))
    return visitor.call(next(number for number, fn in fns.items() if fn.outputs == [go.inputs[0]]), [], "one")


def test_pressing_train_again_without_a_change_starts_nothing_more(visitor):
    assert open_page(visitor)["success"]
    for _ in range(3):
        assert "twice is in the queue" in press_train(visitor)
    assert len(runs.list_runs(visitor.ctx)) == 1
    for _ in range(2):
        assert "thrice is in the queue" in press_train(visitor, name="thrice ", batch=3)
    newest, _ = runs.list_runs(visitor.ctx)
    assert "per_device_train_batch_size: 3" in newest.recipe
    change_state(visitor.ctx.db, newest.id, "stopped", now=1.0)  # one that is over may be trained again
    for _ in range(2):
        assert "thrice is in the queue" in press_train(visitor, name="thrice", batch=3)
    assert len(runs.list_runs(visitor.ctx)) == 3


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("lora_r", 9999, "1024"), ("batch", 0, "minimum"), ("architecture", "made-up", "choices"), ("batch", "many", "")],
)
def test_a_field_that_holds_what_it_cannot_starts_nothing(visitor, field, value, said):
    before = len(runs.list_runs(visitor.ctx))
    answer = press_train(visitor, **{field: value})
    assert said in answer
    assert "in the queue" not in answer
    assert len(runs.list_runs(visitor.ctx)) == before


def test_presses_at_the_same_moment_start_one_run(visitor):
    async def press_six_times():
        async with Browser(visitor.address, "somebody") as browser:
            page = PageMap((await browser.ask("GET", "/config")).json())
            (go,) = page.of("train-go", "click")
            await browser.send(page.filling(go.inputs[0]), [])
            return await browser.send(go, page.values(go, train_yaml=RECIPE.replace("twice", "at once")), times=6)

    before = len(runs.list_runs(visitor.ctx))
    answers = asyncio.run(press_six_times())
    assert [answer.error for answer in answers] == [""] * 6
    assert len({re.search(r"#runs/([\w-]+)", answer.text)[1] for answer in answers}) == 1
    assert len(runs.list_runs(visitor.ctx)) == before + 1
    assert len(list(visitor.ctx.workspace.runs.iterdir())) == before + 1, "folders without a run"


def test_a_sweep_is_queued_once_as_all_its_runs(visitor):
    before = len(runs.list_runs(visitor.ctx))
    assert open_page(visitor)["success"]
    for _ in range(2):
        assert "4 runs are in the queue" in press_train(
            visitor, RECIPE + "sweep: {train.learning_rate: [1e-4, 1e-3], lora.r: [4, 8]}\n"
        )
    queued = runs.list_runs(visitor.ctx)[: -before or None]
    assert len(queued) == 4
    assert len({run.name for run in queued}) == 4
    assert "65 runs" in press_train(visitor, RECIPE + f"sweep: {{seed: {list(range(65))}}}\n")


def test_two_people_pressing_the_first_model_get_one_chain(visitor):
    before = len(runs.list_runs(visitor.ctx))
    for session in ("she", "he"):
        assert visitor.press("start-train", "click", [], session)["success"]
    assert len(runs.list_runs(visitor.ctx)) == before + 3
