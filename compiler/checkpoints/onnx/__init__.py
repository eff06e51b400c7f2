"""Encoders in ONNX files: a reader of the format, a trace of the graph, what it is a model of."""
