import pytest
import torch
from torch.nn import functional as F

import tiny_training as tiny
from tuneport_torch.engine.forward import Packed, Padded, choose_forward, pack, why_not_packed
from tuneport_torch.engine.loss import Head, head_logits, weighted_loss

PACKABLE = [kind for kind in tiny.KINDS if kind not in tiny.NOT_PACKABLE]


def tensors(rows):
    return [(torch.tensor(row.ids, dtype=torch.int32), torch.tensor(row.weights)) for row in rows]


def reference(model, rows):
    """The sum of weight x nll, row by row, through the model's own forward pass."""
    total = torch.zeros(())
    for row in rows:
        ids = torch.tensor(row.ids)
        logits = model(ids[None], use_cache=False).logits[0, :-1].float()
        nll = F.cross_entropy(logits, ids[1:], reduction="none")
        total = total + (nll * torch.tensor(row.weights[1:])).sum()
    return total


@pytest.mark.parametrize("device", tiny.DEVICES)
@pytest.mark.parametrize("longest", [30, 700])  # explicit scores, and the fused kernel
@pytest.mark.parametrize("kind", PACKABLE)
def test_packed_logits_equal_those_of_each_row_alone(kind, longest, device):
    positions = "n_positions" if kind == "gpt2" else "max_position_embeddings"
    model, rows = tiny.model(kind, **{positions: 1024}).eval().to(device), tiny.rows(7, longest=longest)
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([row.ids]).to(device), use_cache=False).logits[0] for row in rows])
        packed = Packed(model, torch.float32)
        packed.open()
        ours = head_logits(packed.hidden(pack(tensors(rows), model.device)), packed.head)
    assert float((ours - alone).abs().max()) < 2e-5 * float(alone.abs().max())


@pytest.mark.parametrize("device", tiny.DEVICES)
@pytest.mark.parametrize("length", [3, 600])  # explicit scores, and the fused kernel
@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_a_document_never_sees_another(kind, length, device):
    model = tiny.model(kind, max_position_embeddings=1024).eval().to(device)
    packed = Packed(model, torch.float32)
    packed.open()
    first, second = torch.randint(0, tiny.VOCABULARY, (2, length))
    with torch.no_grad():
        hidden = [
            packed.hidden(pack([(head, torch.ones(length)), (second, torch.ones(length))], model.device))[length:]
            for head in (first, first.flip(0))
        ]
    assert torch.equal(*hidden)


@pytest.mark.parametrize("kind", PACKABLE)
def test_packed_padded_and_single_rows_have_the_same_loss_and_gradients(kind):
    model, rows = tiny.model(kind), tiny.rows(5)
    rows[1].weights = [0.5 * weight for weight in rows[1].weights]

    def gradients(loss):
        model.zero_grad()
        loss.backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters()}

    expected = reference(model, rows)
    wanted = gradients(expected)
    for forward in (Padded(model), Packed(model, torch.float32)):
        forward.open()
        loss = forward.loss(forward.pack(tensors(rows)))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        for name, grad in gradients(loss).items():
            torch.testing.assert_close(
                grad, wanted[name], rtol=1e-3, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
            )


def test_the_first_token_of_a_row_is_never_a_target():
    rows = [(torch.arange(4), torch.ones(4)), (torch.arange(10, 13), torch.ones(3))]
    batch = pack(rows, torch.device("cpu"))
    assert batch.target_N.tolist() == [1, 2, 3, 11, 12]
    assert batch.where_N.tolist() == [0, 1, 2, 4, 5]
    assert batch.positions_T.tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_a_weight_of_zero_gives_no_gradient_for_any_token():
    model, rows = tiny.model(), tiny.rows(3)
    packed = Packed(model, torch.float32)
    packed.open()
    grads = []
    for last in (1, 2):
        rows[0].weights[-1], rows[0].ids[-1] = 0.0, last
        model.zero_grad()
        packed.loss(packed.pack(tensors(rows))).backward()
        grads.append(model.model.layers[0].mlp.up_proj.weight.grad.clone())
    assert torch.equal(*grads)


def test_padding_depends_on_length_not_on_a_token():
    """A row may contain the padding token of others."""
    model = tiny.model()
    rows = tiny.rows(3)
    rows[0].ids[-3:] = [0, 0, 0]
    padded = Padded(model)
    assert padded.loss(padded.pack(tensors(rows))).item() == pytest.approx(reference(model, rows).item(), rel=1e-5)


def test_a_model_that_cannot_be_packed_is_padded_and_says_so():
    reported = []
    model = tiny.model("bloom")
    assert isinstance(choose_forward(model, "auto", torch.float32, lambda *said, **_: reported.append(said)), Padded)
    assert "padded, not packed" in reported[0][1]


@pytest.mark.parametrize("kind", ["lfm2", "mamba", "xglm"])
def test_a_model_whose_state_or_positions_continue_from_row_to_row_is_not_packed(kind):
    """A convolution over tokens, a recurrent state, positions that are counted from the first row on."""
    assert why_not_packed(tiny.model(kind)) == "packed rows have other logits than single rows"


def test_the_proof_detects_a_leak_that_is_smaller_than_rounding():
    model = tiny.model("lfm2")
    with torch.no_grad():
        model.model.layers[0].conv.conv.weight[..., :-1] *= 0.01  # what comes from the tokens before
    assert why_not_packed(model.bfloat16()) == "packed rows influence each other"


def test_the_attention_of_a_model_is_restored():
    model = tiny.model()
    before = model.config._attn_implementation
    assert why_not_packed(model) is None
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.5, None), (2.0, 3.0)])
def test_the_loss_in_chunks_has_the_loss_and_gradients_of_plain_cross_entropy(scale, softcap):
    torch.manual_seed(0)
    targets, vocabulary = 60, 600_000  # more logits than are computed at once
    shapes = [(targets, 4), (vocabulary, 4), (vocabulary,)]
    given = [torch.randn(*shape) for shape in shapes]
    target, weights = torch.randint(0, vocabulary, (targets,)), torch.rand(targets)
    hidden, weight, bias = plain = [tensor.double().requires_grad_() for tensor in given]
    logits = (hidden @ weight.t()) * scale + bias
    logits = logits if softcap is None else torch.tanh(logits / softcap) * softcap
    expected = (F.cross_entropy(logits, target, reduction="none") * weights).sum()
    hidden, weight, bias = [tensor.requires_grad_() for tensor in given]
    with tiny.Largest() as largest:
        ours = weighted_loss(hidden, Head(weight, bias, scale, softcap, torch.float32), target, weights)
    assert largest.numbers < targets * vocabulary
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = zip(torch.autograd.grad(ours * 3, given), torch.autograd.grad(expected * 3, plain), strict=True)
    for gradient, wanted in gradients:
        assert float((gradient - wanted).abs().max()) < 2e-3 * float(wanted.abs().max())
