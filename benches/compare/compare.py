#!/usr/bin/env python3
"""The same training steps in wgrad, PyTorch and, where a binary is given, Burn.

    python3 benches/compare/compare.py --wgrad target/release/wgrad --out table.md
    python3 benches/compare/compare.py --gpu --cuda --burn path/to/burn-bench --out table.md
    python3 benches/compare/compare.py --gpu --burn path/to/burn-bench --only wgrad,burn --out table.md

One step is: gather a mini-batch from data that lives on the device, forward, backward, SGD
update, in f32 (TF32 off). All contestants take turns, round after round, so that whatever
else the machine does hits them all; the median over the rounds counts.

  A  conv 20 5x5, pool, ReLU, conv 40 5x5, pool, ReLU, FC 1000, FC 1000, softmax 10, dropout
     before each FC, mini-batch 10, 250,000 images
  B  the same convolutions, FC 100, softmax 10, no dropout, mini-batch 10, 50,000 images
  C  A at mini-batch 128
  D  784-30-10 sigmoid, cross-entropy, mini-batch 10, 50,000 images

PyTorch's modes: `eager` (module, optimiser, loss.backward()), `fused` (fused SGD), `nhwc`
(that in channels-last), `ensemble` (N networks batched: grouped convolutions and bmm); on
the CPU each on one thread too, since its threads may cost more than they bring. With --cuda
also `graph` (the whole step in a CUDA graph, ten steps a replay; `ensemble` likewise) and
`compile` (torch.compile of the loss, mode reduce-overhead; on the CPU with --compile).
Needs Python 3.10, numpy and torch. The images are noise: the work does not depend on them.
"""
import argparse
import functools
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

BATCH = {"A": 10, "B": 10, "C": 128, "D": 10}
IMAGES = {"A": 250_000, "B": 50_000, "C": 250_000, "D": 50_000}
RATE = 0.001  # many steps must not explode


# --- PyTorch ----------------------------------------------------------------------------
class Net(nn.Module):
    def __init__(self, workload, nhwc=False):
        super().__init__()
        self.nhwc = nhwc
        self.conv = workload != "D"
        self.p = 0.5 if workload in "AC" else 0.0
        sizes = {"B": [640, 100, 10], "D": [784, 30, 10]}.get(workload, [640, 1000, 1000, 10])
        if self.conv:
            self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 40, 5)
        self.dense = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, sizes[1:]))

    def forward(self, x):
        if self.conv:
            # An image of one channel is the same bytes in either layout.
            shape, strides = (len(x), 1, 28, 28), (784, 1, 28, 1) if self.nhwc else (784, 784, 28, 1)
            x = F.relu(F.max_pool2d(self.conv1(x.as_strided(shape, strides)), 2))
            x = F.relu(F.max_pool2d(self.conv2(x), 2)).flatten(1)
        for i, layer in enumerate(self.dense):
            x = layer(F.dropout(x, self.p, self.training) if self.p else x)
            if i + 1 < len(self.dense):
                x = F.relu(x) if self.conv else torch.sigmoid(x)
        return x


class Ensemble:
    """N networks as one: `[B, N*C, H, W]` through grouped convolutions, `[N, B, F]` through bmm."""

    def __init__(self, workload, n, device):
        nets = [Net(workload).to(device) for _ in range(n)]
        self.n, self.p, self.conv = n, nets[0].p, nets[0].conv
        self.conv_params = []
        for name in ("conv1", "conv2") if self.conv else ():
            for part in ("weight", "bias"):
                self.conv_params.append(torch.cat([getattr(getattr(m, name), part) for m in nets]))
        layers = range(len(nets[0].dense))
        self.w = [torch.stack([m.dense[i].weight.t() for m in nets]) for i in layers]
        self.b = [torch.stack([m.dense[i].bias for m in nets]).unsqueeze(1) for i in layers]

    def parameters(self):
        for group in (self.conv_params, self.w, self.b):
            group[:] = [t.detach().contiguous().requires_grad_() for t in group]
        return [*self.conv_params, *self.w, *self.b]

    def __call__(self, x):  # [B * N, 784], networks within images -> [N, B, 10]
        n = self.n
        if self.conv:
            w1, b1, w2, b2 = self.conv_params
            x = F.relu(F.max_pool2d(F.conv2d(x.view(-1, n, 28, 28), w1, b1, groups=n), 2))
            x = F.relu(F.max_pool2d(F.conv2d(x, w2, b2, groups=n), 2))
        x = x.reshape(-1, n, 640 if self.conv else 784).transpose(0, 1)
        for i, (w, b) in enumerate(zip(self.w, self.b)):
            x = torch.baddbmm(b, F.dropout(x, self.p) if self.p else x, w)
            if i + 1 < len(self.w):
                x = F.relu(x) if self.conv else torch.sigmoid(x)
        return x


@functools.cache
def data(n, device):
    rng = np.random.default_rng(1)
    pixels = torch.from_numpy(rng.random((50_000, 784), np.float32)).to(device)
    return pixels.repeat(n // 50_000, 1), torch.from_numpy(rng.integers(0, 10, n)).to(device)


class Torch:
    """One mode of PyTorch on one workload."""

    def __init__(self, workload, mode, device, nets=1, threads=1):
        self.workload, self.mode, self.batch, self.nets = workload, mode, BATCH[workload], nets
        self.device, self.threads, n = device, threads, IMAGES[workload]
        self.x, labels = data(n, device)
        self.y = F.one_hot(labels, 10).float() if workload == "D" else labels
        self.at, self.last = 0, n // (self.batch * nets)
        self.order = torch.randperm(n, device=device)[: self.last * self.batch * nets]
        self.order = self.order.view(self.last, self.batch * nets)
        if mode in ("graph", "ensemble"):
            self.model = Ensemble(workload, nets, device) if mode == "ensemble" else Net(workload).to(device)
            self.params = list(self.model.parameters())
            self.row = torch.zeros(1, dtype=torch.int64, device=device)
            if device == "cuda":
                self.capture()
            else:
                self.step = self.whole_step
            return
        self.model = Net(workload, mode == "nhwc").to(device)
        if mode == "nhwc":
            self.model = self.model.to(memory_format=torch.channels_last)
        fused = {} if mode == "eager" else {"fused": True}
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=RATE, **fused)
        self.loss_of = torch.compile(self.loss, mode="reduce-overhead") if mode == "compile" else self.loss

    def loss(self, x, y):
        out = self.model(x)
        if self.mode == "ensemble":  # the mean over each network's images, summed over networks
            out = out.transpose(0, 1).reshape(-1, 10)
        if self.workload == "D":
            return F.binary_cross_entropy_with_logits(out, y, reduction="sum") / self.batch
        return F.cross_entropy(out, y) * self.nets

    def step(self):
        rows = self.order[self.at]
        self.at = (self.at + 1) % self.last
        x, y = self.x.index_select(0, rows), self.y.index_select(0, rows)
        if self.mode == "compile":
            torch.compiler.cudagraph_mark_step_begin()
        loss = self.loss_of(x, y)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def whole_step(self):
        """Counts on the device, so that a replay is a new step."""
        rows = self.order.index_select(0, self.row).view(-1)
        loss = self.loss(self.x.index_select(0, rows), self.y.index_select(0, rows))
        gradients = torch.autograd.grad(loss, self.params)
        with torch.no_grad():
            torch._foreach_add_(self.params, gradients, alpha=-RATE)
            self.row.add_(1).remainder_(self.last)

    def capture(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(6):
                self.whole_step()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            for _ in range(10):
                self.whole_step()
        torch.cuda.synchronize()

    def run(self, seconds):
        """Microseconds per step over about so many seconds."""
        torch.set_num_threads(self.threads)
        ten = hasattr(self, "graph")
        one = self.graph.replay if ten else self.step
        wait = torch.cuda.synchronize if self.device == "cuda" else (lambda: None)
        one(), wait()
        calls, spent = 1, 0.0
        while spent < seconds:
            begun = time.perf_counter()
            for _ in range(calls):
                one()
            wait()
            spent = time.perf_counter() - begun
            done, calls = calls, max(calls + 1, math.ceil(calls * min(10, 1.1 * seconds / max(spent, 1e-6))))
        return spent * 1e6 / (done * (10 if ten else 1)), None


# --- the others -------------------------------------------------------------------------
def last_json(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return json.loads(lines[-1])


class Wgrad:
    def __init__(self, binary, workload, device, replicas):
        self.command = [binary, "bench", "--json", "--workloads", workload, "--device", device,
                        "--replicas", str(replicas), "--seconds"]

    def run(self, seconds):
        found = last_json([*self.command, str(seconds)])
        self.device = found["device"]
        timing = found["timings"][0]
        return timing["microseconds_per_step"], timing["launches_per_step"]


class Burn:
    steps = 3

    def __init__(self, binary, workload, backend, more):
        self.command = [binary, "--backend", backend, "--workload", workload, *more]

    def run(self, seconds):
        """The first round warms it up and finds out how many steps fill the time."""
        found = last_json([*self.command, "--steps", str(self.steps), "--warmup", str(min(self.steps, 50))])
        self.steps = max(3, min(20_000, int(seconds * 1e6 / found["us_per_step"])))
        return found["us_per_step"], None


# --- the rounds -------------------------------------------------------------------------
def contestants(args, workload):
    """(framework and mode, device, networks, how to make it), wgrad's first."""
    many = [1, 5, 16, 64] if workload == "D" else [1, 5]
    for device in ["cpu"] + (["gpu"] if args.gpu else []):
        for n in many:
            yield "wgrad", device, n, lambda d=device, n=n: Wgrad(args.wgrad, workload, d, n)
        if args.burn:
            backend = "cpu" if device == "cpu" else "wgpu"
            name = "Burn flex" if device == "cpu" else "Burn wgpu"
            more = shlex.split(args.burn_args)
            yield name, device, 1, lambda b=backend: Burn(args.burn, workload, b, more)
    eager = ["eager", "fused"] + (["nhwc"] if workload != "D" else [])
    for threads in sorted({1, args.threads}):
        on = f"{threads} thread{'s' if threads > 1 else ''}"
        for mode in eager + (["compile"] if args.compile else []):
            yield f"PyTorch {mode}, {on}", "cpu", 1, lambda m=mode, t=threads: Torch(workload, m, "cpu", 1, t)
        for n in many[1:]:
            yield f"PyTorch ensemble, {on}", "cpu", n, lambda n=n, t=threads: Torch(workload, "ensemble", "cpu", n, t)
    if args.cuda:
        for mode in [*eager, "graph", "compile"]:
            yield f"PyTorch {mode}", "cuda", 1, lambda m=mode: Torch(workload, m, "cuda")
        for n in many[1:]:
            yield "PyTorch ensemble", "cuda", n, lambda n=n: Torch(workload, "ensemble", "cuda", n)


def measure(args, workload, facts):
    """Rows (name, device, networks, µs per step, launches) and notes on what failed."""
    ready, rows, notes = [], [], []
    for name, device, nets, make in contestants(args, workload):
        if name.split()[0].lower() not in args.only.lower().split(","):
            continue
        try:
            one = make()
            one.run(min(args.seconds, 0.5))  # warm-up, and the first that fails
            ready.append((name, device, nets, one, []))
        except Exception as e:  # a mode that does not run costs only itself, and is listed
            notes.append(f"{workload}, {name} on {device}, {nets}: {str(e).strip().splitlines()[0][:200]}")
    for r in range(args.rounds):
        for name, device, nets, one, times in ready:
            times.append(one.run(args.seconds))
            print(f"{workload} round {r + 1}: {name} on {device}, {nets}: {times[-1][0]:.1f} us", flush=True)
            if isinstance(one, Wgrad):
                facts[f"wgrad's {device}"] = one.device
    for name, device, nets, _, times in ready:
        rows.append((name, device, nets, statistics.median(t for t, _ in times), times[-1][1]))
    return rows, notes


def table(workload, rows):
    """PyTorch on CUDA stands beside wgrad's GPU; everything beside wgrad on its own device
    with as many networks (one network against the networks it would take in turn)."""
    kind = {"cuda": "gpu"}
    ours = {(d, n): us / n for name, d, n, us, _ in rows if name == "wgrad"}
    text = f"\n## {workload}\n\n| | device | networks | µs per step | µs per network-step | launches " \
           "| time ÷ wgrad's, same networks | ÷ wgrad's cheapest network-step |\n|---|---|--:|--:|--:|--:|--:|--:|\n"
    for name, device, nets, us, launches in rows:
        d, each = kind.get(device, device), us / nets
        same = ours.get((d, nets))
        best = min((v for (other, _), v in ours.items() if other == d), default=None)
        text += f"| {name} | {device} | {nets} | {us:,.1f} | {each:,.1f} | {launches or ''} " \
                f"| {f'{each / same:.2f}' if same else ''} | {f'{each / best:.2f}' if best else ''} |\n"
    for (d, nets), each in ours.items():
        for framework in ("PyTorch", "Burn"):
            rivals = [(us / nets, name, device) for name, device, n, us, _ in rows
                      if name.startswith(framework) and n == nets and kind.get(device, device) == d]
            if rivals:
                us, name, device = min(rivals)
                text += f"\nOn {d}, networks {nets}: the best of {framework} is {name}, " \
                        f"**{us / each:.2f} ×** wgrad's time.\n"
    return text


def cpu_name():
    try:
        with open("/proc/cpuinfo") as f:
            return next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--wgrad", default="target/release/wgrad", help="the binary")
    ap.add_argument("--burn", help="a binary that takes --backend --workload --steps --warmup and ends with JSON")
    ap.add_argument("--burn-args", default="", help="more arguments for it")
    ap.add_argument("--gpu", action="store_true", help="also wgrad's GPU (and Burn's wgpu)")
    ap.add_argument("--cuda", action="store_true", help="also PyTorch's CUDA modes")
    ap.add_argument("--compile", action="store_true", help="also torch.compile on the CPU (needs a C++ compiler)")
    ap.add_argument("--workloads", default="A,B,C,D")
    ap.add_argument("--only", default="wgrad,Burn,PyTorch", help="the frameworks that run")
    ap.add_argument("--threads", type=int, default=os.cpu_count(), help="of every CPU contestant")
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=1.0, help="of each contestant in each round")
    ap.add_argument("--out", required=True, help="the Markdown file to write")
    args = ap.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)
    torch.manual_seed(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if args.cuda and not torch.cuda.is_available():
        sys.exit("error: --cuda, but PyTorch finds no CUDA device")
    version = subprocess.run([args.wgrad, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    facts = {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "system": f"{platform.system()} on {platform.machine()}",
             "CPU": f"{cpu_name()}, {args.threads} threads of {os.cpu_count()}",
             "versions": f"{version}, PyTorch {torch.__version__}, Python {platform.python_version()}"}
    if args.cuda:
        facts["CUDA device"] = f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}, TF32 off"
    shown = [os.path.basename(a) if os.sep in a else a for a in sys.argv]
    body, notes = "", []
    for workload in args.workloads.upper().split(","):
        rows, failed = measure(args, workload, facts)
        body, notes = body + table(workload, rows), notes + failed
    facts["command"] = f"`{shlex.join(shown)}`: the median of {args.rounds} rounds of {args.seconds} s each, in turns"
    text = "# Training steps, side by side\n\n" + "".join(f"- {k}: {v}\n" for k, v in facts.items())
    text += "\nRatios above 1: wgrad is faster.\n" + body
    if notes:
        text += "\n## Did not run\n\n" + "".join(f"- {n}\n" for n in notes)
    with open(args.out, "w", encoding="utf-8") as f:
        f.write(text)
    print(text)


if __name__ == "__main__":
    main()
