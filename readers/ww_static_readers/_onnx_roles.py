"""What the operators of ONNX and of com.microsoft take at which input, as tables: roles, axes, codes, scales.

Source: the operator pages of both.
"""

from __future__ import annotations

# Operators that hand their first input on; what they do to its axes is known for the first three groups only.
SAME_AXES = frozenset(("Identity", "Cast", "CastLike", "DequantizeLinear", "Slice", "Concat"))
OTHER_AXES = frozenset(("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Split"))
PARTIAL = frozenset(("Slice", "Concat", "Split"))

# (operator, input) -> (role, axes of a constant there); "..." are leading axes, "*" are kernel axes.
IN_OUT, OUT_IN = ("...", "in", "out"), ("...", "out", "in")
CONV = ("out", "in", "*")
ROWS = ("rows", "features")
GATES = ("directions", "out", "in")
ROLES: dict[tuple[str, int], tuple[str, tuple[str, ...]]] = {
    ("MatMul", 1): ("dense", IN_OUT), ("MatMul", 0): ("dense", OUT_IN), ("Gemm", 1): ("dense", IN_OUT),
    ("Gemm", 0): ("dense", OUT_IN), ("FusedMatMul", 1): ("dense", IN_OUT), ("FusedGemm", 1): ("dense", IN_OUT),
    ("MatMulInteger", 1): ("dense", IN_OUT), ("MatMulIntegerToFloat", 1): ("dense", IN_OUT),
    ("DynamicQuantizeMatMul", 1): ("dense", IN_OUT), ("QLinearMatMul", 3): ("dense", IN_OUT), ("QGemm", 3): ("dense", IN_OUT),
    ("MatMulNBits", 1): ("dense", OUT_IN), ("Einsum", 1): ("dense", ()), ("Attention", 1): ("fused_qkv", IN_OUT),
    ("QAttention", 1): ("fused_qkv", IN_OUT), ("Conv", 1): ("conv", CONV), ("FusedConv", 1): ("conv", CONV),
    ("ConvInteger", 1): ("conv", CONV), ("QLinearConv", 3): ("conv", CONV),
    ("ConvTranspose", 1): ("conv_transpose", ("in", "out", "*")), ("Gather", 0): ("embedding", ROWS),
    ("EmbedLayerNormalization", 2): ("embedding", ROWS), ("EmbedLayerNormalization", 3): ("embedding", ROWS),
    ("EmbedLayerNormalization", 4): ("embedding", ROWS), ("LSTM", 1): ("lstm", GATES), ("LSTM", 2): ("lstm", GATES),
    ("GRU", 1): ("gru", GATES), ("GRU", 2): ("gru", GATES), ("RNN", 1): ("rnn", GATES), ("RNN", 2): ("rnn", GATES),
}  # fmt: skip
TRANSPOSABLE = {
    "Gemm": {0: "transA", 1: "transB"},
    "FusedGemm": {1: "transB"},
    "FusedMatMul": {1: "transB"},
    "QGemm": {3: "transB"},
}
RECURRENT = ("lstm", "gru", "rnn")

# operator -> inputs with (codes, scale, zero point), and the axis of a scale per row or column; -1 is the last one.
CODES = {
    "DequantizeLinear": (0, 1, 2, 1), "QLinearMatMul": (3, 4, 5, -1), "QLinearConv": (3, 4, 5, 0), "QGemm": (3, 4, 5, -1),
    "DynamicQuantizeMatMul": (1, 2, 3, -1), "MatMulIntegerToFloat": (1, 3, 5, -1), "QAttention": (1, 4, 7, -1),
    "MatMulNBits": (1, 2, 3, 0),
}  # fmt: skip
# The scale is multiplied in later; it stands beside the codes, W_quantized and W_scale. operator -> codes, zero point, axis.
SIBLING = {"MatMulInteger": (1, 3, -1), "ConvInteger": (1, 3, 0)}
# Inputs that are scales and zero points.
AUXILIARY = {
    "DequantizeLinear": (1, 2), "QuantizeLinear": (1, 2), "QLinearMatMul": (1, 2, 4, 5, 6, 7), "QLinearConv": (1, 2, 4, 5, 6, 7),
    "MatMulInteger": (2, 3), "ConvInteger": (2, 3), "QGemm": (1, 2, 4, 5, 7, 8), "DynamicQuantizeMatMul": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5), "QAttention": (3, 4, 6, 7), "MatMulNBits": (2, 3, 4),
}  # fmt: skip
