"""Lion (arXiv:2302.06675)."""

import torch


class Lion(torch.optim.Optimizer):
    """Update by the sign of an interpolation between the momentum and the gradient."""

    def __init__(self, params, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                weight -= group["lr"] * torch.lerp(weight.grad, momentum, beta1).sign()
                momentum.lerp_(weight.grad, 1 - beta2)
