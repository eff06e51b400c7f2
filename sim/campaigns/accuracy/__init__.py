"""Accuracy of real models on labelled data, with every rounding of the accelerator."""
