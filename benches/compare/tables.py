"""The experiments on tables in PyTorch: the same file, rows, network, optimizer and rule of stopping.

    pip install torch numpy
    python benches/compare/tables.py examples/configs/diabetes.toml 10

Prints the test numbers of each seed's network, their mean and standard deviation. wgrad's are those of
`wgrad train --config … --replicas 10`, in `test_replicas` of its report.json.
"""

import csv
import pathlib
import sys
import tomllib

import numpy as np
import torch
from torch import nn

sys.path.append(str(pathlib.Path(__file__).parents[2] / "tests" / "fixtures"))
from pytorch import philox  # noqa: E402

SPLIT = 0x0500  # the stream of wgrad's splits


def rows(n, shares, seed, classes=None):
    """wgrad's split: Fisher and Yates by Philox."""
    order = list(range(n))
    words = philox(np.arange(n), 1, SPLIT, 0, (seed & 0xFFFFFFFF, seed >> 32))
    for i in range(n - 1, 0, -1):
        word = int(words[0][i]) << 32 | int(words[1][i])
        j = word * (i + 1) >> 64
        order[i], order[j] = order[j], order[i]
    if classes is None:
        ends = np.round(np.cumsum(shares) / sum(shares) * n).astype(int)
        return [sorted(order[a:b]) for a, b in zip([0, *ends], ends)]
    parts, owed = [[] for _ in shares], np.zeros(len(shares))
    for row in sorted(order, key=lambda r: classes[r]):
        owed += np.array(shares) / sum(shares)
        parts[int(np.argmax(owed))].append(row)
        owed[int(np.argmax(owed))] -= 1
    return [sorted(p) for p in parts]


def read(config, folder):
    data = config["data"]
    with open(folder / data["path"]) as file:
        table = list(csv.DictReader(file))
    (target,) = data["targets"]
    x = np.array([[float(v) for k, v in row.items() if k != target] for row in table])
    t = [row[target] for row in table]
    names = None
    try:
        t = np.array([float(v) for v in t])
    except ValueError:
        names = sorted(set(t))
        t = np.array([names.index(v) for v in t])
    parts = rows(len(x), data["split"], data.get("seed", 0), t if data.get("stratified") else None)
    train = parts[0]
    x = (x - x[train].mean(0)) / x[train].std(0)
    scale = (t[train].mean(), t[train].std()) if names is None else (0, 1)
    return x, t, parts, scale, names


def network(config, width):
    made = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}
    layers = []
    for l in config["model"]["layers"]:
        if l["kind"] == "dense":
            layers.append(nn.Linear(width, l["units"]))
            width = l["units"]
        elif l["kind"] == "dropout":
            layers.append(nn.Dropout(l["p"]))
        else:
            layers.append(made[l["kind"]]())
    return nn.Sequential(*layers)


def run(config, folder, seed):
    torch.manual_seed(seed)
    x, t, parts, (mean, deviation), names = read(config, folder)
    x = torch.tensor(x, dtype=torch.float32)
    y = torch.tensor((t - mean) / deviation if names is None else t)
    y = y.float()[:, None] if names is None else y.long()
    train, validation, test = (torch.tensor(p) for p in parts)
    net, training, o = network(config, x.shape[1]), config["training"], config["optimizer"]
    loss = nn.MSELoss() if names is None else nn.CrossEntropyLoss(label_smoothing=config["loss"].get("smoothing", 0))
    optimizer = torch.optim.AdamW(net.parameters(), o["rate"], weight_decay=o.get("decay", 0.01))
    steps = len(train) // training["batch"]
    if "schedule" in o:
        first, all_steps = round(o["schedule"].get("warm_up", 0) * steps), training["epochs"] * steps

        def factor(step):
            if step < first:
                return (step + 1) / first
            return 0.5 * (1 + np.cos(np.pi * min(1, (step - first) / (all_steps - first))))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    stop = training.get("early_stop", {"patience": training["epochs"]})
    best, at, kept = float("inf"), 0, None
    for epoch in range(training["epochs"]):
        net.train()
        order = train[torch.randperm(len(train))]
        for k in range(steps):
            batch = order[k * training["batch"]:(k + 1) * training["batch"]]
            optimizer.zero_grad()
            loss(net(x[batch]), y[batch]).backward()
            optimizer.step()
            if "schedule" in o:
                schedule.step()
        net.eval()
        with torch.no_grad():
            value = loss(net(x[validation]), y[validation]).item()
        if "early_stop" not in training:
            continue
        if value < best:
            best, at = value, epoch
            kept = {k: v.clone() for k, v in net.state_dict().items()}
        elif epoch - at >= stop["patience"]:
            break
    if kept:
        net.load_state_dict(kept)
    with torch.no_grad():
        found = net(x[test])
    if names is not None:
        return {"accuracy": (found.argmax(1) == y[test]).double().mean().item()}
    error = (found[:, 0].double() - y[test][:, 0].double()) * deviation
    return {"rmse": error.square().mean().sqrt().item(), "mae": error.abs().mean().item()}


def main():
    path = pathlib.Path(sys.argv[1])
    config = tomllib.loads(path.read_text())
    found = [run(config, path.parent, seed) for seed in range(int(sys.argv[2]))]
    for name in found[0]:
        values = np.array([f[name] for f in found])
        print(f"{name}: {values.mean():.4f} ± {values.std(ddof=1):.4f} over {len(values)} seeds")


if __name__ == "__main__":
    main()
