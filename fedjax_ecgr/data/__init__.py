"""A federation's data: where examples come from and how clients share them."""

from fedjax_ecgr.data import datasets, partition
from fedjax_ecgr.data.federated import (
    Dataset,
    Examples,
    FederatedDataset,
    Spec,
    check_examples,
    from_assignment,
    from_owners,
    label_counts,
    validate,
)

__all__ = [
    "Dataset",
    "Examples",
    "FederatedDataset",
    "Spec",
    "check_examples",
    "datasets",
    "from_assignment",
    "from_owners",
    "label_counts",
    "partition",
    "validate",
]
