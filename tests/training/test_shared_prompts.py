"""Groups that share a prompt give TRL's own losses; own decoding gives transformers' own answers."""

import json

import pytest

pytest.importorskip("trl", reason='needs the extra: pip install "lm-mixup[train]"')

import torch

from lm_mixup.errors import RecipeError
from lm_mixup.training import base
from lm_mixup.training.generation import decode
from tests.training import make_golden as golden
from tests.training.test_golden import GRPO, near


@pytest.mark.parametrize("batch", [2, 8], ids=["groups in pieces", "groups whole"])
def test_the_losses_are_those_of_trl(tiny, mixture, tmp_path, batch):
    asked = {"grpo.batch": batch}
    plain = golden.grpo_lines(tiny, mixture, tmp_path / "plain", **asked)
    shared = golden.grpo_lines(tiny, mixture, tmp_path / "shared", **asked, **{"grpo.shared_prompts": True})
    names = (*GRPO, "entropy", "grad_norm")
    near(golden.figures(shared, names), golden.figures(plain, names))
    assert any(abs(line["loss"]) > 1e-3 for line in plain)


def test_vllm_and_shared_prompts_exclude_each_other(tiny, mixture, tmp_path):
    with pytest.raises(RecipeError, match="one of vllm and shared_prompts"):
        golden.grpo_lines(tiny, mixture, tmp_path / "o", **{"grpo.shared_prompts": True, "grpo.vllm": True})


@pytest.fixture
def model(tiny):
    return base.load_model(str(tiny), golden.recipe(**{"model.name": str(tiny)})).eval()


PROMPTS = [[5, 6, 7, 8], [9, 10], [5, 6, 7, 8], [20, 21, 22, 23, 24, 25, 26]]


def greedy(model, prompt, limit):
    out = model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=limit, do_sample=False, pad_token_id=1)
    return out[0, len(prompt) :].tolist()


def test_greedy_answers_are_those_of_transformers(model):
    wanted = [greedy(model, prompt, 20) for prompt in PROMPTS]
    assert decode(model, PROMPTS, max_new_tokens=20, temperature=0, ends={0}) == wanted


def test_an_answer_ends_at_its_end_token_and_the_others_go_on(model):
    wanted = [greedy(model, prompt, 20) for prompt in PROMPTS]
    end = wanted[1][3]  # a token that some answers have early, taken for the end
    cut = [answer[: answer.index(end) + 1] if end in answer else answer for answer in wanted]
    assert decode(model, PROMPTS, max_new_tokens=20, temperature=0, ends={end}) == cut
    assert len({len(answer) for answer in cut}) > 1


def test_an_adapter_is_merged_for_sampling_and_taken_away_to_the_last_bit(tiny):
    from peft import get_peft_model

    asked = golden.recipe(**{"model.name": str(tiny)})
    model = get_peft_model(base.load_model(str(tiny), asked), base.lora_config(asked)).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answers = decode(model, PROMPTS, max_new_tokens=12, temperature=0, ends={0})
    assert answers == [greedy(model, prompt, 12) for prompt in PROMPTS], "as the adapter beside its weights would say"
    with model.disable_adapter():
        assert answers != [greedy(model, prompt, 12) for prompt in PROMPTS]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_draws_come_from_torchs_random_state_and_differ_within_a_group(model):
    def drawn():
        torch.manual_seed(7)
        return decode(model, [PROMPTS[0]] * 4, max_new_tokens=8, temperature=1.0, ends={0})

    first = drawn()
    assert first == drawn()
    assert len({json.dumps(answer) for answer in first}) > 1


def test_draws_follow_the_models_distribution(model):
    prompt = PROMPTS[0]
    with torch.no_grad():
        wanted = torch.softmax(model(torch.tensor([prompt])).logits[0, -1], dim=-1)
    torch.manual_seed(0)
    drawn = [answer[0] for answer in decode(model, [prompt] * 4000, max_new_tokens=1, temperature=1.0, ends={0})]
    shares = torch.bincount(torch.tensor(drawn), minlength=len(wanted)) / len(drawn)
    assert float((shares - wanted).abs().sum()) < 0.3  # 258 tokens nearly alike: expected 0.2
