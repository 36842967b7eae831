"""The loss that directions learn from, by hand and against autograd."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from wsae_plugin.saes.gba_directions import direction_loss


def test_by_hand() -> None:
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], requires_grad=True)
    acts = torch.tensor([[5.0, 5.0, 0.0], [1.0, 1.0, 1.0]])
    left = torch.tensor([[2.0, -1.0], [0.0, 1.0]])
    # First sample: 2 along the first latent, 1 against the second, and the third does not fire.
    # Second sample: none along the first, 1 along the second, 0.8 along the third.
    loss = direction_loss(directions, acts, left)
    torch.testing.assert_close(loss, torch.tensor(-0.5 * (4 - 1 + 1 + 0.64) / 2))
    loss.backward()
    expected = -torch.tensor([[4.0, -2.0], [2.0, -1.0 + 1.0], [0.0, 0.8]]) / 2
    torch.testing.assert_close(directions.grad, expected)


def test_only_directions_get_a_gradient_and_it_is_autograds() -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    directions = normalize(normal(7, 4), dim=1).requires_grad_()
    acts, left = normal(9, 7).relu().requires_grad_(), normal(9, 4).requires_grad_()
    along = (left.detach() @ directions.T) * (acts > 0)
    expected = -0.5 * (along * along.abs()).sum(dim=1).mean()
    loss = direction_loss(directions, acts, left)
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)
    (wanted,) = torch.autograd.grad(expected, directions)
    gradients = torch.autograd.grad(3 * loss, [directions, acts, left], allow_unused=True)
    torch.testing.assert_close(gradients[0], 3 * wanted, rtol=1e-13, atol=1e-15)
    assert gradients[1:] == (None, None)
