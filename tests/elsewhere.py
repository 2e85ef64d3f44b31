"""Networks of PyTorch, and the numbers that PyTorch alone computes for them; nothing here is flatdyn's.

    python tests/elsewhere.py            computes them with the installed PyTorch and compares with the stored ones
    python tests/elsewhere.py --store    stores them in tests/data/elsewhere.json

Data, parameters and minibatches come from NumPy's generators, so that other packages can be given the same ones.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import numpy as np

STORED = Path(__file__).parent / "data" / "elsewhere.json"
LR, MOMENTUM, RHO, BATCH, STEPS = 0.1, 0.9, 0.05, 6, 5
EXAMPLES, SIDE, CHANNELS = 12, 4, 3
# Shapes of the parameters by PyTorch's names. The ResNet has one block.
RESNET = {
    "stem.weight": (CHANNELS, 1, 3, 3),
    "norm.weight": (CHANNELS,),
    "norm.bias": (CHANNELS,),
    "first.weight": (CHANNELS, CHANNELS, 3, 3),
    "first_norm.weight": (CHANNELS,),
    "first_norm.bias": (CHANNELS,),
    "second.weight": (CHANNELS, CHANNELS, 3, 3),
    "second_norm.weight": (CHANNELS,),
    "second_norm.bias": (CHANNELS,),
    "head.weight": (3, CHANNELS),
    "head.bias": (3,),
}
NORMS = ("norm", "first_norm", "second_norm")


def data():
    """Small images in three classes, and the minibatches of each step."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(EXAMPLES, 1, SIDE, SIDE)), random.integers(0, 3, EXAMPLES)
    batches = np.stack([random.permutation(EXAMPLES)[:BATCH] for _ in range(STEPS)])
    return x, y, batches


def parameters(shapes):
    """Weights by name: gains near 1, the others normal."""
    random = np.random.default_rng(1)
    near = {name: float("norm" in name and name.endswith("weight")) for name in shapes}
    return {name: near[name] + random.normal(size=shape) * 0.3 for name, shape in sorted(shapes.items())}


def averages():
    """Running means and variances of BatchNorm's layers by name, as evaluation mode uses them."""
    random = np.random.default_rng(2)
    kinds = {
        "running_mean": lambda: random.normal(size=CHANNELS),
        "running_var": lambda: random.uniform(0.5, 2, CHANNELS),
    }
    return {f"{norm}.{kind}": make() for norm in NORMS for kind, make in kinds.items()}


def resnet():
    """A ResNet of PyTorch in double precision, in training mode, with these weights and averages."""
    torch = importlib.import_module("torch")

    class ResNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, channels in (("stem", 1), ("first", CHANNELS), ("second", CHANNELS)):
                setattr(self, name, torch.nn.Conv2d(channels, CHANNELS, 3, padding=1, bias=False))
            for name in NORMS:
                setattr(self, name, torch.nn.BatchNorm2d(CHANNELS))
            self.pool, self.head = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Linear(CHANNELS, 3)

        def forward(self, x):
            x = torch.nn.functional.silu(self.norm(self.stem(x)))
            inside = torch.nn.functional.silu(self.first_norm(self.first(x)))
            x = torch.nn.functional.silu(x + self.second_norm(self.second(inside)))
            return self.head(self.pool(x).flatten(1))

    module = ResNet().double()
    tensors = {name: torch.from_numpy(value) for name, value in {**parameters(RESNET), **averages()}.items()}
    module.load_state_dict(tensors, strict=False)
    return module


def vit():
    """A vision transformer of PyTorch in double precision, in evaluation mode: patches of 2 × 2, GELU, LayerNorm."""
    torch = importlib.import_module("torch")

    class ViT(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = torch.nn.Conv2d(1, 4, 2, stride=2)
            self.place = torch.nn.Parameter(torch.zeros(1, 5, 4))
            self.token = torch.nn.Parameter(torch.zeros(1, 1, 4))
            layer = torch.nn.TransformerEncoderLayer(
                4, 2, 8, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
            )
            self.encoder = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.head = torch.nn.Linear(4, 3)

        def forward(self, x):
            x = self.patch(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.place
            return self.head(self.encoder(x)[:, 0])

    module = ViT().double().eval()
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    module.load_state_dict({name: torch.from_numpy(value) for name, value in parameters(shapes).items()})
    return module


def numbers(module) -> dict:
    """Logits, extreme eigenvalues of the dense Hessian, and where hand-written loops of SGD and SAM end."""
    torch = importlib.import_module("torch")
    x, y, batches = data()
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    names = sorted(name for name, _ in module.named_parameters())
    shapes = [module.get_parameter(name).shape for name in names]
    state = {name: value.clone() for name, value in module.state_dict().items()}

    def loss(theta, rows=slice(None)):
        parts = torch.split(theta, [shape.numel() for shape in shapes])
        tree = {name: part.reshape(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        outputs = torch.func.functional_call(module, tree, (x[rows],))
        return torch.nn.functional.cross_entropy(outputs, y[rows])

    start = torch.cat([module.get_parameter(name).detach().reshape(-1) for name in names])
    attention = importlib.import_module("torch.nn.attention")
    with attention.sdpa_kernel(attention.SDPBackend.MATH):  # the fast kernels have no second derivative
        hessian = torch.autograd.functional.hessian(loss, start)
    values, vectors = torch.linalg.eigh((hessian + hessian.T) / 2)
    result = {"loss": loss(start).item(), "largest": values[-1].item(), "direction": vectors[:, -1].tolist()}
    for method in ("sgd", "sam"):
        module.load_state_dict(state)
        tensors = [module.get_parameter(name) for name in names]
        optimizer = torch.optim.SGD(tensors, lr=LR, momentum=MOMENTUM)
        for rows in batches:
            gradients = torch.autograd.grad(_loss(torch, module, x, y, rows), tensors)
            if method == "sam":
                length = torch.sqrt(sum((g**2).sum() for g in gradients))
                with torch.no_grad():
                    for tensor, g in zip(tensors, gradients, strict=True):
                        tensor += RHO * g / length
                ascended = torch.autograd.grad(_loss(torch, module, x, y, rows), tensors)
                with torch.no_grad():
                    for tensor, g in zip(tensors, gradients, strict=True):
                        tensor -= RHO * g / length
                gradients = ascended
            for tensor, g in zip(tensors, gradients, strict=True):
                tensor.grad = g
            optimizer.step()
        result[method] = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).tolist()
    module.load_state_dict(state)
    for mode in (True, False) if module.training else (False,):  # dropout would draw
        module.train(mode)
        with torch.no_grad():
            result["logits in training" if mode else "logits in evaluation"] = module(x).tolist()
        module.load_state_dict(state)
    return result


def _loss(torch, module, x, y, rows):
    return torch.nn.functional.cross_entropy(module(x[rows]), y[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="store_true", help="replace what is stored")
    options = parser.parse_args()
    torch = importlib.import_module("torch")
    computed = {"source": "PyTorch alone, tests/elsewhere.py", "version": torch.__version__.partition("+")[0]}
    computed |= {"resnet": numbers(resnet()), "vit": numbers(vit())}
    if options.store:
        STORED.write_text(json.dumps(computed, indent=0) + "\n")
        return
    stored = json.loads(STORED.read_text())
    print(f"PyTorch {torch.__version__}; stored: {stored['version']}")
    for network in ("resnet", "vit"):
        for name, value in stored[network].items():
            off = np.abs(np.abs(computed[network][name]) - np.abs(value)).max()  # a direction has no sign
            print(f"{network:8}{name:22}{off:.1e}{'' if off < 1e-10 else '  CHANGED'}")


if __name__ == "__main__":
    main()
