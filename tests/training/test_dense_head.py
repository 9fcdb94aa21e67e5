"""The head for CPUs gives what TRL's gives, and the same gradients."""

import pytest

pytest.importorskip("trl", reason='needs the extra: pip install "lm-mixup[train]"')

import torch

from lm_mixup.training import base
from lm_mixup.training.dense_head import score_answers_alone
from tests.training import make_golden as golden

FIELDS = ("loss", "log_probs", "entropy", "is_top1", "label_mask")


def computed(tiny, ours, shifted):
    from trl.trainer.utils import add_fused_lm_head

    model = base.load_model(str(tiny), golden.recipe(**{"model.name": str(tiny)}))
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy", "is_top1"))
    if ours:
        score_answers_alone(model, temperature=0.7)
    torch.manual_seed(3)
    ids = torch.randint(2, 200, (3, 12))
    labels = ids.clone()
    labels[:, :5] = -100
    labels[1, 9:] = -100
    told = {"shift_labels": labels} if shifted else {"labels": labels}
    out = model(input_ids=ids, fused_lm_head=True, **told)
    (out.log_probs * torch.linspace(-1, 1, out.log_probs.numel()).view_as(out.log_probs)).sum().backward()
    plain = model(input_ids=ids, labels=labels).loss
    return {name: getattr(out, name) for name in FIELDS}, model.model.layers[0].mlp.up_proj.weight.grad, plain


@pytest.mark.parametrize("shifted", [False, True])
def test_it_gives_what_trls_head_gives(tiny, shifted):
    (ours, our_gradient, our_plain), (theirs, gradient, plain) = (computed(tiny, own, shifted) for own in (True, False))
    for name in FIELDS:
        assert torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-5), name
    assert float(gradient.abs().max()) > 1e-4
    assert torch.allclose(our_gradient, gradient, atol=1e-6)
    assert torch.allclose(our_plain, plain)
