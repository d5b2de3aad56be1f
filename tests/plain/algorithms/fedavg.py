"""FedAvg is what `federation.py` does by itself."""
