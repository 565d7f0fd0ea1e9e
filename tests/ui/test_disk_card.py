"""The Disk card's events as a browser sends them: only for those who may act, nothing without a yes, every refusal a sentence."""

import json

import pytest

from codex_space.hub.push import push_checkpoint
from codex_space.store import checkpoints, runs
from tests.fakes.checkpoints import RECIPE, RUN_ID, write_checkpoint
from tests.fakes.space import OWNER, READER, open_space  # noqa: F401  # the fixture


@pytest.fixture
def space(open_space):  # noqa: F811
    opened = open_space(HF_TOKEN="hf_write", CODEX_SPACE_VISITORS="look")
    ctx, hub = opened.ctx, opened.hub
    hub.client().make_repo("ada/model", private=True)
    ctx.workspace.job(RUN_ID).root.mkdir(parents=True)
    ctx.workspace.job(RUN_ID).recipe.write_text(RECIPE)
    runs.insert_run(ctx.db, id=RUN_ID, name="first", kind="sft", recipe=RECIPE, repo_id="ada/model", now=1.0)
    for step in (2, 4):
        folder = write_checkpoint(ctx.workspace.job(RUN_ID).checkpoint(step), step)
        commit = push_checkpoint(
            hub.client(), folder, repo_id="ada/model", card="c", recipe_text=RECIPE, with_resume=step == 4
        )
        checkpoints.add_checkpoint(ctx.db, RUN_ID, step, created_at=1.0, size_bytes=2000, metrics={})
        checkpoints.set_upload(ctx.db, RUN_ID, step, "uploaded", commit_id=commit)
    runs.restore_run(ctx.db, RUN_ID, state="succeeded", ended_at=2.0)
    return opened


def event(space, element, trigger):
    return next(
        number
        for number, each in space.demo.fns.items()
        for target, name in each.targets
        if name == trigger and getattr(space.demo.blocks.get(target), "elem_id", None) == element
    )


def press(space, person, element, values, trigger="click"):
    return person.call(event(space, element, trigger), values, session=f"{element}-{id(values)}")


def steps(space):
    return space.ctx.workspace.job(RUN_ID).checkpoint_steps()


def test_what_goes_is_seen_agreed_to_and_brought_back(space):
    owner = space.person(OWNER)
    seen = press(space, owner, "disk-see", [])
    assert "step 2" in seen
    assert "older checkpoints" in seen.lower()
    gone = press(space, owner, "disk-go", [["checkpoints"], True])
    assert "1 thing is gone" in gone
    assert steps(space) == [4]
    assert "process_completed" in press(space, owner, "runs-checkpoints", [RUN_ID, "fetch 2"], "select")
    assert steps(space) == [2, 4]
    deeds = space.ctx.db.query("SELECT who, verb FROM audit ORDER BY sequence")
    assert [(row["who"], row["verb"]) for row in deeds] == [("ada", "clean up"), ("ada", "bring back")]


@pytest.mark.parametrize(
    "values", [[["checkpoints"], False], [[], True], [["datasets"], True], ["x", True], [None, None]]
)
def test_without_a_yes_or_with_nonsense_nothing_goes(space, values):
    said = press(space, space.person(OWNER), "disk-go", values)
    assert '"success":false' in said.replace(" ", "")
    assert "Traceback" not in said
    assert steps(space) == [2, 4]


@pytest.mark.parametrize(
    "asked", ["fetch", "fetch ", "fetch -1", "fetch 3", "fetch 2 2", "fetch ٢", "fetch " + "9" * 400, "delete 2", ""]
)
def test_a_step_that_is_none_is_a_sentence(space, asked):
    said = press(space, space.person(OWNER), "runs-checkpoints", [RUN_ID, asked], "select")
    assert '"success":false' in said.replace(" ", "")
    assert steps(space) == [2, 4]


def test_whoever_only_looks_deletes_and_fetches_nothing(space):
    for person in (space.person(), space.person(READER)):
        for element in ("disk-see", "disk-go", "disk-measure", "runs-checkpoints"):
            values = {"disk-go": [["checkpoints"], True], "runs-checkpoints": [RUN_ID, "fetch 2"]}.get(element, [])
            press(space, person, element, values, "select" if element == "runs-checkpoints" else "click")
    assert steps(space) == [2, 4]
    assert not space.ctx.db.query("SELECT 1 FROM audit")


def test_the_hub_that_is_down_is_one_sentence(space):
    space.hub.fail("/api/models", status=503, times=999)
    owner = space.person(OWNER)
    said = press(space, owner, "disk-go", [["checkpoints", "newest"], True])
    message = next(line for line in said.splitlines() if "process_completed" in line)
    assert json.loads(message.removeprefix("data: "))["success"] is False
    assert steps(space) == [2, 4]
    measured = press(space, owner, "disk-measure", [])  # the disk is measured all the same
    assert "The Hub was not asked" in measured
    assert "Checkpoints" in measured
