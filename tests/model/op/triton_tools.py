"""Triton kernels without a GPU: compiled for GPUs that are not there; and what the operators have in common."""

import importlib
import re
import subprocess
from pathlib import Path

import pytest
import torch


def assert_compiles(function, inputs):
    """As one graph, with the gradients of what is not compiled."""
    torch.compiler.reset()  # PyTorch gives a function up that it has compiled in too many ways
    inputs = [t.detach().requires_grad_() for t in inputs]
    run = torch.compile(lambda *inputs: 2 * function(*inputs), backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(run(*inputs).square().sum(), inputs)
    expected = torch.autograd.grad((2 * function(*inputs)).square().sum(), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def assert_trains_alone(function, arguments, frozen):
    """Only what is not frozen gets a gradient, the same as if nothing was. arguments: makes the tensors anew."""
    found = []
    for left_out in (set(), frozen):
        tensors = [t.detach().requires_grad_(i not in left_out) for i, t in enumerate(arguments())]
        function(*tensors).square().sum().backward()
        found.append([t.grad for t in tensors])
    for i, (all_, some) in enumerate(zip(*found, strict=True)):
        assert (some is None) == (i in frozen)
        assert some is None or torch.equal(all_, some)


def compiled(kernel, capability, types, constants, options):
    """Compile a kernel for a GPU of this generation. types: of arguments that are neither int32 nor constants."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    plain = {"constexpr", "fp32"}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind not in plain}
    source = ASTSource(kernel, signature, constants, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def usage(binary, folder):
    """Return registers, and bytes of stack and local memory, that a compiled kernel takes."""
    reader = Path(pytest.importorskip("triton").__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not reader.exists():
        pytest.skip("this Triton comes without cuobjdump")
    (folder / "kernel.cubin").write_bytes(binary.asm["cubin"])
    text = subprocess.run([reader, "-res-usage", folder / "kernel.cubin"], capture_output=True, text=True).stdout
    return {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}


def assert_moves_16_bytes_at_once(module, name, dtype, capability, folder):
    """Compile a kernel that writes BLOCK elements, channels last. It keeps all it works on in registers, too."""
    pytest.importorskip("triton")
    kernels = importlib.import_module(module)
    kernel = getattr(kernels, name)
    types = {name: f"*{dtype}" for name in kernel.arg_names if name.islower()} | {"slope": "fp32"}
    binary = compiled(kernel, capability, types, {"BLOCK": kernels.BLOCK, "RUN": 1}, kernels.OPTIONS)
    used = usage(binary, folder)
    assert used["STACK"] == used["LOCAL"] == 0
    assert "ld.global.v4" in binary.asm["ptx"]
    assert "st.global.v4" in binary.asm["ptx"]


def carried(binary):
    """Return how many values a compiled kernel carries from one turn of its loop to the next."""
    (count,) = re.findall(r"(?::(\d+))? = scf\.for", binary.asm["ttgir"])
    return int(count or 1)
