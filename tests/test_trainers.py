"""Our optimizers and schedules in the trainers that readers meet at work, each end beside that of torch's own.

Lightning, accelerate and transformers are not among what the tests need: a trainer that is not installed is skipped,
unless DLNOTES_REQUIRE_TRAINERS=1 makes that a failure. The weekly run installs all three.
"""

import importlib
import os

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from dlnotes import optim, schedules

# What they warn about is theirs; what this package would warn about fails as everywhere.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.filterwarnings(r"error:::dlnotes\..*")]

OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "Adagrad": {"lr": 0.1},
    "RMSprop": {"lr": 0.01, "momentum": 0.5},
    "Adam": {"lr": 0.02},
    "AdamW": {"lr": 0.02, "weight_decay": 0.1},
}
WHO = {"ours": (optim, lambda o: schedules.scheduler(o, schedules.warmup(5)))}
WHO["torch"] = (torch.optim, lambda o: LambdaLR(o, lambda t: min((t + 1) / 5, 1.0)))
EPOCHS, SMALL = 4, 6e-8


def trainer(name):
    """The module, or a skipped test."""
    if os.environ.get("DLNOTES_REQUIRE_TRAINERS") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


class Points(Dataset):
    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        self.x = torch.randn(32, 3, generator=draw)
        self.y = self.x.sum(dim=1, keepdim=True).sin()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "labels": self.y[i]}


class Net(nn.Sequential):
    def __init__(self):
        torch.manual_seed(1)
        super().__init__(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(self, x, labels):
        return {"loss": F.mse_loss(super().forward(x), labels)}


def both(model, who, name):
    package, schedule = WHO[who]
    optimizer = getattr(package, name)(model.parameters(), **OPTIMIZERS[name])
    return optimizer, schedule(optimizer)


def end(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def assert_same_end(run, name):
    ours, theirs = run("ours", name), run("torch", name)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=SMALL)
    assert (ours - end(Net())).abs().max() > 0.01  # it trained


@pytest.fixture(scope="module")
def lightning():
    """A function that trains under Lightning and returns the end of its weights, and may stop, save and go on."""
    pl = trainer("lightning.pytorch")

    class Module(pl.LightningModule):
        def __init__(self, who, name):
            super().__init__()
            self.net, self.choice = Net(), (who, name)

        def training_step(self, batch, _):
            return self.net(**batch)["loss"]

        def configure_optimizers(self):
            optimizer, schedule = both(self, *self.choice)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def fit(who, name, epochs=EPOCHS, start=None, save=None):
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = pl.Trainer(
            accelerator="cpu", precision="bf16-mixed", gradient_clip_val=0.5, accumulate_grad_batches=2,
            max_epochs=epochs, **quiet,
        )  # fmt: skip
        module = Module(who, name)
        if start:  # the weights can come from the checkpoint alone
            nn.utils.vector_to_parameters(torch.zeros_like(end(module.net)), module.net.parameters())
        trainer.fit(module, DataLoader(Points(), batch_size=4), ckpt_path=start)
        if save:
            trainer.save_checkpoint(save)
        return end(module.net)

    return fit


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lightning(lightning, name):
    assert_same_end(lightning, name)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("first", "second"), [("ours", "torch"), ("torch", "ours")])
def test_lightning_resumes_the_one_with_the_other(lightning, tmp_path, name, first, second):
    lightning(first, name, EPOCHS // 2, save=tmp_path / "half.ckpt")
    resumed = lightning(second, name, start=tmp_path / "half.ckpt")
    torch.testing.assert_close(resumed, lightning(second, name), rtol=0, atol=SMALL)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_accelerate(name):
    accelerate = trainer("accelerate")

    def run(who, name):
        accelerator = accelerate.Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2, cpu=True)
        model = Net()
        parts = (model, *both(model, who, name), DataLoader(Points(), batch_size=4))
        model, optimizer, schedule, loader = accelerator.prepare(*parts)
        for _ in range(EPOCHS):
            for batch in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(model(**batch)["loss"])
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), 0.5)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
        return end(model)

    assert_same_end(run, name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_transformers(name, tmp_path):
    transformers = trainer("transformers")
    trainer("accelerate")  # its trainer needs it

    def run(who, name):
        model = Net()
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), num_train_epochs=EPOCHS, per_device_train_batch_size=4, bf16=True, use_cpu=True,
            gradient_accumulation_steps=2, max_grad_norm=0.5, save_strategy="no", logging_strategy="no",
            report_to="none", disable_tqdm=True,
        )  # fmt: skip
        optimizers = both(model, who, name)
        transformers.Trainer(model, arguments, train_dataset=Points(), optimizers=optimizers).train()
        return end(model)

    assert_same_end(run, name)
