def labels(y, num_classes):
    return num_classes - 1 - y
