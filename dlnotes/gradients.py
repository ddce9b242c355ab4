r"""The gradients that an optimizer is about to use: gathered, checked, clipped, and named where broken."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

KERNEL_DEVICES = ("cpu", "cuda")  # where torch has one kernel that multiplies many tensors and looks for inf and NaN


def gradients(optimizer: Optimizer) -> list[Tensor]:
    r"""The gradients of the optimizer's parameters, each as a dense real tensor that shares the gradient's memory.

    Of a sparse gradient these are the values (it is coalesced first), of a complex one its real and imaginary parts. A
    gradient that is expanded, so that one number in memory stands for several, is written out.

    Raises:
        RuntimeError: there are none.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> (3 * w).sum().backward()
    >>> gradients(torch.optim.SGD([w, torch.zeros(1, requires_grad=True)], lr=0.1))
    [tensor([3., 3.])]
    """
    found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if not found:
        raise RuntimeError("no parameter of the optimizer has a gradient: call backward, on a loss that depends on one")
    if any([g.is_sparse or 0 in g.stride() or g.is_complex() for g in found]):
        parameters = (p for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        found = [_plain(p) for p in parameters]
    return found


@torch.no_grad()
def _plain(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    assert gradient is not None
    if gradient.is_sparse:
        parameter.grad = gradient = gradient.coalesce()
        gradient = gradient.values()
    elif 0 in gradient.stride():
        parameter.grad = gradient = gradient.contiguous()
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient


class Multiply:
    r"""Multiply tensors by a factor, in place, and tell whether all numbers in them were finite, in one pass.

    The numbers are judged as they came, before the product; a factor of 1 only looks. The factor is rounded to float32.
    On a GPU there is one wait. An object of its own because it keeps the scalars that the kernel wants on the device:
    to make them costs more than to look at the gradients of a small network.

    >>> multiply_, x = Multiply(), torch.tensor([1.0, 2.0])
    >>> multiply_([x], 0.5), multiply_([x, torch.tensor([float("nan")])], 1.0), x
    (True, False, tensor([0.5000, 1.0000]))
    """

    def __init__(self):
        self._scalars: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self._factor = 1.0

    def __call__(self, tensors: Sequence[Tensor], factor: float) -> bool:
        r"""Do it; return whether all was finite."""
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor)
        if factor != self._factor:
            self._factor, self._scalars = factor, {}
        finite = True
        for (device, _), alike in kinds.items():
            if device.type not in KERNEL_DEVICES:
                finite = torch.stack([tensor.isfinite().all() for tensor in alike]).all().item() and finite
                torch._foreach_mul_(alike, factor)  # pyright: ignore
                continue
            if device not in self._scalars:
                self._scalars[device] = torch.zeros(1, device=device), torch.full((1,), factor, device=device)
            flag, one = self._scalars[device]
            torch._amp_foreach_non_finite_check_and_unscale_(alike, flag, one)  # pyright: ignore
            if flag.item():
                flag.zero_()
                finite = False
        return bool(finite)


class Look:
    r"""Tell whether all gradients of an optimizer are finite, before every update and so at little cost.

    Torch's kernel takes plain gradients as they are, and refuses those that are not (sparse, complex, expanded, on
    several devices) before it looks at them; these are gathered first. An object of its own because it keeps the
    scalars that the kernel wants on the device.

    Args:
        device: where the gradients are; others are found too, more slowly.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> optimizer, finite = torch.optim.SGD([w], lr=0.1), Look(w.device)
    >>> w.grad = torch.tensor([1.0, 2.0])
    >>> finite(optimizer)
    True
    >>> w.grad = torch.tensor([1.0, float("inf")])
    >>> finite(optimizer)
    False
    """

    def __init__(self, device: torch.device):
        self._flag, self._one = torch.zeros(1, device=device), torch.ones(1, device=device)
        self._multiply_ = Multiply()

    def __call__(self, optimizer: Optimizer) -> bool:
        r"""Look.

        Raises:
            RuntimeError: there are no gradients.
        """
        found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        try:
            torch._amp_foreach_non_finite_check_and_unscale_(found, self._flag, self._one)  # pyright: ignore
            if found and not self._flag.item():
                return True
        except RuntimeError:
            pass
        self._flag.zero_()
        found = gradients(optimizer)
        # The kernel takes a float64 beyond float32's range for infinite.
        return self._multiply_(found, 1.0) or all([bool(gradient.isfinite().all()) for gradient in found])


@torch.no_grad()
def norm(tensors: Sequence[Tensor]) -> Tensor:
    r"""The Euclidean norm of all numbers in the tensors together, a scalar.

    .. math:: \lVert g \rVert = \Big(\sum_j \lVert g_j \rVert^2\Big)^{1/2}

    The squares of finite numbers can overflow (in float32 those beyond :math:`10^{19}`); then the norm is computed in
    float64. It is infinite or NaN only where a number is, or where it is too large for a float64.

    >>> norm([torch.tensor([3.0]), torch.tensor([[4.0]])]), norm([torch.tensor([3e20, 4e20])])
    (tensor(5.), tensor(5.0000e+20, dtype=torch.float64))
    """
    device = tensors[0].device
    parts = [part.to(device) for part in torch._foreach_norm(list(tensors))]  # pyright: ignore
    total = torch.linalg.vector_norm(torch.stack(parts))
    if not total.isfinite():
        exact = [torch.linalg.vector_norm(tensor, dtype=torch.float64).to(device) for tensor in tensors]
        total = torch.linalg.vector_norm(torch.stack(exact))
    return total


@torch.no_grad()
def clip_(tensors: Sequence[Tensor], max_norm: float) -> float:
    r"""Scale the tensors down, in place, until their :func:`norm` is at most ``max_norm``; return it as it was.

    .. math:: g \leftarrow \min\Big(1, \frac{c}{\lVert g \rVert + 10^{-6}}\Big)\, g

    Equal to :func:`torch.nn.utils.clip_grad_norm_`. Differs: a norm whose square overflows clips like any other, and
    where a number is infinite or NaN nothing is changed. Source: Pascanu, Mikolov and Bengio, *On the difficulty of
    training recurrent neural networks* (2013), section 3.2.

    >>> g = torch.tensor([3.0, 4.0])
    >>> clip_([g], 1.0), g
    (5.0, tensor([0.6000, 0.8000]))
    """
    total = norm(tensors)
    factor = (max_norm / (total + 1e-6)).item()  # in the norm's own precision, as torch has it
    value = total.item()
    if factor < 1 and math.isfinite(value):
        torch._foreach_mul_(list(tensors), factor)  # pyright: ignore
    return value


def why_refused(model: nn.Module, loss: float) -> str:
    r"""Why no update is made: what is NaN or infinite, by name, and where to look.

    >>> layer = nn.Linear(2, 1)
    >>> layer.bias.grad = torch.tensor([float("inf")])
    >>> print(why_refused(layer, loss=0.5).partition(":")[0])
    the gradient's norm is inf, that of bias, and no update was made; the loss is finite
    """
    parameters = dict(model.named_parameters())
    found = {name: _plain(p) for name, p in parameters.items() if p.grad is not None}
    broken = _some(name for name, parameter in parameters.items() if not parameter.isfinite().all())
    if math.isfinite(loss):
        names = _some(name for name, gradient in found.items() if not gradient.isfinite().all())
        what = f"the gradient's norm is {norm(list(found.values())).item()}, that of {names}"
    else:
        what = f"the loss is {loss}"
    if broken:
        why = f"the last update made {broken} non-finite: look at its gradient and the learning rate"
    elif math.isfinite(loss):
        why = "the loss is finite: look for a root, a logarithm or a division whose derivative at 0 is infinite"
    else:
        why = (
            "the parameters are still finite: look at this batch for NaN or inf, at a logarithm, root or division in "
            "the loss, and at the learning rate"
        )
    return f"{what}, and no update was made; {why}; torch.autograd.set_detect_anomaly(True) names the operation"


def _some(names: Iterable[str]) -> str:
    r"""The names, or the first of many."""
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
