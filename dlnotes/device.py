r"""Where tensors live: the device that the course's notebooks and scripts run on."""

import os

import torch


def default_device() -> torch.device:
    r"""The device to compute on: ``DLNOTES_DEVICE`` if it is set, otherwise the best one present.

    ``DLNOTES_DEVICE`` may be ``cpu``, ``cuda`` or ``mps``. Unset or empty, the choice is CUDA, else Apple's
    MPS, else the CPU.

    Raises:
        ValueError: ``DLNOTES_DEVICE`` names none of the three.
        RuntimeError: it names a device that this machine does not have.

    >>> import os
    >>> os.environ["DLNOTES_DEVICE"] = "cpu"
    >>> default_device()
    device(type='cpu')
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    asked = os.environ.get("DLNOTES_DEVICE", "")
    if not asked:
        return torch.device(next(name for name, there in present.items() if there))
    if asked not in present:
        raise ValueError(f"DLNOTES_DEVICE must be one of {sorted(present)}, got {asked!r}")
    if not present[asked]:
        raise RuntimeError(f"DLNOTES_DEVICE asks for {asked!r}, which this machine or this build of torch lacks")
    return torch.device(asked)
