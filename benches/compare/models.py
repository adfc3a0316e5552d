#!/usr/bin/env python3
"""Training steps of four kinds of network, and one picture's way through a network, in wgrad, PyTorch and Burn.

    cargo build --release --example models
    python3 benches/compare/models.py --wgrad target/release/examples/models --out table.md
    python3 benches/compare/models.py --wgrad target/release/examples/models --burn path/to/burn-models --out table.md

The models are those of examples/models.rs: layer for layer, with the same optimizers, losses and sizes.
All take turns, round after round; the median of the rounds' medians counts. PyTorch runs eagerly with
as many threads as there are cores and with one, with fused optimizers, channels first and last where there are pictures; the
fastest of these is what wgrad is held against. Burn (benches/compare/burn, built by itself) runs with both numbers of
threads, too. Needs Python 3.10 and torch.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


def wave(*shape):
    return torch.sin(torch.arange(math.prod(shape)) * 0.37).reshape(shape)


class Convolution(nn.Sequential):
    def __init__(self, i, o, kernel, stride):
        super().__init__(
            nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(o)
        )


class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.a, self.b = Convolution(i, o, 3, stride), Convolution(o, o, 3, 1)
        self.around = Convolution(i, o, 1, stride) if i != o else nn.Identity()

    def forward(self, x):
        return F.relu(self.around(x) + self.b(F.relu(self.a(x))), inplace=True)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        layers, i = [Convolution(3, 16, 3, 1), nn.ReLU()], 16
        for stage, filters in enumerate([16, 32, 64]):
            for block in range(3):
                layers.append(Block(i, filters, 2 if stage and not block else 1))
                i = filters
        self.body, self.head = nn.Sequential(*layers), nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(128, 256, batch_first=True), nn.Linear(256, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[1][0][-1])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(
            128, 4, 512, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.mask = nn.Transformer.generate_square_subsequent_mask(64)

    def forward(self, x):
        return self.block(x, self.mask, is_causal=True)


def job(name, fused):
    """Network, loss, optimizer, inputs, targets."""
    torch.manual_seed(0)
    if name == "resnet-20":
        net = ResNet20()
        rule = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, fused=fused)
        return net, F.cross_entropy, rule, wave(64, 3, 32, 32), torch.arange(64) % 10
    if name == "lstm":
        net = Lstm()
        rule = torch.optim.SGD(net.parameters(), 0.01, fused=fused)
        return net, F.mse_loss, rule, wave(32, 64, 128), wave(32, 1)
    if name == "table":
        net = nn.Sequential(
            nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
        )
        rule = torch.optim.AdamW(net.parameters(), 1e-3, fused=fused)
        return net, F.mse_loss, rule, wave(32, 16), wave(32, 1)
    net = Transformer()
    rule = torch.optim.AdamW(net.parameters(), 1e-3, fused=fused)
    return net, F.mse_loss, rule, wave(16, 64, 128), wave(16, 64, 128)


def picture(name):
    """A network and what is shown to it."""
    if name == "latency":
        return ResNet20(), wave(1, 3, 32, 32)
    if name == "digit-dense":
        net = nn.Sequential(nn.Linear(784, 30), nn.Sigmoid(), nn.Linear(30, 10), nn.Softmax(-1))
        return net, wave(1, 784)
    net = nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(20, 40, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(640, 100), nn.ReLU(), nn.Linear(100, 10),
    )
    return net, wave(1, 1, 28, 28)


def step(name, mode):
    """A function that takes a training step, or shows a picture to the network."""
    if name in PICTURES:
        net, x = picture(name)
        net.eval()
        if mode == "channels last":
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        if mode == "traced":
            with torch.inference_mode():
                net = torch.jit.optimize_for_inference(torch.jit.trace(net, x))

        def show():
            with torch.inference_mode():
                return net(x)

        return show
    net, loss, rule, x, t = job(name, mode != "eager")
    if mode == "channels last":
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)

    def train():
        rule.zero_grad(set_to_none=True)
        loss(net(x), t).backward()
        rule.step()

    return train


def timed(run, seconds):
    for _ in range(3):
        run()
    start = time.perf_counter()
    run()
    times = max(1, int(seconds / 10 / (time.perf_counter() - start)))
    rounds, begin = [], time.perf_counter()
    while len(rounds) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        for _ in range(times):
            run()
        rounds.append((time.perf_counter() - start) / times * 1e6)
    return statistics.median(rounds)


def told(command, **environment):
    """The microseconds that the last line of a program says."""
    environment = {**os.environ, **environment}
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    return json.loads(out.splitlines()[-1])["us"]


MODES = {
    "resnet-20": ["eager", "fused", "channels last"],
    "lstm": ["eager", "fused"],
    "table": ["eager", "fused"],
    "transformer": ["eager", "fused"],
    "latency": ["eager", "channels last", "traced"],
    "digit-dense": ["eager", "traced"],
    "digit-convolutions": ["eager", "channels last", "traced"],
}
# One picture at a time.
PICTURES = ["latency", "digit-dense", "digit-convolutions"]
# Networks that burn-models has.
OF_BURN = ["resnet-20", "lstm", "table", "transformer", "latency"]
CORES = len(os.sched_getaffinity(0))


def shown(us):
    """Microseconds, with a digit behind the point where there are few."""
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--wgrad", required=True, help="the built example `models`")
    parser.add_argument("--burn", help="the built binary `burn-models`")
    parser.add_argument("--models", default=",".join(MODES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--out", help="a file for the table")
    args = parser.parse_args()
    lines = [
        f"PyTorch {torch.__version__}, {CORES} threads; medians of {args.rounds} rounds in turns, µs.",
        "Ratios above 1: wgrad is faster.",
        "",
        "| | wgrad | PyTorch, fastest mode | which | ratio |" + (" Burn | ratio |" if args.burn else ""),
        "|---|--:|--:|---|--:|" + ("--:|--:|" if args.burn else ""),
    ]
    for name in args.models.split(","):
        ways = [(mode, threads) for mode in MODES[name] for threads in {CORES, 1}]
        steps = {way: step(name, way[0]) for way in ways}
        own, theirs = [], {way: [] for way in ways}
        burn = {threads: [] for threads in {CORES, 1}}
        for _ in range(args.rounds):
            own.append(told([args.wgrad, "cpu", str(args.seconds), name]))
            if args.burn and name in OF_BURN:
                for threads, times in burn.items():
                    times.append(told([args.burn, str(args.seconds), name], RAYON_NUM_THREADS=str(threads)))
            for way in ways:
                torch.set_num_threads(way[1])
                theirs[way].append(timed(steps[way], args.seconds / 2))
        median = statistics.median(own)
        best = min(ways, key=lambda way: statistics.median(theirs[way]))
        other = statistics.median(theirs[best])
        which = f"{best[0]}, {best[1]} thread{'s' if best[1] > 1 else ''}"
        line = f"| {name} | {shown(median)} | {shown(other)} | {which} | **{other / median:.2f}** |"
        if args.burn and name in OF_BURN:
            third = min(statistics.median(times) for times in burn.values())
            line += f" {third:,.0f} | **{third / median:.2f}** |"
        elif args.burn:
            line += " | |"
        lines.append(line)
        print(lines[-1], file=sys.stderr)
    text = "\n".join(lines)
    print(text)
    if args.out:
        with open(args.out, "w") as file:
            file.write(text + "\n")


main()
