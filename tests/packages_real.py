"""Run the optimisers and samplers of other packages themselves, and say what differs from the numbers that are stored.

    make packages                                    what is installed in .venv
    python tests/packages_real.py                    the same with any Python: which needs NumPy and the packages alone
    python tests/packages_real.py --store            write tests/data/packages/NAME.json anew
    python tests/packages_real.py --only torch,optax

Descents are paths on L = ½ θ·Hθ of 20 steps (of more where the convention shows late), in 64 bits where the package
allows it: in the plane with H = diag(4, 1) from (1, 2), all of it one tensor, or with two tensors of two numbers each,
where it matters. Samplers are asked for one step on ½ k θ²: the matrix A by differences of starts under the same random
numbers, and the covariance Q of many draws.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import math
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "data" / "packages"
PROBLEMS = {"plane": ((4.0, 1.0), (1.0, 2.0), (2,)), "tensors": ((4.0, 1.0, 2.0, 0.5), (1.0, 2.0, 3.0, -1.0), (2, 2))}
DRAWS = 200_000
RUNS = []  # (package, call, arguments, kind, function)


def needs(name):
    """A module of another package; imported where it is used, so that what is not installed is left out alone."""
    return importlib.import_module(name)


def run(package, call, *, problem="plane", since=0, at=None, **arguments):
    """Register a run: the function is handed the arguments, and gives the positions, shape (steps + 1, dim).

    They mean something from step `since` on; `at`: they are one, and belong to that step of a method.
    """

    def registered(function):
        RUNS.append(
            {
                "package": package,
                "call": call,
                "arguments": arguments,
                "problem": problem,
                "since": since,
                "at": at,
                "function": functools.partial(function, problem=problem),
            }
        )
        return function

    return registered


def law(package, call, *, curvature=1.0, **arguments):
    """Register a sampler: the function is handed curvature and arguments, and gives A and draws of e, (n, size)."""

    def registered(function):
        entry = {"package": package, "call": call, "arguments": arguments, "curvature": curvature}
        RUNS.append(entry | {"function": functools.partial(function, curvature), "law": True})
        return function

    return registered


# --- PyTorch: what is shared ----------------------------------------------------------------------------------


class Bowl:
    """The quadratic of a problem, with its parameters as PyTorch has them."""

    def __init__(self, problem):
        torch = needs("torch")
        self.h, self.start, self.shapes = PROBLEMS[problem]
        parts = np.split(np.asarray(self.start), np.cumsum(self.shapes)[:-1])
        curves = np.split(np.asarray(self.h), np.cumsum(self.shapes)[:-1])
        self.parameters = [torch.nn.Parameter(torch.tensor(part, dtype=torch.float64)) for part in parts]
        self.curves = [torch.tensor(curve, dtype=torch.float64) for curve in curves]

    def loss(self):
        return sum((h * p**2).sum() for h, p in zip(self.curves, self.parameters, strict=True)) / 2

    def backward(self):
        for p in self.parameters:
            p.grad = None
        value = self.loss()
        value.backward()
        return value

    def position(self, parameters=None):
        parameters = self.parameters if parameters is None else list(parameters)
        return np.concatenate([p.detach().numpy() for p in parameters])

    def module(self):
        """A model with these parameters, called without arguments for the loss."""
        torch, bowl = needs("torch"), self

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.each = torch.nn.ParameterList(bowl.parameters)

            def forward(self, *_):
                return sum((h * p**2).sum() for h, p in zip(bowl.curves, self.each, strict=True)) / 2

        return Model()


def descent(make, problem, steps=20, after=None):
    """Positions of a plain PyTorch loop: backward, step, and what comes `after`."""
    bowl = Bowl(problem)
    optimizer, path = make(bowl), [bowl.position()]
    for _ in range(steps):
        bowl.backward()
        optimizer.step()
        if after is not None:
            after(optimizer)
        path.append(bowl.position())
    return path


def closing(make, problem, steps=20, before=False):
    """Positions of a loop with a closure; `before`: with a gradient that is there when step is called."""
    bowl = Bowl(problem)
    optimizer, path = make(bowl), [bowl.position()]
    for _ in range(steps):
        if before:
            bowl.backward()
        optimizer.step(bowl.backward)
        path.append(bowl.position())
    return path


def averaging(make, problem, steps=20, lr=0.1):
    """Positions of an average beside gradient descent: make(bowl) gives (after each step, where the average is)."""
    torch, bowl = needs("torch"), Bowl(problem)
    optimizer = torch.optim.SGD(bowl.parameters, lr=lr)
    update, position = make(bowl)
    path = [bowl.position()]
    for step in range(1, steps + 1):
        bowl.backward()
        optimizer.step()
        update(step)
        path.append(position(step))
    return path


# --- torch ----------------------------------------------------------------------------------------------------

for extra in (
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"weight_decay": 0.3},
    {"momentum": 0.9, "weight_decay": 0.3},
    {"momentum": 0.9, "weight_decay": 0.3, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.3},
):

    @run("torch", "torch.optim.SGD", lr=0.1, **extra)
    def torch_sgd(problem, **options):
        return descent(lambda bowl: needs("torch").optim.SGD(bowl.parameters, **options), problem)


@run("torch", "torch.optim.Adam", lr=0.1)
@run("torch", "torch.optim.Adam", lr=0.1, weight_decay=0.3)
@run("torch", "torch.optim.Adam", lr=0.1, weight_decay=0.3, decoupled_weight_decay=True)
def torch_adam(problem, **options):
    return descent(lambda bowl: needs("torch").optim.Adam(bowl.parameters, **options), problem)


@run("torch", "torch.optim.AdamW", lr=0.1)
def torch_adamw(problem, **options):
    return descent(lambda bowl: needs("torch").optim.AdamW(bowl.parameters, **options), problem)


def drop(step):
    return 1.0 if step < 5 else 0.1


def cosine(step):
    return (1 + math.cos(math.pi * min(step / 20, 1))) / 2


def fall(step):
    """Step sizes, where the others are factors."""
    return 0.05 if step < 5 else 0.005


FACTORS = {"drop": drop, "cosine": cosine, "fall": fall}

for factor in ("drop", "cosine"):
    for nesterov in (False, True):
        inside = {"call": "torch.optim.SGD", "arguments": {"lr": 0.05, "momentum": 0.9, "nesterov": nesterov}}

        @run("torch", "torch.optim.lr_scheduler.LambdaLR", optimizer=inside, lr_lambda=factor)
        def torch_schedule(problem, optimizer, lr_lambda):
            torch, schedules = needs("torch"), []

            def make(bowl):
                made = torch.optim.SGD(bowl.parameters, **optimizer["arguments"])
                schedules.append(torch.optim.lr_scheduler.LambdaLR(made, FACTORS[lr_lambda]))
                return made

            return descent(make, problem, after=lambda _: schedules[0].step())


@run("torch", "torch.optim.swa_utils.AveragedModel", since=5, method="GD(0.1)", start=5, every=3)
@run("torch", "torch.optim.swa_utils.AveragedModel", since=1, method="GD(0.1)", decay=0.9)
def torch_average(problem, method, start=1, every=1, decay=None):
    utils = needs("torch.optim.swa_utils")

    def make(bowl):
        average = None if decay is None else utils.get_ema_multi_avg_fn(decay)
        model = utils.AveragedModel(bowl.module(), multi_avg_fn=average)

        def update(step):
            if step >= start and (step - start) % every == 0:
                model.update_parameters(bowl.module())

        return update, lambda _: bowl.position(model.module.parameters())

    return averaging(make, problem)


# --- pytorch_optimizer ----------------------------------------------------------------------------------------


def torch_base(options):
    """SGD's own arguments among those of a wrapper."""
    return {key: options.pop(key) for key in list(options) if key in ("lr", "momentum", "nesterov", "weight_decay")}


for extra in (
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"adaptive": True},
    {"weight_decay": 0.3},
    {"momentum": 0.9, "weight_decay": 0.3},
):

    @run("pytorch_optimizer", "pytorch_optimizer.SAM", rho=0.1, lr=0.1, **extra)
    def pytorch_optimizer_sam(problem, **options):
        torch, package = needs("torch"), needs("pytorch_optimizer")
        make = lambda bowl: package.SAM(bowl.parameters, torch.optim.SGD, **options)  # noqa: E731
        return closing(make, problem, before=True)


@run("pytorch_optimizer", "pytorch_optimizer.SAM", rho=0.1, lr=0.1, base="torch.optim.Adam", weight_decay=0.3)
def pytorch_optimizer_adam(problem, base, **options):
    torch, package = needs("torch"), needs("pytorch_optimizer")
    return closing(lambda bowl: package.SAM(bowl.parameters, torch.optim.Adam, **options), problem, before=True)


@run("pytorch_optimizer", "pytorch_optimizer.SAM", problem="tensors", rho=0.1, lr=0.1, groups=[1.0, 0.0])
def pytorch_optimizer_groups(problem, rho, lr, groups):
    torch, package = needs("torch"), needs("pytorch_optimizer")

    def make(bowl):
        each = [{"params": [p], "rho": rho * g} for p, g in zip(bowl.parameters, groups, strict=True)]
        return package.SAM(each, torch.optim.SGD, rho=rho, lr=lr)

    return closing(make, problem, before=True)


@run("pytorch_optimizer", "pytorch_optimizer.SAM", rho=0.1, lr=0.1, closure_first=False)
def pytorch_optimizer_lagged(problem, closure_first, **options):
    torch, package = needs("torch"), needs("pytorch_optimizer")
    return closing(lambda bowl: package.SAM(bowl.parameters, torch.optim.SGD, **options), problem)


for extra in ({"gamma": 0.5}, {}, {"momentum": 0.9}, {"momentum": 0.9, "decouple": False}):

    @run("pytorch_optimizer", "pytorch_optimizer.WSAM", rho=0.1, lr=0.1, **extra)
    def pytorch_optimizer_wsam(problem, **options):
        torch, package = needs("torch"), needs("pytorch_optimizer")
        make = lambda bowl: package.WSAM(bowl.module(), bowl.parameters, torch.optim.SGD, **options)  # noqa: E731
        return closing(make, problem)


@run("pytorch_optimizer", "pytorch_optimizer.GSAM", rho=0.1, lr=0.1, alpha=0.0)
@run("pytorch_optimizer", "pytorch_optimizer.GSAM", rho=0.1, lr=0.1)
@run("pytorch_optimizer", "pytorch_optimizer.GSAM", rho=0.1, lr=0.1, momentum=0.9)
def pytorch_optimizer_gsam(problem, rho, **options):
    torch, package = needs("torch"), needs("pytorch_optimizer")
    bowl, inside = Bowl(problem), torch_base(options)
    model = bowl.module()

    class Constant:
        def step(self):
            return rho

    base = torch.optim.SGD(bowl.parameters, **inside)
    optimizer = package.GSAM(bowl.parameters, base, model, Constant(), **options)
    path = [bowl.position()]
    for _ in range(20):
        optimizer.set_closure(lambda outputs, _: outputs, None, None)
        optimizer.step()
        path.append(bowl.position())
    return path


@run("pytorch_optimizer", "pytorch_optimizer.LookSAM", rho=0.1, lr=0.1, k=3)
@run("pytorch_optimizer", "pytorch_optimizer.LookSAM", rho=0.1, lr=0.1, k=3, momentum=0.9)
def pytorch_optimizer_looksam(problem, **options):
    torch, package = needs("torch"), needs("pytorch_optimizer")
    make = lambda bowl: package.LookSAM(bowl.parameters, torch.optim.SGD, **options)  # noqa: E731
    return closing(make, problem, before=True)


@run("pytorch_optimizer", "pytorch_optimizer.FriendlySAM", rho=0.1, lr=0.1)
@run("pytorch_optimizer", "pytorch_optimizer.FriendlySAM", rho=0.1, lr=0.1, sigma=0.5, lmbda=0.6, momentum=0.9)
def pytorch_optimizer_friendly(problem, **options):
    torch, package = needs("torch"), needs("pytorch_optimizer")
    make = lambda bowl: package.FriendlySAM(bowl.parameters, torch.optim.SGD, **options)  # noqa: E731
    return closing(make, problem, before=True)


@run("pytorch_optimizer", "pytorch_optimizer.SGDW", lr=0.1, weight_decay=0.3)
@run("pytorch_optimizer", "pytorch_optimizer.SGDW", lr=0.1, momentum=0.9, weight_decay=0.3)
@run("pytorch_optimizer", "pytorch_optimizer.SGDW", lr=0.1, momentum=0.9, weight_decay=0.3, weight_decouple=False)
@run("pytorch_optimizer", "pytorch_optimizer.SGDW", lr=0.1, momentum=0.9, nesterov=True)
@run("pytorch_optimizer", "pytorch_optimizer.SGDW", lr=0.1, momentum=0.9, dampening=0.3)
def pytorch_optimizer_sgdw(problem, **options):
    return descent(lambda bowl: needs("pytorch_optimizer").SGDW(bowl.parameters, **options), problem)


@run("pytorch_optimizer", "pytorch_optimizer.Lookahead", method="GD(0.1)", k=3)
@run("pytorch_optimizer", "pytorch_optimizer.Lookahead", method="GD(0.1, momentum=0.9)", k=3, pullback_momentum="reset")
@run("pytorch_optimizer", "pytorch_optimizer.Lookahead", method="GD(0.1, momentum=0.9)", k=3)
def pytorch_optimizer_lookahead(problem, method, **options):
    torch, package = needs("torch"), needs("pytorch_optimizer")
    momentum = 0.9 if "0.9" in method else 0.0

    def make(bowl):
        return package.Lookahead(torch.optim.SGD(bowl.parameters, lr=0.1, momentum=momentum), **options)

    return descent(make, problem)


# --- torchzero ------------------------------------------------------------------------------------------------


def torchzero(problem, modules, steps=20):
    package = needs("torchzero")
    return closing(lambda bowl: package.Optimizer(bowl.parameters, *modules(package.m)), problem, steps)


@run("torchzero", "torchzero.m.SAM", rho=0.1, lr=0.1)
@run("torchzero", "torchzero.m.SAM", problem="tensors", rho=0.1, lr=0.1)
def torchzero_sam(problem, lr, **options):
    return torchzero(problem, lambda m: (m.SAM(**options), m.LR(lr)))


@run("torchzero", "torchzero.m.SAM", rho=0.1, lr=0.1, momentum=0.9)
def torchzero_sam_momentum(problem, lr, rho, momentum):
    return torchzero(problem, lambda m: (m.SAM(rho), m.HeavyBall(momentum), m.LR(lr)))


@run("torchzero", "torchzero.m.ASAM", rho=0.1, lr=0.1, momentum=0.9)
@run("torchzero", "torchzero.m.ASAM", rho=0.1, lr=0.1)
@run("torchzero", "torchzero.m.ASAM", problem="tensors", rho=0.1, lr=0.1)
def torchzero_asam(problem, lr, momentum=None, **options):
    def modules(m):
        return (m.ASAM(**options), *(() if momentum is None else (m.HeavyBall(momentum),)), m.LR(lr))

    return torchzero(problem, modules)


@run("torchzero", "torchzero.m.HeavyBall", lr=0.1)
@run("torchzero", "torchzero.m.HeavyBall", lr=0.1, momentum=0.8, dampening=0.3)
def torchzero_heavy(problem, lr, **options):
    return torchzero(problem, lambda m: (m.HeavyBall(**options), m.LR(lr)))


@run("torchzero", "torchzero.m.EMA", lr=0.1, momentum=0.9)
def torchzero_ema(problem, lr, **options):
    return torchzero(problem, lambda m: (m.EMA(**options), m.LR(lr)))


@run("torchzero", "torchzero.m.WeightDecay", lr=0.1, weight_decay=0.3)
@run("torchzero", "torchzero.m.WeightDecay", lr=0.1, weight_decay=0.03, after_lr=True)
def torchzero_decay(problem, lr, weight_decay, after_lr=False):
    def modules(m):
        return (m.LR(lr), m.WeightDecay(weight_decay)) if after_lr else (m.WeightDecay(weight_decay), m.LR(lr))

    return torchzero(problem, modules)


@run("torchzero", "torchzero.m.MSAMMomentum", lr=0.1, momentum=0.9, rho=0.1)
@run("torchzero", "torchzero.m.MSAMMomentum", problem="tensors", lr=0.1, momentum=0.9, rho=0.1)
def torchzero_msam(problem, **options):
    return torchzero(problem, lambda m: (m.MSAMMomentum(**options),))


# --- heavyball, unifiedsam, temperon, sam_sps -----------------------------------------------------------------


@run("heavyball", "heavyball.SGD", lr=0.1)
@run("heavyball", "heavyball.SGD", lr=0.1, weight_decay=0.3)
def heavyball_sgd(problem, lr, beta=0.9, weight_decay=0):
    package = needs("heavyball")
    return closing(lambda b: package.SGD(b.parameters, lr=lr, beta=beta, weight_decay=weight_decay), problem)


@run("heavyball", "heavyball.SAMWrapper", ball=0.02, lr=0.1, beta=0.0)
def heavyball_sam(problem, ball, lr, beta):
    package = needs("heavyball")

    def make(bowl):
        return package.SAMWrapper(bowl.parameters, package.SGD(bowl.parameters, lr=lr, beta=beta), ball=ball)

    return closing(make, problem)


@run("unifiedsam", "unifiedsam.unifiedSAM", rho=0.1, lambd="1/t", lr=0.1)
@run("unifiedsam", "unifiedsam.unifiedSAM", rho=0.1, lambd="1-1/t", lr=0.1)
@run("unifiedsam", "unifiedsam.unifiedSAM", rho=0.1, lambd=0.0, lr=0.1)
@run("unifiedsam", "unifiedsam.unifiedSAM", rho=0.1, lambd=1.0, lr=0.1)
@run("unifiedsam", "unifiedsam.unifiedSAM", rho=0.1, lambd=0.5, lr=0.1, momentum=0.9)
def unifiedsam(problem, **options):
    torch, package = needs("torch"), needs("unifiedsam")
    make = lambda bowl: package.unifiedSAM(bowl.parameters, torch.optim.SGD, **options)  # noqa: E731
    return closing(make, problem, before=True)


@run("temperon", "temperon.Temperon", rho=0.1, total_steps=20, tail_frac=1.0, lr=0.1)
@run("temperon", "temperon.Temperon", rho=0.1, total_steps=20, tail_frac=0.5, lr=0.1, momentum=0.9)
def temperon(problem, lr, momentum=0.0, **options):
    torch, package = needs("torch"), needs("temperon")
    make = lambda b: package.Temperon(torch.optim.SGD(b.parameters, lr=lr, momentum=momentum), **options)  # noqa: E731
    return closing(make, problem)


# --- averages -------------------------------------------------------------------------------------------------


@run("torch_ema", "torch_ema.ExponentialMovingAverage", method="GD(0.1)", decay=0.9)
@run("torch_ema", "torch_ema.ExponentialMovingAverage", method="GD(0.1)", decay=0.9, use_num_updates=False)
def torch_ema(problem, method, **options):
    package = needs("torch_ema")

    def make(bowl):
        ema = package.ExponentialMovingAverage(bowl.parameters, **options)
        return lambda _: ema.update(), lambda _: bowl.position(ema.shadow_params)

    return averaging(make, problem)


@run("ema_pytorch", "ema_pytorch.EMA", since=101, method="GD(0.01)")
def ema_pytorch(problem, method):
    package = needs("ema_pytorch")

    def make(bowl):
        model = bowl.module()
        ema = package.EMA(model)
        return lambda _: ema.update(), lambda _: bowl.position(ema.ema_model.parameters())

    return averaging(make, problem, steps=300, lr=0.01)


@run("timm", "timm.utils.ModelEmaV2", method="GD(0.1)", decay=0.9)
def timm_ema(problem, method, decay):
    package = needs("timm.utils.model_ema")

    def make(bowl):
        model = bowl.module()
        ema = package.ModelEmaV2(model, decay=decay)
        return lambda _: ema.update(model), lambda _: bowl.position(ema.module.parameters())

    return averaging(make, problem)


@run("timm", "timm.utils.ModelEmaV3", method="GD(0.1)", decay=0.9)
@run("timm", "timm.utils.ModelEmaV3", since=1, method="GD(0.1)", decay=0.9, step_given=True)
def timm_third_ema(problem, method, decay, step_given=False):
    package = needs("timm.utils.model_ema")

    def make(bowl):
        model = bowl.module()
        ema = package.ModelEmaV3(model, decay=decay)
        update = (lambda n: ema.update(model, step=n)) if step_given else (lambda _: ema.update(model))
        return update, lambda _: bowl.position(ema.module.parameters())

    return averaging(make, problem)


@run("pytorch-ignite", "ignite.handlers.EMAHandler", method="GD(0.1)", momentum=0.1)
def ignite_ema(problem, method, momentum):
    handlers, engines = needs("ignite.handlers"), needs("ignite.engine")

    def make(bowl):
        model = bowl.module()
        ema = handlers.EMAHandler(model, momentum=momentum)
        engine = engines.Engine(lambda *_: None)
        ema.attach(engine)
        return lambda _: engine.run([0], max_epochs=1), lambda _: bowl.position(ema.ema_model.parameters())

    return averaging(make, problem)


def lightning(problem, callback, steps_each, epochs, lr=0.1):
    """What a Trainer leaves in the model at its end."""
    torch, package = needs("torch"), needs("pytorch_lightning")
    bowl = Bowl(problem)

    class Model(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.each = torch.nn.ParameterList(bowl.parameters)

        def training_step(self, *_):
            return sum((h * p**2).sum() for h, p in zip(bowl.curves, self.each, strict=True)) / 2

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=lr)

    data = torch.utils.data.DataLoader(torch.zeros(steps_each, 1), batch_size=1)
    model = Model()
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = package.Trainer(max_epochs=epochs, callbacks=[callback], accelerator="cpu", **quiet)
    trainer.fit(model, data)
    return bowl.position(model.each)


@run("pytorch-lightning", "pytorch_lightning.callbacks.StochasticWeightAveraging", at=16, method="GD(0.1)",
     swa_epoch_start=2, epochs=5, steps_per_epoch=4, swa_lrs=0.1)  # fmt: skip
def lightning_swa(problem, method, swa_epoch_start, epochs, steps_per_epoch, swa_lrs):
    callbacks = needs("pytorch_lightning.callbacks")
    swa = callbacks.StochasticWeightAveraging(swa_lrs=swa_lrs, swa_epoch_start=swa_epoch_start)
    return [lightning(problem, swa, steps_per_epoch, epochs)]


@run("pytorch-lightning", "pytorch_lightning.callbacks.EMAWeightAveraging", at=20, method="GD(0.1)", decay=0.9)
def lightning_ema(problem, method, decay):
    return [lightning(problem, needs("pytorch_lightning.callbacks").EMAWeightAveraging(decay=decay), 4, 5)]


# --- lookahead, momentum and decay of others ------------------------------------------------------------------


@run("torch_optimizer", "torch_optimizer.Lookahead", method="GD(0.1)", k=3)
def torch_optimizer_lookahead(problem, method, **options):
    torch, package = needs("torch"), needs("torch_optimizer")
    return descent(lambda b: package.Lookahead(torch.optim.SGD(b.parameters, lr=0.1), **options), problem)


@run("torch_optimizer", "torch_optimizer.SGDW", lr=0.1, weight_decay=0.3)
@run("torch_optimizer", "torch_optimizer.SGDW", lr=0.1)
@run("torch_optimizer", "torch_optimizer.SGDW", lr=0.1, momentum=0.9, nesterov=True)
def torch_optimizer_sgdw(problem, **options):
    return descent(lambda bowl: needs("torch_optimizer").SGDW(bowl.parameters, **options), problem)


@run("torch_optimizer", "torch_optimizer.SGDP", lr=0.1, weight_decay=0.3)
@run("torch_optimizer", "torch_optimizer.SGDP", lr=0.1, momentum=0.5, weight_decay=0.3)
def torch_optimizer_sgdp(problem, **options):
    return descent(lambda bowl: needs("torch_optimizer").SGDP(bowl.parameters, **options), problem)


@run("timm", "timm.optim.Lookahead", method="GD(0.1)", k=3)
def timm_lookahead(problem, method, **options):
    torch, package = needs("torch"), needs("timm.optim")
    return descent(lambda b: package.Lookahead(torch.optim.SGD(b.parameters, lr=0.1), **options), problem)


def timm_sgd(opt, problem, **options):
    package = needs("timm.optim")
    return descent(lambda bowl: package.create_optimizer_v2(bowl.parameters, opt=opt, **options), problem)


for opt in ("sgd", "momentum"):
    run("timm", f"timm:{opt}", lr=0.1)(functools.partial(timm_sgd, opt))
    run("timm", f"timm:{opt}", lr=0.1, momentum=0.5, weight_decay=0.3)(functools.partial(timm_sgd, opt))


@run("timm", "timm.optim.SGDP", lr=0.1, weight_decay=0.3)
@run("timm", "timm.optim.SGDP", lr=0.1, momentum=0.5, weight_decay=0.3)
def timm_sgdp(problem, **options):
    return descent(lambda bowl: needs("timm.optim").SGDP(bowl.parameters, **options), problem)


@run("torch-optimi", "optimi.SGD", lr=0.1, weight_decay=0.3)
@run("torch-optimi", "optimi.SGD", lr=0.1, momentum=0.9, weight_decay=0.3)
@run("torch-optimi", "optimi.SGD", lr=0.1, momentum=0.9, weight_decay=0.3, decouple_wd=True)
@run("torch-optimi", "optimi.SGD", lr=0.1, momentum=0.9, weight_decay=0.03, decouple_lr=True)
@run("torch-optimi", "optimi.SGD", lr=0.1, momentum=0.9, dampening=True)
@run("torch-optimi", "optimi.SGD", lr=0.1, momentum=0.9, dampening=True, torch_init=True)
def optimi(problem, **options):
    return descent(lambda bowl: needs("optimi").SGD(bowl.parameters, **options), problem)


@run("schedulefree", "schedulefree.SGDScheduleFree", lr=0.1)
@run("schedulefree", "schedulefree.SGDScheduleFree", lr=0.1, momentum=0.5)
def schedulefree(problem, **options):
    def make(bowl):
        optimizer = needs("schedulefree").SGDScheduleFree(bowl.parameters, **options)
        optimizer.train()
        return optimizer

    return descent(make, problem)


# --- optax, Keras ---------------------------------------------------------------------------------------------


def in_64_bits():
    needs("jax").config.update("jax_enable_x64", True)


def optax_path(make, problem, steps=20):
    """Positions of an optax loop: the gradient at the parameters as they are, update, apply."""
    in_64_bits()
    jnp, optax = needs("jax.numpy"), needs("optax")
    curves, start, _ = PROBLEMS[problem]
    field = lambda theta, *_: jnp.asarray(curves) * theta  # noqa: E731
    transformation = make(optax)
    theta = jnp.asarray(start)
    state, path = transformation.init(theta), [np.asarray(theta)]
    opaque = getattr(make, "opaque", False)
    for _ in range(steps):
        keywords = {"grad_fn": field} if opaque else {}
        updates, state = transformation.update(field(theta), state, theta, **keywords)
        theta = optax.apply_updates(theta, updates)
        path.append(np.asarray(theta))
    return path


@run("optax", "optax.sgd", learning_rate="fall", momentum=0.9)
@run("optax", "optax.sgd", learning_rate=0.1)
@run("optax", "optax.sgd", learning_rate=0.1, momentum=0.9)
@run("optax", "optax.sgd", learning_rate=0.1, momentum=0.9, nesterov=True)
def optax_sgd(problem, learning_rate, **options):
    rate = FACTORS.get(learning_rate, learning_rate)
    return optax_path(lambda optax: optax.sgd(rate, **options), problem)


ASCENTS = {
    "normalize": lambda optax, rho: optax.chain(optax.contrib.normalize(), optax.sgd(rho)),
    "sgd": lambda optax, rho: optax.sgd(rho),
    "adam": lambda optax, rho: optax.chain(optax.contrib.normalize(), optax.adam(rho)),
}


@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1)
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1, momentum=0.9)
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1, opaque_mode=True)
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1, momentum=0.9, nesterov=True, opaque_mode=True)
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1, sync_period=3)
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1, sync_period=1, opaque_mode=True)
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho="fall")
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho="fall", reset_state=False)
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1, ascent="sgd")
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1, ascent="adam")
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1, weight_decay=0.3)
@run("optax", "optax.contrib.sam", learning_rate=0.1, rho=0.1, weight_decay=0.3, decay_before=True)
def optax_sam(problem, learning_rate, rho, momentum=None, nesterov=False, ascent="normalize", weight_decay=0.0,
              decay_before=False, opaque_mode=False, sync_period=2, reset_state=True):  # fmt: skip
    def make(optax):
        outer = optax.sgd(learning_rate, momentum, nesterov)
        if weight_decay and not decay_before:
            outer = optax.chain(optax.add_decayed_weights(weight_decay), outer)
        inner = ASCENTS[ascent](optax, FACTORS.get(rho, rho))
        sam = optax.contrib.sam(outer, inner, sync_period=sync_period, reset_state=reset_state, opaque_mode=opaque_mode)
        return optax.chain(optax.add_decayed_weights(weight_decay), sam) if decay_before else sam

    make.opaque = opaque_mode
    calls = 1 if opaque_mode else sync_period
    return optax_path(make, problem, steps=20 * calls)[::calls]


@run("optax", "optax.lookahead", method="GD(0.1)", sync_period=3, slow_step_size=0.5)
def optax_lookahead(problem, method, sync_period, slow_step_size):
    in_64_bits()
    jnp, optax = needs("jax.numpy"), needs("optax")
    curves, start, _ = PROBLEMS[problem]
    transformation = optax.lookahead(optax.sgd(0.1), sync_period, slow_step_size)
    both = optax.LookaheadParams.init_synced(jnp.asarray(start))
    state, path = transformation.init(both), [np.asarray(start)]
    for _ in range(20):
        updates, state = transformation.update(jnp.asarray(curves) * both.fast, state, both)
        both = optax.apply_updates(both, updates)
        path.append(np.asarray(both.fast))
    return path


@run("optax", "optax.contrib.schedule_free_sgd", learning_rate=0.1)
@run("optax", "optax.contrib.schedule_free_sgd", learning_rate=0.1, b1=0.5)
def optax_schedule_free(problem, **options):
    return optax_path(lambda optax: optax.contrib.schedule_free_sgd(**options), problem)


def keras_path(problem, make, schedule=None, steps=20, average=False, accumulated=1):
    """Positions of a Keras optimiser that is handed gradients; with `average` those of its moving average."""
    import os

    os.environ.setdefault("KERAS_BACKEND", "jax")
    in_64_bits()
    keras = needs("keras")
    keras.config.set_floatx("float64")
    curves, start, _ = PROBLEMS[problem]
    variable = keras.Variable(np.asarray(start), dtype="float64")
    optimizer = make(keras)
    optimizer.build([variable])
    path = [np.asarray(start)]
    for step in range(steps):
        if schedule is not None:
            optimizer.learning_rate = 0.05 * schedule(step)
        for _ in range(accumulated):
            optimizer.apply([np.asarray(curves) * np.asarray(variable.value)], [variable])
        kept = optimizer._model_variables_moving_average[0] if average else variable
        path.append(np.asarray(kept.value).copy())
    return path


@run("keras", "keras.optimizers.SGD", learning_rate=0.1)
@run("keras", "keras.optimizers.SGD", learning_rate=0.1, momentum=0.9)
@run("keras", "keras.optimizers.SGD", learning_rate=0.1, momentum=0.9, nesterov=True)
@run("keras", "keras.optimizers.SGD", learning_rate=0.1, momentum=0.9, weight_decay=0.3)
def keras_sgd(problem, **options):
    return keras_path(problem, lambda keras: keras.optimizers.SGD(**options))


for factor in ("drop", "cosine"):
    for nesterov in (False, True):
        inside = {
            "call": "keras.optimizers.SGD",
            "arguments": {"learning_rate": 0.05, "momentum": 0.9, "nesterov": nesterov},
        }

        @run("keras", "keras.optimizers.schedules.LearningRateSchedule", optimizer=inside, factor=factor)
        def keras_schedule(problem, optimizer, factor):
            make = lambda keras: keras.optimizers.SGD(**optimizer["arguments"])  # noqa: E731
            return keras_path(problem, make, FACTORS[factor])


@run("keras", "keras.optimizers.SGD", since=1, learning_rate=0.1, use_ema=True, ema_momentum=0.9)
@run("keras", "keras.optimizers.SGD", since=1, learning_rate=0.1, use_ema=True, ema_momentum=0.9,
     gradient_accumulation_steps=2)  # fmt: skip
def keras_ema(problem, **options):
    make = lambda keras: keras.optimizers.SGD(**options)  # noqa: E731
    return keras_path(problem, make, average=True, accumulated=options.get("gradient_accumulation_steps", 1))


# --- samplers -------------------------------------------------------------------------------------------------


def differences(step, size, n):
    """A and draws of e of a step: step(state, seed) -> state, with states of shape (size, n) and the same draws."""
    rest = step(np.zeros((size, n)), 1)
    columns = []
    for i in range(size):
        start = np.zeros((size, n))
        start[i] = 1.0
        columns.append((step(start, 1) - rest)[:, 0])
    return np.array(columns).T, rest.T


@law("blackjax", "blackjax.sgld", step_size=0.5)
@law("blackjax", "blackjax.sgld", curvature=2.0, step_size=0.3, temperature=0.2)
def blackjax_sgld(curvature, step_size, temperature=1.0):
    in_64_bits()
    jax, package = needs("jax"), needs("blackjax")
    sampler = package.sgld(lambda theta, _: -curvature * theta)

    def step(state, seed):
        key = jax.random.key(seed)
        return np.asarray(sampler.step(key, jax.numpy.asarray(state[0]), None, step_size, temperature))[None]

    return differences(step, 1, DRAWS)


@law("blackjax", "blackjax.sghmc", step_size=0.1, num_integration_steps=10, temperature=0.01)
@law("blackjax", "blackjax.sghmc", step_size=0.3, num_integration_steps=2, alpha=0.5, beta=0.4)
def blackjax_sghmc(curvature, step_size, num_integration_steps, alpha=0.01, beta=0.0, temperature=1.0):
    in_64_bits()
    jax, package = needs("jax"), needs("blackjax")
    sampler = package.sghmc(lambda theta, _: -curvature * theta, num_integration_steps, alpha, beta)

    def step(state, seed):
        position = jax.numpy.asarray(state[0])
        return np.asarray(sampler.step(jax.random.key(seed), position, None, step_size, temperature))[None]

    return differences(step, 1, DRAWS)


def posteriors_step(curvature, build, size):
    torch = needs("torch")
    prior = lambda theta, _: (-curvature / 2 * (theta**2).sum(), torch.tensor(0.0))  # noqa: E731
    transform = build(prior)

    def step(state, seed):
        torch.manual_seed(seed)
        position = torch.tensor(state[0])
        if size == 1:
            return transform.update(transform.init(position), None)[0].params.numpy()[None]
        begun = transform.init(position, momenta=0.0).replace(momenta=torch.tensor(state[1]))
        torch.manual_seed(seed)
        after = transform.update(begun, None)[0]
        return np.stack([after.params.numpy(), after.momenta.numpy()])

    return differences(step, size, DRAWS)


@law("posteriors", "posteriors.sgmcmc.sgld", lr=0.5)
@law("posteriors", "posteriors.sgmcmc.sgld", lr=0.5, beta=1.0)
@law("posteriors", "posteriors.sgmcmc.sgld", lr=0.5, beta=1.0, temperature=0.5)
def posteriors_sgld(curvature, **options):
    sgld = needs("posteriors.sgmcmc.sgld")
    return posteriors_step(curvature, lambda prior: sgld.build(prior, **options), 1)


@law("posteriors", "posteriors.sgmcmc.sghmc", lr=0.5, alpha=1.0)
@law("posteriors", "posteriors.sgmcmc.sghmc", curvature=2.0, lr=0.3, alpha=1.0, beta=0.4, sigma=1.5, temperature=0.5)
def posteriors_sghmc(curvature, **options):
    sghmc = needs("posteriors.sgmcmc.sghmc")
    return posteriors_step(curvature, lambda prior: sghmc.build(prior, **options), 2)


@law("posteriors", "posteriors.sgmcmc.baoa", lr=1.0, alpha=1.0)
@law("posteriors", "posteriors.sgmcmc.baoa", curvature=2.0, lr=0.3, alpha=1.0, sigma=1.5, temperature=0.5)
def posteriors_baoa(curvature, **options):
    baoa = needs("posteriors.sgmcmc.baoa")
    return posteriors_step(curvature, lambda prior: baoa.build(prior, **options), 2)


@law("torch_sgld", "torch_sgld.SGLD", lr=0.5)
@law("torch_sgld", "torch_sgld.SGLD", lr=0.5, momentum=0.5)
@law("torch_sgld", "torch_sgld.SGLD", curvature=2.0, lr=0.3, momentum=0.9, temperature=0.2)
def torch_sgld(curvature, **options):
    torch, package = needs("torch"), needs("torch_sgld")

    def step(state, seed):
        theta = torch.nn.Parameter(torch.tensor(state[0]))
        sampler = package.SGLD([theta], **options)
        if options.get("momentum"):
            sampler.state[theta]["momentum_buffer"] = torch.tensor(state[1])
        (curvature / 2 * (theta**2).sum()).backward()
        torch.manual_seed(seed)
        sampler.step()
        rows = [theta.detach().numpy()]
        rows += [sampler.state[theta]["momentum_buffer"].numpy()] if options.get("momentum") else []
        return np.stack(rows)

    return differences(step, 2 if options.get("momentum") else 1, DRAWS)


@law("optax", "optax.noisy_sgd", learning_rate=0.1, eta=0.5, gamma=0.0)
def optax_noisy(curvature, learning_rate, eta, gamma):
    in_64_bits()
    jnp, optax = needs("jax.numpy"), needs("optax")

    def step(state, seed):
        transformation = optax.noisy_sgd(learning_rate, eta, gamma, key=seed)
        theta = jnp.asarray(state[0])
        updates, _ = transformation.update(curvature * theta, transformation.init(theta), theta)
        return np.asarray(theta + updates)[None]

    return differences(step, 1, DRAWS)


def sdeint(name, curvature, h, temperature=1.0):
    package = needs("sdeint")
    integrate = getattr(package, name)
    many = 100  # numbers at once; the diffusion is a matrix of as many rows and columns

    def step(state, seed):
        each, rows = np.random.default_rng(seed), []
        for part in np.split(state[0], len(state[0]) // many):
            drift, spread = lambda x, _: -curvature * x, math.sqrt(2 * temperature) * np.eye(many)
            rows.append(integrate(drift, lambda *_, s=spread: s, part, np.array([0.0, h]), generator=each)[-1])
        return np.concatenate(rows)[None]

    return differences(step, 1, DRAWS // 10)


for name in ("itoint", "itoEuler"):
    law("sdeint", f"sdeint.{name}", h=0.5)(functools.partial(sdeint, name))


@law("torchsde", "torchsde.sdeint", dt=0.5, method="euler")
@law("torchsde", "torchsde.sdeint", dt=0.5, method="milstein")
@law("torchsde", "torchsde.sdeint", dt=0.5, method="srk")
def torchsde(curvature, dt, method, temperature=1.0):
    torch, package = needs("torch"), needs("torchsde")

    class Overdamped:
        noise_type, sde_type = "diagonal", "ito"

        def f(self, t, y):
            return -curvature * y

        def g(self, t, y):
            return torch.full_like(y, math.sqrt(2 * temperature))

    def step(state, seed):
        start = torch.tensor(state[0])[:, None]
        levy = {"euler": "none", "milstein": "none", "srk": "space-time"}[method]
        path = package.BrownianInterval(
            t0=0.0, t1=dt, size=start.shape, dtype=torch.float64, entropy=seed, levy_area_approximation=levy
        )
        return package.sdeint(Overdamped(), start, torch.tensor([0.0, dt]), bm=path, dt=dt, method=method)[-1].T.numpy()

    return differences(step, 1, DRAWS)


def diffrax(name, curvature, dt, gamma=1.0, u=1.0):
    in_64_bits()
    jax, package = needs("jax"), needs("diffrax")
    levy = package.SpaceTimeTimeLevyArea if name == "QUICSORT" else package.SpaceTimeLevyArea
    solver = getattr(package, name)(taylor_threshold=0.0)
    slope = lambda theta, _: curvature * theta  # noqa: E731

    def one(theta, velocity, key):
        drift = package.UnderdampedLangevinDriftTerm(gamma, u, slope)
        path = package.UnsafeBrownianPath(jax.ShapeDtypeStruct((), float), key, levy_area=levy)
        terms = package.MultiTerm(drift, package.UnderdampedLangevinDiffusionTerm(gamma, u, path))
        start = (theta, velocity)
        own = solver.init(terms, 0.0, dt, start, None)
        return solver.step(terms, 0.0, dt, start, None, own, made_jump=False)[0]

    def step(state, seed):
        keys = jax.random.split(jax.random.key(seed), state.shape[1])
        return np.stack(jax.jit(jax.vmap(one))(*map(jax.numpy.asarray, state), keys))

    return differences(step, 2, DRAWS)


for name in ("ALIGN", "QUICSORT"):
    law("diffrax", f"diffrax.{name}", dt=1.0)(functools.partial(diffrax, name))
    law("diffrax", f"diffrax.{name}", curvature=4.0, dt=0.5, gamma=2.0, u=0.5)(functools.partial(diffrax, name))


# --- store and compare ----------------------------------------------------------------------------------------


def outcome(entry):
    """What a run gives, as a row of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages
        result = entry["function"](**entry["arguments"])
    row = {name: entry[name] for name in ("call", "arguments")}
    if entry.get("law"):
        matrix, noise = result
        rest = {"curvature": entry["curvature"], "draws": len(noise)}
        return row | rest | {"matrix": rounded(matrix), "noise": rounded(np.cov(noise.T, ddof=0))}
    path = np.asarray(result, dtype=float)
    kept = path if len(path) < 50 else path[:: len(path) // 30]
    extra = {
        name: entry[name] for name, usual in (("problem", "plane"), ("since", 0), ("at", None)) if entry[name] != usual
    }
    stride = {} if len(path) < 50 else {"stride": len(path) // 30}
    return row | extra | stride | {"path": rounded(kept)}


def rounded(values):
    """Seventeen digits, as many as there are: lists that JSON holds."""
    return np.atleast_1d(np.asarray(values, dtype=float)).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", action="store_true", help="write the numbers anew")
    parser.add_argument("--only", default="", help="packages, with commas between them")
    options = parser.parse_args()
    wanted = set(filter(None, options.only.split(",")))
    changed = 0
    for package in dict.fromkeys(entry["package"] for entry in RUNS):
        if not wanted or package in wanted:
            changed += of_package(package, [entry for entry in RUNS if entry["package"] == package], options.store)
    return 1 if changed else 0


def of_package(package, entries, store):
    """Run one package; store its numbers, or print what differs. Returns how many runs differ."""
    path = FOLDER / f"{package}.json"
    kept = json.loads(path.read_text()) if path.exists() else {"version": None, "runs": []}
    try:
        version = metadata.version(package).partition("+")[0]
    except metadata.PackageNotFoundError:
        print(f"{package}: not installed; pip install {package}=={kept['version'] or 'VERSION'}")
        return 0
    rows, differing = [], 0
    for entry in entries:
        try:
            rows.append(outcome(entry))
        except Exception as error:  # another package's own trouble is what this program is to report
            print(f"{package} {version}: {entry['call']}({entry['arguments']}) failed: {type(error).__name__}: {error}")
            differing += 1
            continue
        if not store:
            differing += not same(package, version, rows[-1], kept)
    if store and rows:
        FOLDER.mkdir(parents=True, exist_ok=True)
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        path.write_text(f'{{"package": "{package}", "version": "{version}", "runs": [\n  {lines}\n]}}\n')
        print(f"{package} {version}: {len(rows)} runs stored")
    elif not differing:
        print(f"{package} {version}: as {kept['version']} in {len(rows)} runs")
    return differing


def same(package, version, row, kept):
    """Whether a run is as it was, but for rounding and, of random numbers, five standard errors."""
    call = {name: row[name] for name in ("call", "arguments")} | {"curvature": row.get("curvature")}
    before = [
        old for old in kept["runs"] if call == {name: old.get(name) for name in ("call", "arguments", "curvature")}
        and old.get("problem") == row.get("problem")
    ]  # fmt: skip
    if not before:
        print(f"{package} {version}: {row['call']}({row['arguments']}) is not stored: --store")
        return False
    old, worst = before[0], 0.0
    for name, allowed in (("path", 1e-7), ("matrix", 1e-7), ("noise", None)):
        if name in row:
            new, was = np.asarray(row[name]), np.asarray(old[name])
            if new.shape != was.shape:
                worst = math.inf
                continue
            bound = allowed or 10 * np.abs(was).max() * math.sqrt(2 / row["draws"])
            worst = max(worst, np.abs(new - was).max() / bound)
    if worst > 1:
        print(f"{package} {version}: {row['call']}({row['arguments']}) is no longer as in {kept['version']}")
    return worst <= 1


if __name__ == "__main__":
    sys.exit(main())
