"""One step at a time: its gradients, and the state that it goes on from."""

import copy

import pytest
import torch
import torch.nn.functional as F

from data.pairs import Batch
from loss import Contrast, Pixel
from loss.learner import Learner
from loss.objective import Phase
from model import ContrastiveSR, build

CPU = torch.device("cpu")
NAME = "restoration.compress.0.weight"  # of DASR


def learner(objective=None, **how):
    torch.manual_seed(1)
    net = build("EDSR", scale=2, n_feats=8, n_blocks=1)
    return Learner(net, objective or Pixel(), device=CPU, **how)


def batch(number=0):
    generator = torch.Generator().manual_seed(number)
    return Batch(*(torch.rand(2, 3, side, side, generator=generator) for side in (8, 16)))


def test_gradients_are_scaled_down_to_the_norm_that_is_asked_for():
    learners = {clip: learner(clip_grad=clip) for clip in (0.0, 1e-3, 1e6)}
    for each in learners.values():
        norm = each.step(batch(), 0, 1e-2)["gradient"]
        assert norm > 1e-2  # as it was before
    gradients = [[p.grad for p in each.net.parameters() if p.grad is not None] for each in learners.values()]
    plain, clipped, loose = (torch.cat([gradient.flatten() for gradient in found]) for found in gradients)
    torch.testing.assert_close(clipped.norm(), torch.tensor(1e-3), rtol=1e-3, atol=0)
    torch.testing.assert_close(F.normalize(clipped, dim=0), F.normalize(plain, dim=0))
    assert torch.equal(loose, plain)


def test_players_of_a_game_are_clipped_apart():
    """A discriminator with a large gradient does not slow the network down."""

    class Game(Pixel):
        def __init__(self):
            super().__init__()
            self.other = torch.nn.Parameter(torch.ones(3))

        def phases(self, net, batch, step):
            for phase in super().phases(net, batch, step):
                yield phase._replace(step=False)
            total = 100 * self.other.sum()
            yield Phase({"other": total}, total)

    other_player = Game()
    alone, game = learner(clip_grad=0.1), learner(other_player, clip_grad=0.1)
    own, both = (each.step(batch(), 0, 1e-2)["gradient"] for each in (alone, game))
    for a, b in zip(alone.net.parameters(), game.net.parameters(), strict=True):
        assert torch.equal(a, b)
    assert other_player.other.grad is not None
    torch.testing.assert_close(other_player.other.grad.norm(), torch.tensor(0.1), rtol=1e-4, atol=0)
    torch.testing.assert_close(both, (own**2 + 3 * 100**2).sqrt())


def test_an_objective_that_takes_several_steps_a_batch_refuses_parts():
    class TwoSteps(Pixel):
        steps = 2

    with pytest.raises(ValueError, match="`accumulate` 2: this objective takes 2 steps in each batch"):
        learner(TwoSteps(), accumulate=2)
    learner(TwoSteps())


@pytest.mark.parametrize("how", [{}, {"ema": 0.9}, {"accumulate": 2}])
def test_a_state_is_all_that_the_next_step_needs(how):
    first, second = learner(**how), learner(**how)
    first.step(batch(0), 0, 1e-2)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for each in (first, second):
        each.step(batch(1), 1, 1e-2)
    for a, b in zip(first.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(first.eval_net.parameters(), second.eval_net.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["net"].update(config={"scale": 3}),
        lambda state: state["net"]["params"].pop(NAME),
        lambda state: state["net"]["params"].update({NAME: torch.ones(8, 256, dtype=torch.int8)}),
        lambda state: state["net"]["params"].update({NAME: torch.ones(8, 256, dtype=torch.complex64)}),
        lambda state: state["objective"].update({"moco.queue": torch.ones(256, 16, dtype=torch.bool)}),
        lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.ones(7)),
        lambda state: state["optimizer"]["state"][0].update(exp_avg_sq=state["optimizer"]["state"][0]["step"]),
        lambda state: state["optimizer"]["state"][0].pop("step"),
        lambda state: state["optimizer"]["state"][0].update(max_exp_avg_sq=torch.ones(64, 3, 3, 3)),
        lambda state: state["optimizer"]["state"].update({0: []}),
        lambda state: state["optimizer"]["param_groups"][0].update(params=[0]),
        lambda state: state["optimizer"]["param_groups"].append({"params": [99]}),
    ],
)
def test_a_state_of_other_tensors_is_refused(change):
    net = build("DASR", scale=2, n_feats=8, n_blocks=1)
    assert isinstance(net, ContrastiveSR)
    learner = Learner(net, Contrast(net, queue=16, warmup_steps=0), device=CPU)
    learner.step(Batch(torch.rand(4, 3, 16, 16), torch.rand(4, 3, 32, 32)), 0, 1e-3)
    state = copy.deepcopy(learner.state_dict())
    learner.load_state_dict(copy.deepcopy(state))
    change(state)
    with pytest.raises((ValueError, RuntimeError, AttributeError)):
        learner.load_state_dict(state)
