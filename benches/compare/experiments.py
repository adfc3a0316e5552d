#!/usr/bin/env python3
"""An experiment on a text or on pictures in PyTorch: the same file, rows, model, loss, optimizer, schedule and steps.

    pip install torch numpy safetensors pillow
    python benches/compare/experiments.py examples/configs/char-lstm.toml --data TEXT --epochs 5 --seed 0

Prints loss and accuracy over each epoch's training and on the validation rows after it. wgrad's are those of `wgrad
train --config … --epochs 5 --seed 0` in its report.json. PyTorch's modules are built from the description by `Net` of
tests/fixtures/pytorch_models.py and start as PyTorch starts them, or as `weight_start` says; orders, starts and crops are
drawn by other random numbers, so curves agree as those of two seeds do.
"""
import argparse
import gzip
import math
import pathlib
import sys
import time
import tomllib

import numpy as np
import torch
from torch import nn

sys.path.append(str(pathlib.Path(__file__).parents[2] / "tests" / "fixtures"))
from pytorch_models import Net, loss_of  # noqa: E402
from tables import rows  # noqa: E402

torch.set_default_dtype(torch.float32)


def text(config, path):
    """Windows of characters and those one further on: training, validation, test."""
    data = config["data"]
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        characters = file.read()
    known = sorted(set(characters))
    numbers = torch.tensor([known.index(c) for c in characters])
    ends = [round(len(numbers) * share / sum(data["split"])) for share in np.cumsum(data["split"])]
    window, parts = data["window"], []
    for k, (a, b) in enumerate(zip([0, *ends], ends)):
        part, apart = numbers[a:b], data.get("apart", data["window"]) if k == 0 else window
        starts = range(0, len(part) - window, apart)
        x = torch.stack([part[s:s + window] for s in starts])
        parts.append((x, torch.stack([part[s + 1:s + 1 + window] for s in starts])))
    return "input", parts, lambda x: x, lambda x: x


def pictures(config, path):
    """Pictures of train/<class> and test/<class>; the validation rows are those that wgrad draws."""
    from PIL import Image

    data = config["data"]

    def read(folder):
        classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
        files = [(p, k) for k, name in enumerate(classes) for p in sorted((folder / name).iterdir())]
        x = np.stack([np.asarray(Image.open(p).convert("RGB")) for p, _ in files])
        return torch.tensor(x).permute(0, 3, 1, 2).contiguous(), torch.tensor([k for _, k in files])

    x, t = read(path / "train")
    classes = t.numpy() if data.get("stratified") else None
    train, validation = (torch.tensor(p) for p in rows(len(t), data["split"][:2], data.get("seed", 0), classes))
    mean = x[train].double().mean((0, 2, 3)).float()[:, None, None] / 255
    deviation = torch.sqrt(((x[train] / 255 - mean) ** 2).double().mean((0, 2, 3))).float()[:, None, None]
    augment = data.get("augment", {})
    assert set(augment) <= {"flip", "crop"}, "of augmentations, flips and crops alone are here"

    def standard(x):
        return (x / 255 - mean) / deviation

    def augmented(x):
        pad = augment.get("crop", 0)
        n, c, h, w = x.shape
        wide = torch.nn.functional.pad(x, [pad] * 4)
        dy, dx = torch.randint(0, 2 * pad + 1, (2, n))
        at = lambda d, size: d[:, None] + torch.arange(size)
        x = wide[torch.arange(n)[:, None, None, None], torch.arange(c)[:, None, None],
                 at(dy, h)[:, None, :, None], at(dx, w)[:, None, None, :]]
        if augment.get("flip"):
            x = torch.where((torch.rand(n) < 0.5)[:, None, None, None], x.flip(3), x)
        return standard(x)

    parts = [(x[train], t[train]), (x[validation], t[validation])]
    if (path / "test").is_dir():
        parts.append(read(path / "test"))
    return "image", parts, augmented, standard


def started(net, layers):
    """Weights as `weight_start` says, and positions as wgrad starts them, since PyTorch has no such layer."""
    with torch.no_grad():
        for l in layers:
            if l.get("weight_start") == "he_normal":
                w = net.get_parameter(f"{l['name']}.weight")
                w.normal_(0, math.sqrt(2 / w[0].numel()))
            if l["kind"] == "learned_positions":
                net.get_parameter(f"{l['name']}.weight").normal_(0, 0.02)


def schedules(o, optimizer, epoch, epochs):
    """`epoch` steps make an epoch; a warm-up is given in epochs."""
    schedule, steps = o.get("schedule", {}), epoch * epochs
    if schedule.get("kind") == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, o["rate"], total_steps=steps, cycle_momentum=False)
    first = min(round(schedule.get("warm_up", 0) * epoch), steps - 1)

    def factor(step):
        if step < first:
            return (step + 1) / first
        if schedule.get("kind") == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(1, (step - first) / (steps - first))))
        return 1.0

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("config", type=pathlib.Path)
    args.add_argument("--data", type=pathlib.Path, required=True)
    args.add_argument("--epochs", type=int)
    args.add_argument("--seed", type=int, default=0)
    args = args.parse_args()
    torch.manual_seed(args.seed)
    config = tomllib.loads(args.config.read_text())
    read = {"text": text, "images": pictures}[config["data"]["format"]]
    column, parts, training, evaluating = read(config, args.data)
    counts, description = {}, {**config["model"]}
    for l in description["layers"]:
        counts[l["kind"]] = counts.get(l["kind"], 0) + 1
        number = counts[l["kind"]]
        l.setdefault("name", l["kind"] if number == 1 else f"{l['kind']}_{number}")
        # PyTorch's modules may not have dots in their names.
        assert "." not in l["name"]
    net = Net(description, {column: evaluating(parts[0][0][:2])})
    started(net, description["layers"])
    print(sum(p.numel() for p in net.parameters()), "parameters,", [len(t) for _, t in parts], "rows")
    o, batch = config["optimizer"], config["training"]["batch"]
    epochs = args.epochs or config["training"]["epochs"]
    if o["kind"] == "sgd":
        optimizer = torch.optim.SGD(net.parameters(), o["rate"], o.get("momentum", 0), nesterov=o.get("nesterov", False),
                                    weight_decay=o.get("decay", 0))
    else:
        assert o["kind"] == "adamw", "sgd and adamw alone are here"
        optimizer = torch.optim.AdamW(net.parameters(), o["rate"], weight_decay=o.get("decay", 0.01), fused=True)
    (x, t), steps = parts[0], len(parts[0][1]) // batch
    planned = schedules(o, optimizer, steps, epochs)

    def measured(x, t):
        with torch.no_grad():
            y = next(iter(net(**{column: x}).values()))
        right = (y.argmax(-1) == t).double().mean()
        return loss_of(config["loss"], {"output": y}, {"target": t}).item(), right.item()

    for epoch in range(epochs):
        start, total = time.time(), 0.0
        net.train()
        order = torch.randperm(len(t))
        for k in range(steps):
            at = order[k * batch:(k + 1) * batch]
            optimizer.zero_grad()
            y = next(iter(net(**{column: training(x[at])}).values()))
            loss = loss_of(config["loss"], {"output": y}, {"target": t[at]})
            loss.backward()
            if "clip_norm" in o:
                nn.utils.clip_grad_norm_(net.parameters(), o["clip_norm"])
            optimizer.step()
            planned.step()
            total += loss.item()
        seconds = time.time() - start
        net.eval()
        said = f"epoch {epoch + 1}: training loss {total / steps:.4f}, {seconds:.1f} s"
        for name, (xs, ts) in zip(["validation", "test"], parts[1:]):
            cuts = range(0, len(ts), 250)
            found = [(*measured(evaluating(xs[k:k + 250]), ts[k:k + 250]), len(ts[k:k + 250])) for k in cuts]
            mean = [sum(f[i] * f[2] for f in found) / len(ts) for i in range(2)]
            said += f"; {name} loss {mean[0]:.4f}, accuracy {mean[1]:.4f}"
        print(said, flush=True)


if __name__ == "__main__":
    main()
