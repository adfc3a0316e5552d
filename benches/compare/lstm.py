"""How long a training step of an LSTM takes in PyTorch: the twin of examples/lstm.rs.

    python benches/compare/lstm.py [THREADS] [STEPS]
"""

import sys
import time

import torch

T, D, H, BATCH = 64, 128, 256, 32


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    net, head = torch.nn.LSTM(D, H, batch_first=True), torch.nn.Linear(H, 1)
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.01)
    x = torch.sin(torch.arange(BATCH * T * D) * 0.37).reshape(BATCH, T, D)
    target = torch.sin(torch.arange(BATCH) * 0.37).reshape(BATCH, 1)
    times = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(head(net(x)[1][0][-1]), target)
        loss.backward()
        optimizer.step()
        times.append((time.perf_counter() - start) * 1e3)
    print(f"best {min(times[3:]):.2f} ms, median {sorted(times[3:])[steps // 2]:.2f} ms")


main()
