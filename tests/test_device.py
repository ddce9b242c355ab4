import pytest
import torch

from dlnotes.device import default_device


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv("DLNOTES_DEVICE", "cpu")
    assert default_device() == torch.device("cpu")


@pytest.mark.parametrize(("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_default_is_the_best_present(monkeypatch, cuda, mps, best):
    monkeypatch.delenv("DLNOTES_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device().type == best


def test_unknown_and_absent_devices_are_refused(monkeypatch):
    monkeypatch.setenv("DLNOTES_DEVICE", "gpu")
    with pytest.raises(ValueError, match="DLNOTES_DEVICE must be one of .* got 'gpu'"):
        default_device()
    monkeypatch.setenv("DLNOTES_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="asks for 'cuda'"):
        default_device()
