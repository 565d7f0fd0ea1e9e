"""Learning is real: each kind, on models of a few seconds, comes to do on rows it never saw what it is trained for."""

import pytest
import torch

from tests.work.conftest import NAMES, make_folder

pytestmark = pytest.mark.slow

ASKED = ("Write a function to add {a} and {b}.", "How do I sum {a} and {b} in Python?", "{a} plus {b}")
ASKED_HELD_OUT = ("I need {b} on top of {a}, please show me.", "Show the code for their total: {a} / {b}")


def pairs(phrasings, shift):
    """The right answer is the longer one, so that a fresh model finds it less likely."""
    found = []
    for number in range(60):
        a, b = NAMES[number % 10], NAMES[(number * 3 + shift) % 10]
        request = phrasings[number % len(phrasings)].format(a=a, b=b)
        found.append({"prompt": request, "chosen": f"return sum([{a}, {b}])", "rejected": f"print({a}, {b})"})
    return found


def train(folder, kind, rows, chat_template="auto", **settings):
    """Train all weights of a fresh model on every row; return the job and its last checkpoint."""
    values = {
        "kind": kind,
        "model": {"model_name_or_path": "fresh:tiny"},
        "chat_template": chat_template,
        "validation": {"fraction": 0},
        "checkpoints": {"every_steps": 1000},
        "train": {
            "per_device_train_batch_size": 16,
            "logging_steps": 1,
            "max_length": 256,
            "lr_scheduler_type": "cosine",
            **settings,
        },
    }
    job = make_folder(folder, values, rows)
    assert job.run(num_threads=2) == 0, job.sentence
    return job, job.dir.checkpoint(job.dir.checkpoint_steps()[-1])


class Judge:
    """How likely a model finds an answer, in nats, end token included."""

    def __init__(self, folder):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model, self.tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        if not self.tokenizer.chat_template:
            from codex_space.work import templates

            templates.choose(self.tokenizer, "codex")

    def logp(self, prompt, answer):
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        start = len(self.tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True)["input_ids"])
        ids = torch.tensor([self.tokenizer.apply_chat_template(turns)["input_ids"]])
        with torch.inference_mode():
            logps = self.model(ids).logits[0, :-1].log_softmax(-1)
        return float(logps.gather(1, ids[0, 1:, None])[start - 1 :].sum())

    def leads(self, rows):
        """By how much each row's chosen answer is the likelier one."""
        return [self.logp(row["prompt"], row["chosen"]) - self.logp(row["prompt"], row["rejected"]) for row in rows]


ROWS, HELD_OUT = pairs(ASKED, 1), pairs(ASKED_HELD_OUT, 4)[::3]


def test_sft_overfits_64_rows(tmp_path):
    rows = [{"prompt": f"{i}: ", "completion": f"{NAMES[i % 10]}{i * 7 % 64}"} for i in range(64)]
    settings = {"max_steps": 140, "learning_rate": 1e-2, "per_device_train_batch_size": 64, "logging_steps": 20}
    job, _ = train(tmp_path, "sft", rows, chat_template="none", **settings)
    accuracy = job.curve("mean_token_accuracy")
    assert accuracy[0][1] < 0.5
    assert accuracy[-1][1] > 0.99


def test_dpo_prefers_the_chosen_answers_to_requests_in_other_words(tmp_path):
    job, folder = train(tmp_path, "dpo", ROWS, max_steps=40, learning_rate=2e-3)
    margins = [value for _, value in job.curve("rewards/margins")]
    before, after = Judge(job.dir.base).leads(HELD_OUT), Judge(folder).leads(HELD_OUT)
    assert margins[0] == pytest.approx(0, abs=1e-4)
    assert margins[-1] > 1
    assert max(before) < 0, "a model that prefers them already proves nothing"
    assert sum(lead > 0 for lead in after) > 0.95 * len(after)


def test_a_reward_model_tells_held_out_answers_apart(tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    _, folder = train(tmp_path, "reward", ROWS, max_steps=40, learning_rate=2e-3)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    def score(row, name):
        turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[name]}]
        with torch.inference_mode():
            return float(model(torch.tensor([tokenizer.apply_chat_template(turns)["input_ids"]])).logits)

    right = sum(score(row, "chosen") > score(row, "rejected") for row in HELD_OUT) / len(HELD_OUT)
    assert right > 0.95


@pytest.mark.parametrize("kind", ["kto", "orpo"])
def test_good_answers_become_likelier_than_bad_ones(tmp_path, kind):
    job, folder = train(tmp_path, kind, ROWS, max_steps=40, learning_rate=2e-3)
    before, after = Judge(job.dir.base).leads(HELD_OUT), Judge(folder).leads(HELD_OUT)
    margins = [value for _, value in job.curve("rewards/margins")]
    assert margins[-1] > margins[0]
    assert all(new > old + 5 for old, new in zip(before, after, strict=True))
