"""What can compute a model: ONNX Runtime, or a TensorRT engine built for this machine."""
