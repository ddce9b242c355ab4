r"""Optimizers, each with the arguments and the state dict of torch's of the same name.

What they share, checks and errors too, stands in :class:`dlnotes.optimizer.RuleOptimizer`. Each is a readable rule,
``update``, and has the same in ``fused`` for many parameters at once, see :mod:`dlnotes.kernels`. Torch's arguments
``foreach``, ``fused`` and ``capturable`` are missing: they choose how a step is computed, and here the parameters
decide that. Its ``differentiable``, gradients through the step itself, is missing too.
"""

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from dlnotes import kernels
from dlnotes.arguments import check_below_one
from dlnotes.optimizer import Group, RuleOptimizer, State

Number = float | Tensor  # a tensor of one element, as in torch


class SGD(RuleOptimizer):
    r"""Stochastic gradient descent, with momentum and weight decay as options.

    With learning rate :math:`\eta`, momentum :math:`\mu`, dampening :math:`\tau`, weight decay
    :math:`\lambda` and gradient :math:`g_t = \nabla L(\theta_t) + \lambda\theta_t`:

    .. math::
        b_t = \mu b_{t-1} + (1-\tau) g_t \quad (b_1 = g_1), \qquad
        \theta_{t+1} = \theta_t - \eta\, b_t

    Nesterov's variant steps along :math:`g_t + \mu b_t`. Without momentum :math:`b_t = g_t`: gradient descent.

    Args:
        params: parameters, or parameter groups, as for every torch optimizer.
        lr: learning rate :math:`\eta`, default 1e-3.
        momentum: :math:`\mu`, default 0.
        dampening: :math:`\tau`, default 0.
        weight_decay: :math:`\lambda`, default 0.
        nesterov: Nesterov's variant, default False.
        maximize: climb instead of descend, default False.

    Raises:
        ValueError: a hyper-parameter is negative, NaN or infinite, or Nesterov lacks momentum or has dampening.

    Equal to :class:`torch.optim.SGD`; its ``state_dict`` loads either way. Source: Sutskever et al., *On the importance
    of initialization and momentum in deep learning* (2013).

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8000], requires_grad=True)
    """

    fused = staticmethod(kernels.sgd)
    names = ("momentum_buffer",)
    not_negative = ("lr", "momentum", "dampening", "weight_decay")

    def __init__(
        self, params: ParamsT, lr: Number = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, *, maximize: bool = False,
    ):  # fmt: skip
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"nesterov": nesterov, "maximize": maximize})

    def check(self, group: Group) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            given = f"{group['momentum']} and {group['dampening']}"
            raise ValueError(f"nesterov needs momentum > 0 and dampening 0, got {given}")

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if group["momentum"]:
            buffer = state.get("momentum_buffer")
            if buffer is None:
                buffer = state["momentum_buffer"] = gradient.clone()
            else:
                buffer.mul_(group["momentum"]).add_(gradient, alpha=1 - group["dampening"])
            gradient = gradient.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer
        parameter.add_(gradient, alpha=-group["lr"])


class Adagrad(RuleOptimizer):
    r"""Adagrad: a learning rate of its own for every parameter, falling with the gradients it has seen.

    .. math::
        s_t = s_{t-1} + g_t^2, \qquad
        \theta_{t+1} = \theta_t - \frac{\eta}{1 + (t-1)\gamma}\, \frac{g_t}{\sqrt{s_t} + \epsilon}

    with :math:`g_t = \nabla L(\theta_t) + \lambda\theta_t` and learning-rate decay :math:`\gamma`.

    Args:
        params: parameters, or parameter groups.
        lr: :math:`\eta`, default 0.01.
        lr_decay: :math:`\gamma`, default 0.
        weight_decay: :math:`\lambda`, default 0.
        initial_accumulator_value: :math:`s_0`, default 0.
        eps: :math:`\epsilon`, default 1e-10.
        maximize: climb, default False.

    Raises:
        ValueError: a hyper-parameter is negative, NaN or infinite.

    Equal to :class:`torch.optim.Adagrad`, except that sparse gradients are refused. Source: Duchi, Hazan and Singer,
    *Adaptive Subgradient Methods* (2011).

    >>> w = torch.tensor([1.0, 100.0], requires_grad=True)
    >>> optimizer = Adagrad([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()  # a first step of 0.1, whatever the gradient's size
    >>> w
    tensor([ 0.9000, 99.9000], requires_grad=True)
    """

    fused = staticmethod(kernels.adagrad)
    names = ("sum",)
    not_negative = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def __init__(
        self, params: ParamsT, lr: Number = 0.01, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, *, maximize: bool = False,
    ):  # fmt: skip
        defaults = {"lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay}
        defaults["initial_accumulator_value"] = initial_accumulator_value
        super().__init__(params, defaults | {"maximize": maximize})
        for group in self.param_groups:  # torch fills the state at once, so an unused parameter has one too
            for parameter in group["params"]:
                self.start(parameter, self.state[parameter], group)

    def start(self, parameter: Tensor, state: State, group: Group) -> None:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        state["sum"] = torch.full_like(parameter, group["initial_accumulator_value"], requires_grad=False)

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        state["step"] += 1
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        state["sum"].addcmul_(gradient, gradient)
        rate = group["lr"] / (1 + (state["step"].item() - 1) * group["lr_decay"])
        parameter.addcdiv_(gradient, state["sum"].sqrt().add_(group["eps"]), value=-rate)


class RMSprop(RuleOptimizer):
    r"""RMSProp: divide by a root mean square that forgets old gradients.

    .. math::
        v_t = \alpha v_{t-1} + (1-\alpha) g_t^2, \qquad
        \theta_{t+1} = \theta_t - \eta\, \frac{g_t}{\sqrt{v_t} + \epsilon}

    with :math:`g_t = \nabla L(\theta_t) + \lambda\theta_t`. Centred, :math:`v_t` is replaced by the variance
    :math:`v_t - \bar g_t^2`, where :math:`\bar g_t = \alpha \bar g_{t-1} + (1-\alpha) g_t`. With momentum
    :math:`\mu` the step is :math:`-\eta b_t` with :math:`b_t = \mu b_{t-1} + g_t/(\sqrt{v_t}+\epsilon)`.

    Args:
        params: parameters, or parameter groups.
        lr: :math:`\eta`, default 0.01.
        alpha: :math:`\alpha`, default 0.99.
        eps: :math:`\epsilon`, default 1e-8.
        weight_decay: :math:`\lambda`, default 0.
        momentum: :math:`\mu`, default 0.
        centered: divide by the standard deviation, default False.
        maximize: climb, default False.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Equal to :class:`torch.optim.RMSprop`, except that :math:`\alpha > 1` is refused, and that the centred variance
    stops at the rounding error of :math:`v_t`: torch's falls below 0 for some constant gradients, whose root is NaN.
    Source: Tieleman and Hinton, *Neural Networks for Machine Learning*, lecture 6.5 (2012).

    >>> w = torch.tensor([1.0, 100.0], requires_grad=True)
    >>> optimizer = RMSprop([w], lr=0.01)
    >>> (w**2).sum().backward()
    >>> optimizer.step()  # 0.01 / sqrt(1 - 0.99)
    >>> w
    tensor([ 0.9000, 99.9000], requires_grad=True)
    """

    fused = staticmethod(kernels.rmsprop)
    names = ("square_avg", "momentum_buffer", "grad_avg")
    not_negative = ("lr", "alpha", "eps", "weight_decay", "momentum")

    def __init__(
        self, params: ParamsT, lr: Number = 0.01, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
        momentum: float = 0, centered: bool = False, *, maximize: bool = False,
    ):  # fmt: skip
        defaults = {"lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"centered": centered, "maximize": maximize})

    def check(self, group: Group) -> None:
        super().check(group)
        if group["alpha"] > 1:
            raise ValueError(f"alpha must be in [0, 1], got {group['alpha']}")

    def start(self, parameter: Tensor, state: State, group: Group) -> None:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        wanted = {"square_avg": True, "momentum_buffer": group["momentum"] > 0, "grad_avg": group["centered"]}
        state.update({name: torch.zeros_like(parameter) for name, used in wanted.items() if used})

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        state["step"] += 1
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        mean_square = state["square_avg"].mul_(group["alpha"])
        mean_square.addcmul_(gradient, gradient, value=1 - group["alpha"])
        if group["centered"]:
            mean = state["grad_avg"].lerp_(gradient, 1 - group["alpha"])
            variance = mean_square.addcmul(mean, mean, value=-1)
            mean_square = torch.maximum(variance, mean_square * torch.finfo(mean.dtype).eps)
        divisor = mean_square.sqrt().add_(group["eps"])
        if group["momentum"]:
            buffer = state["momentum_buffer"].mul_(group["momentum"]).addcdiv_(gradient, divisor)
            parameter.add_(buffer, alpha=-group["lr"])
        else:
            parameter.addcdiv_(gradient, divisor, value=-group["lr"])


class Adam(RuleOptimizer):
    r"""Adam: momentum over RMSProp, both corrected for having started at zero.

    .. math::
        m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1-\beta_2) g_t^2

    .. math::
        \theta_{t+1} = \theta_t - \eta\,
        \frac{m_t / (1-\beta_1^t)}{\sqrt{v_t / (1-\beta_2^t)} + \epsilon}

    with :math:`g_t = \nabla L(\theta_t) + \lambda\theta_t`. AMSGrad divides by the root of the largest
    :math:`v` so far.

    Args:
        params: parameters, or parameter groups.
        lr: :math:`\eta`, default 1e-3.
        betas: :math:`(\beta_1, \beta_2)`, default (0.9, 0.999).
        eps: :math:`\epsilon`, default 1e-8.
        weight_decay: :math:`\lambda`, default 0; part of the gradient (:class:`AdamW` decouples it).
        amsgrad, maximize: the AMSGrad variant; climb. Default False.
        decoupled_weight_decay: decay as :class:`AdamW` does, default False.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Equal to :class:`torch.optim.Adam`. Sources: Kingma and Ba, *Adam* (2015), algorithm 1; Reddi, Kale and Kumar, *On
    the Convergence of Adam and Beyond* (2018), algorithm 2.

    >>> w = torch.tensor([1.0, 100.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([ 0.9000, 99.9000], requires_grad=True)
    """

    fused = staticmethod(kernels.adam)
    names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    not_negative = ("lr", "eps", "weight_decay")

    def __init__(
        self, params: ParamsT, lr: Number = 1e-3, betas: tuple[Number, Number] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False, decoupled_weight_decay: bool = False,
    ):  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, defaults | {"maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay})

    def check(self, group: Group) -> None:
        super().check(group)
        if len({isinstance(beta, Tensor) for beta in group["betas"]}) != 1 or len(group["betas"]) != 2:
            raise ValueError(f"betas must be two numbers or two tensors, got {group['betas']}")
        check_below_one(**{f"betas[{i}]": beta for i, beta in enumerate(group["betas"])})

    def start(self, parameter: Tensor, state: State, group: Group) -> None:
        state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
        names = ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])]
        state.update({name: torch.zeros_like(parameter) for name in names})

    def update(self, parameter: Tensor, gradient: Tensor, state: State, group: Group) -> None:
        state["step"] += 1
        t, (beta1, beta2) = state["step"].item(), group["betas"]
        if group["decoupled_weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        elif group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2)
        square.addcmul_(gradient, gradient, value=1 - beta2)
        if group["amsgrad"]:
            largest = state["max_exp_avg_sq"]
            square = torch.maximum(largest, square, out=largest)
        divisor = square.sqrt().div_((1 - beta2**t) ** 0.5).add_(group["eps"])
        parameter.addcdiv_(mean, divisor, value=-group["lr"] / (1 - beta1**t))


class AdamW(Adam):
    r"""Adam with weight decay taken out of the gradient: :math:`\theta \leftarrow (1-\eta\lambda)\theta` first.

    In :class:`Adam` the decay :math:`\lambda\theta` is part of :math:`g_t` and so is divided by
    :math:`\sqrt{v_t}`; here every parameter shrinks by the same factor in each step, whatever its gradients.

    Args:
        params, lr, betas, eps, amsgrad, maximize: as for :class:`Adam`, and so are the errors.
        weight_decay: :math:`\lambda`, default 0.01.

    Equal to :class:`torch.optim.AdamW`. Source: Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (2019).

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> w.grad = torch.zeros(1)
    >>> AdamW([w], lr=0.1, weight_decay=0.5).step()
    >>> w
    tensor([0.9500], requires_grad=True)
    """

    def __init__(
        self, params: ParamsT, lr: Number = 1e-3, betas: tuple[Number, Number] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False,
    ):  # fmt: skip
        options = {"maximize": maximize, "decoupled_weight_decay": True}
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)
