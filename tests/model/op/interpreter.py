"""Imported before a program runs in Triton's interpreter: comparisons of scalars give booleans there, too.

The interpreter takes their result for a number of the type that was compared. As part of a mask it becomes one, and
since version 3.9 stores refuse such a mask.
"""

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_binary_op = interpreter.InterpreterBuilder.binary_op


def _typed_binary_op(self: Any, lhs: Any, rhs: Any, op: Any) -> Any:
    result = _binary_op(self, lhs, rhs, op)
    return interpreter.TensorHandle(result.data, tl.int1) if result.data.dtype == np.bool_ else result


interpreter.InterpreterBuilder.binary_op = _typed_binary_op
