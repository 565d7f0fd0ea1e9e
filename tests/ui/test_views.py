"""What the page says, as plain functions: numbers with units, empty states, reasons; and nobody's text becomes markup."""

import dataclasses
from pathlib import Path

import pytest

from codex_space.core.errors import HubAuthError
from codex_space.core.presets import list_presets
from codex_space.core.units import render_bytes
from codex_space.hub.records import Account
from codex_space.services import datasets, first_model, runs
from codex_space.services.datasets import DatasetInfo
from codex_space.services.models import Gpu, Machine
from codex_space.store import runs as run_rows
from codex_space.store.runs import ALLOWED
from codex_space.ui.views import data, markup, space, start
from codex_space.ui.views import runs as runs_view

HOSTILE = "<img src=x onerror=alert(1)>\"'&"
RECIPE = "kind: sft\nname: one\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"


def is_harmless(text):
    return "<img" not in text and 'onerror=alert(1)>"' not in text


@pytest.fixture
def run(ctx):
    return runs.submit(ctx, RECIPE)


def info(**values):
    whole = {
        "name": "adders", "path": Path("rows.jsonl"), "format": "messages", "num_rows": 12_345, "size_bytes": 1_234_567, "sha256": "ab" * 32,
        "columns": ["messages"], "source": "adders.jsonl", "created_at": 1_763_683_200.0, "mapping": {},
    }  # fmt: skip
    return DatasetInfo(**{**whole, **values})


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_999, "1.00 MB"),
        (12_345_678, "12.3 MB"),
        (123_456_789_012, "123 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes_have_three_digits_and_a_unit(size, said):
    assert render_bytes(size) == said


def test_a_time_is_in_utc_and_a_missing_one_a_dash():
    assert markup.render_time(1_763_683_200.0) == "2025-11-21 00:00 UTC"
    assert markup.render_time(None) == "\N{EN DASH}"


def test_nobodys_text_becomes_markup():
    shown = [
        markup.render_empty(HOSTILE, HOSTILE, HOSTILE, HOSTILE), markup.render_check(False, HOSTILE, HOSTILE, HOSTILE),
        markup.render_notice("bad", HOSTILE, ""), markup.render_table([HOSTILE], [], HOSTILE),
        data.render_rows([{"text": HOSTILE, "messages": [{"role": HOSTILE, "content": HOSTILE * 50}]}], 0, 1),
        data.render_about(info(name=HOSTILE, source=HOSTILE, columns=[HOSTILE], mapping={"prompt": HOSTILE})),
        data.render_list([info(name=HOSTILE)]), data.render_title(HOSTILE), data.render_kept(info(name=HOSTILE)),
        data.render_refused(HubAuthError(HOSTILE, where=HOSTILE, cure=HOSTILE)),
        runs_view.render_differences([(HOSTILE, HOSTILE, [HOSTILE])], "a", "b"),
    ]  # fmt: skip
    assert [text for text in shown if not is_harmless(text)] == []


def test_no_dataset_says_what_to_do():
    assert "Drop a file" in data.render_list([])


def test_the_list_says_rows_format_and_size():
    shown = data.render_list([info(), info(name="other")])
    assert "12,345 rows · chat messages · 1.23 MB" in shown
    assert [name in shown for name in ('data-pick="adders"', 'data-pick="other"')] == [True, True]


def test_long_text_is_folded_with_its_length():
    shown = data.render_rows([{"prompt": "short", "completion": "long " * 200}], 20, 30)
    assert "<header>21</header>" in shown
    assert "show all 1,000 characters" in shown
    assert data.page_label(20, 10, 30) == "Rows 21 to 30 of 30"


def test_a_refused_file_shows_every_problem_with_its_line_and_a_list_to_take_away(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "fine"}\n{"text": 5}\nnot json\n' + '{"text": ["<img src=x>"]}\n' * 150)
    found = datasets.inspect(path)
    shown = data.render_problems("bad.jsonl", found)
    assert "bad.jsonl was not added: 152 problems in 153 rows" in shown
    assert "line 2" in shown
    assert "line 3" in shown
    assert "52 more problems are not shown" in shown
    assert "download='bad.jsonl-problems.csv'" in shown
    assert "<img" not in shown


ENDED = {"succeeded", "failed", "stopped", "lost"}


@pytest.mark.parametrize("state", list(ALLOWED))
def test_every_button_works_or_says_why_not_in_every_state(run, state):
    actions = runs_view.actions_of(
        dataclasses.replace(run, state=state),
        resume_blocked="" if state in ENDED else f"it is {state}",
        resume_step=300,
    )
    assert all(getattr(actions, name.name).why for name in dataclasses.fields(actions))
    assert actions.save.enabled == (state == "running")
    assert actions.stop.enabled == (state in {"queued", "preflight", "running"})
    assert actions.cancel.enabled == (state not in ENDED)
    assert actions.delete.enabled == (state in ENDED)
    shown = runs_view.render_why(actions)
    assert shown.count("Not now:") == sum(
        not action.enabled for action in (actions.save, actions.stop, actions.cancel, actions.resume)
    )


def test_resume_says_from_where_or_why_not(run):
    stopped = dataclasses.replace(run, state="stopped")
    assert (
        runs_view.actions_of(stopped, resume_blocked="", resume_step=1200).resume.why.lower()
        == "goes on from step 1,200"
    )
    assert (
        runs_view.actions_of(stopped, resume_blocked="", resume_step=0).resume.why.lower()
        == "starts from the beginning"
    )
    assert runs_view.actions_of(stopped, resume_blocked="its folder is gone", resume_step=0).resume == runs_view.Action(
        False, "its folder is gone"
    )


def test_no_run_chosen_leaves_every_button_off():
    assert not any(getattr(runs_view.NO_RUN, name.name).enabled for name in dataclasses.fields(runs_view.NO_RUN))


def test_equal_recipes_have_no_difference_and_a_missing_key_is_not_set():
    assert "No difference" in runs_view.render_differences([], "a", "b")
    assert "not set" in runs_view.render_differences([("lora.r", None, 8)], "a", "b")


def test_the_first_models_button_follows_its_runs(ctx):
    assert (start.is_busy(None), start.button_label(None)) == (False, "Train your first model")
    found = first_model.start(ctx, start.press_key(None))
    assert (start.is_busy(found), start.button_label(found)) == (True, "Training your first model")
    assert start.press_key(found) != start.press_key(None)
    for run in (found.tokenizer, found.pretrain, found.sft):
        run_rows.change_state(ctx.db, run.id, "stopped", now=1.0)
    assert start.button_label(first_model.status(ctx)) == "Train it again"


def test_pressing_twice_before_the_page_has_heard_queues_one_first_model(ctx):
    key = start.press_key(first_model.status(ctx))
    assert first_model.start(ctx, key) == first_model.start(ctx, key)


NO_GPU = Machine("CPU · 2 cores", 2, (), 4 << 30, 100 << 30)
L4 = Machine("L4 · 22 GiB", 8, (Gpu("NVIDIA L4", 24_000_000_000),), 30 << 30, 100 << 30)


def test_what_a_real_model_needs_turns_green_line_by_line():
    nothing = start.render_tune_checks(NO_GPU, HubAuthError("there is no Hub token", cure="Set HF_TOKEN."), 0)
    assert nothing.count("cs-bad") == 2
    assert "Set HF_TOKEN." in nothing
    everything = start.render_tune_checks(L4, Account("ada", ("lab",), "write", True), 2)
    assert everything.count("cs-good") == 3
    reader = start.render_tune_checks(L4, Account("ada", (), "read", False), 2)
    assert "may only read" in reader


def test_models_are_offered_by_what_this_gpu_can_hold():
    presets = [preset for preset in list_presets("sft") if "qwen" in preset.name]
    assert presets
    on_an_l4 = start.render_real_models(presets, 23_600_000_000)
    for preset in presets:
        assert ("fits this GPU" in on_an_l4.partition(preset.name)[2].partition("</li>")[0]) == (
            "l4x1" in preset.title or "7b-lora" in preset.name
        )
    assert "wants a GPU with" in start.render_real_models(presets, 0)


def test_the_space_tab_states_facts_of_this_machine(ctx):
    assert "core" in space.render_machine(ctx)


def test_without_a_token_the_account_says_so_with_its_cure(ctx):
    assert "HF_TOKEN" in space.render_account(ctx)


def test_an_account_shows_what_it_may_do(hub_server, make_ctx):
    from codex_space.core.settings import Secret

    ctx = make_ctx(hf_token=Secret("hf_read"))
    ctx.settings.environ["HF_ENDPOINT"] = hub_server.endpoint
    shown = space.render_account(ctx)
    assert "ada" in shown
    assert "may only read" in shown
