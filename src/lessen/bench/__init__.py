"""The server's helper process, `python -m lessen.bench`: all that needs torch, onnxruntime or a model's weights."""
