"""What is measured: a row is a file with `measure(bench) -> Result` and its line here."""

from collections.abc import Callable

from benchmarks.measure import Bench, Result
from benchmarks.rows import (
    bncnn_torch,
    cnn_pfl,
    ecgr_overhead,
    ecgr_short,
    fashion_torch,
    lenet_torch,
    logistic_torch,
    memory,
    mlp_blazefl,
    mlp_flower,
    mlp_pfl,
    scale,
    sweep_lenet,
    sweep_processes,
    sweep_thousand,
)

ROWS: dict[str, Callable[[Bench], Result]] = {
    "mlp-pfl": mlp_pfl.measure,
    "cnn-pfl": cnn_pfl.measure,
    "mlp-flower": mlp_flower.measure,
    "mlp-blazefl": mlp_blazefl.measure,
    "lenet-torch": lenet_torch.measure,
    "fashion-torch": fashion_torch.measure,
    "bncnn-torch": bncnn_torch.measure,
    "bncnn-torch-channels-last": bncnn_torch.measure_channels_last,
    "logistic-torch": logistic_torch.measure,
    "ecgr-overhead": ecgr_overhead.measure,
    "ecgr-short": ecgr_short.measure,
    "ecgr-short-torch": ecgr_short.measure_torch,
    "sweep-lenet": sweep_lenet.measure,
    "sweep-lenet-small": sweep_lenet.measure_small,
    "sweep-processes": sweep_processes.measure,
    "sweep-thousand-pfl": sweep_thousand.measure_pfl,
    "sweep-thousand-flower": sweep_thousand.measure_flower,
    "memory": memory.measure,
    "scale": scale.measure,
}
