import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from training import make_data, make_model, make_runner, make_step

from dlnotes.hooks import Hook
from dlnotes.modes import evaluating, fix, fixed, freeze, frozen, kept, train_but
from dlnotes.runner import Runner


def statistics(model):
    return model[1].running_mean.clone(), model[1].num_batches_tracked.item()


def test_parts_that_the_user_froze_stay_frozen():
    model = make_model()
    model[1].eval()
    before, runner = statistics(model), make_runner(model=model)
    runner.train(2)
    assert torch.equal(statistics(model)[0], before[0])
    assert [module.training for module in model] == [True, False, True, True, True]
    runner.validate()
    assert not model[1].training


def test_a_hook_may_freeze_at_the_start_of_an_epoch():
    class Freezes(Hook):
        def before_train_epoch(self, runner):
            assert runner.step.model.training
            runner.step.model[1].train(runner.epoch == 0)

    runner = make_runner([Freezes()])
    runner.train(1)
    before = statistics(runner.step.model)
    assert before[1] == 6
    runner.train(3)
    assert statistics(runner.step.model)[1] == 6


def test_a_frozen_part_stays_so_although_a_hook_judges_the_whole_model():
    class Judge(Hook):
        def after_train_epoch(self, runner):
            runner.step.model.eval()

    model = make_model()
    freeze(model[:2])
    before = {name: value.clone() for name, value in model[:2].state_dict().items()}
    runner = make_runner([Judge()], model=model)
    runner.train(3)
    assert all(torch.equal(value, before[name]) for name, value in model[:2].state_dict().items())
    assert model[0].weight.grad is None
    train_but(model, runner.memory.frozen)
    assert frozen(model) == ["0", "1"]


def test_a_model_that_is_in_evaluation_mode_as_a_whole_is_trained():
    model = make_model().eval()
    Runner(make_step(model), DataLoader(make_data(), 4)).train(1)
    assert statistics(model)[1] == 6
    assert model.training


def test_modes_come_back_after_an_error():
    model = make_model()
    model[3].eval()
    with pytest.raises(ZeroDivisionError), evaluating(model):
        assert frozen(model) == ["", "0", "1", "2", "3", "4"]
        raise ZeroDivisionError
    assert frozen(model) == ["3"]


def test_a_part_in_training_mode_inside_of_a_frozen_one():
    model = nn.Sequential(nn.Sequential(nn.Dropout(), nn.Dropout()), nn.Dropout()).eval()
    assert train_but(model, ["0", "0.1"]) == ["0", "0.1"]
    assert [m.training for m in model.modules()] == [True, False, True, False, True]


def test_parameters_without_gradient():
    model = make_model()
    fix(model, ["0.weight", "4.bias"])
    assert fixed(model) == ["0.weight", "4.bias"]
    fix(model, [])
    assert fixed(model) == []


@pytest.mark.parametrize("again", [False, True])
def test_training_mode_set_after_freezing_undoes_half_of_it(again):
    model = make_model()
    freeze(model[:2])
    model.train()
    if again:
        freeze(model[:2])
    before, weight = statistics(model), model[1].weight.clone()
    make_runner(model=model).train(1)
    assert torch.equal(model[1].weight, weight)
    assert not model[1].weight.requires_grad
    assert (statistics(model)[1] == before[1]) == again


def test_modes_are_kept():
    model = make_model()
    model[3].eval()
    with pytest.raises(ZeroDivisionError), kept(model):
        model.eval()
        raise ZeroDivisionError
    assert frozen(model) == ["3"]
