"""A plain PyTorch loop over clients, as published federated-learning code runs, made cheap.

One client after another, a fresh optimiser every round, the step deltas kept and the convergent
steps selected greedily. It is kept generous: tensors in memory, batches by index, no loader
processes. It runs in an environment of its own, as a child that speaks JSON lines: it reads an
`.npz` and is told how many rounds to run, and answers with seconds and training losses.

    python torch_loop.py DATA.npz
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class LeNet(nn.Module):
    """LeNet on 28×28×1: 61,706 parameters."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        """[B, 1, 28, 28] to [B, 10]."""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.fc1(x.flatten(1)))
        return self.fc3(functional.relu(self.fc2(x)))


def flat(model):
    """All parameters as one vector, a copy."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def regulate(deltas, beta, select_ratio):
    """ECGR on [steps, parameters]."""
    total, chosen = torch.zeros_like(deltas[0]), []
    left = list(range(len(deltas)))
    for _ in range(max(1, int(len(deltas) * select_ratio))):
        best = left[int(torch.linalg.vector_norm(deltas[left] + total, dim=1).argmin())]
        left.remove(best)
        chosen.append(best)
        total = total + deltas[best]
    update = total + beta * deltas[left].sum(0)
    return update * (deltas.sum(0).norm() / update.norm())


def run_round(model, start, clients, task, shuffle):
    """One round of FedAvg, with ECGR where the task has a β; returns the new w and the loss."""
    update, losses = torch.zeros_like(start), []
    for inputs, labels in clients:
        nn.utils.vector_to_parameters(start.clone(), model.parameters())
        optimizer = torch.optim.SGD(
            model.parameters(), lr=task["learning_rate"], momentum=task["momentum"]
        )
        order = torch.randperm(len(labels)) if shuffle else torch.arange(len(labels))
        deltas, before, loss_sum = [], start, 0.0
        for batch in order.split(task["batch_size"]):
            images = (inputs[batch].float() - task["mean"]) / task["std"]
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(model(images), labels[batch])
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(batch)
            if task["beta"] is not None:
                after = flat(model)
                deltas.append(before - after)
                before = after
        if task["beta"] is None:
            update += (start - flat(model)) / len(clients)
        else:
            regulated = regulate(torch.stack(deltas), task["beta"], task["select_ratio"])
            update += regulated / len(clients)
        losses.append(float(loss_sum) / len(labels))
    return start - update, float(np.mean(losses))


def main(path):
    """Answers each line `{"rounds", "shuffle", "restart"}` on standard input with one of JSON."""
    with np.load(path, allow_pickle=False) as data:
        task = json.loads(str(data["task"]))
        first = [torch.tensor(data[f"parameter_{i}"]) for i in range(10)]
        clients = [
            (torch.tensor(x).permute(0, 3, 1, 2).contiguous(), torch.tensor(y).long())
            for x, y in zip(data["inputs"], data["labels"], strict=True)
        ]
    first = torch.cat([p.reshape(-1) for p in first])
    model, w = LeNet(), first
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        w = first if order["restart"] else w
        losses, began = [], time.perf_counter()
        for _ in range(order["rounds"]):
            w, loss = run_round(model, w, clients, task, order["shuffle"])
            losses.append(loss)
        print(json.dumps({"seconds": time.perf_counter() - began, "losses": losses}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
