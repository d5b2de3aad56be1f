"""FedBN of a model without normalisation is FedAvg; one with it is in `test_fedbn.py`."""
