"""Networks 64-32-10 side by side on digits, SAM with momentum, batches of 32, float32: flatdyn against torch.func.

    v ← μ v + ∇ℓ(θ + ρ g/‖g‖; batch),   θ ← θ − η v,   g = ∇ℓ(θ; batch)

The rival is `torch.func.vmap` over the gradient of a functional network, each network with its own minibatch, with one
thread and with two; the better of them counts. It needs PyTorch (2.13 was used), which nothing else here needs.
The last row is what the processor's units could do at most: the operations of two passes forward and back, two for
each multiply-add, at the rate of one large matrix product.
"""

import jax
import jax.numpy as jnp
import numpy as np
from paired import Rival, Row, missing, paired

import flatdyn as fd
from flatdyn import networks

SIZES, STEPS, BATCH, LR, RHO, MU, ROUNDS = (1, 64, 256), 200, 32, 0.05, 0.05, 0.9, 3
WIDE = 2048  # of the matrix product that stands for the ceiling


def ours(number: int):
    data = networks.digits()
    task = networks.classifier(networks.MLP((64, 32, 10), jax.random.key(0)), data)
    noise = fd.noise.FiniteSum(BATCH)
    process = fd.Iteration(task.landscape, fd.SAM(LR, RHO, MU), noise)
    starts = task.starts(lambda key: networks.MLP((64, 32, 10), key), jax.random.key(0), number)
    steps = STEPS * (4 if number == 1 else 1)

    def run():
        return fd.simulate(process, starts, steps, jax.random.key(1), every=steps, progress=False).final

    return run, number * steps


def theirs(number: int):
    """Loops over the same steps by the number of threads; ImportError without PyTorch."""
    import torch
    from torch.func import functional_call, grad, vmap

    data = networks.digits()
    x = torch.tensor(np.asarray(data.x, np.float32).reshape(len(data.x), -1))
    y = torch.tensor(np.asarray(data.y)).long()
    model = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    shape = {name: leaf.detach() for name, leaf in model.named_parameters()}
    slope = vmap(grad(lambda w, x, y: torch.nn.functional.cross_entropy(functional_call(model, w, (x,)), y)))

    def run(threads: int, steps: int):
        torch.set_num_threads(threads)
        w = {name: torch.randn(number, *leaf.shape) * 0.1 for name, leaf in shape.items()}
        v = {name: torch.zeros_like(leaf) for name, leaf in w.items()}
        for _ in range(steps):
            rows = torch.randint(len(x), (number, BATCH))
            batch = x[rows], y[rows]
            g = slope(w, *batch)
            length = sum((leaf.flatten(1) ** 2).sum(1) for leaf in g.values()).sqrt()
            up = {name: w[name] + RHO * leaf / length.view(-1, *[1] * (leaf.ndim - 1)) for name, leaf in g.items()}
            for name, leaf in slope(up, *batch).items():
                v[name] = MU * v[name] + leaf
                w[name] = w[name] - LR * v[name]
        return w["0.weight"].sum()

    return {f"torch.func.vmap, {n} thread{'s' * (n > 1)}": lambda n=n: run(n, STEPS // 10).item() for n in (1, 2)}


def rows() -> list[Row]:
    product = jax.jit(lambda a: a @ a)
    square = jnp.asarray(np.random.default_rng(0).normal(size=(WIDE, WIDE)), jnp.float32)
    found = []
    for number in SIZES:
        run, amount = ours(number)
        operations = 2 * 3 * 2 * BATCH * (64 * 32 + 32 * 10)  # two gradients of three products each
        limit = Rival(lambda: product(square), 2 * WIDE**3 / (amount * operations), 0.65 if number > 1 else None)
        rivals = {"matrix product": limit}
        try:
            steps = amount // number
            for name, rival in theirs(number).items():
                rivals[name] = Rival(rival, STEPS // 10 / steps, 7 if number > 1 else None)
        except ImportError:
            missing("PyTorch is not installed")
        found += paired(f"{number} networks 64-32-10, SAM", run, rivals, amount, "network-steps/s", ROUNDS)
    return found


if __name__ == "__main__":
    print(*rows(), sep="\n")
