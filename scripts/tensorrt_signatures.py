"""Prints the interface of TensorRT's Python bindings: names, arguments, values of enumerations.

    pip download --no-deps tensorrt_cu12_bindings==10.3.0 tensorrt_cu12_bindings==11.4.0.106
    python3.11 scripts/tensorrt_signatures.py *.whl > tests/stand_ins/signatures.json

The bindings are a small extension module over libraries of gigabytes. Empty libraries are enough to import it: nothing
can be computed, but every docstring can be read. Needs gcc, and the
version of Python that the wheels are for.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CLASSES = """
    Builder BuilderFlag DataType IBuilderConfig ICudaEngine IExecutionContext IHostMemory IInt8Calibrator ILogger
    INetworkDefinition IOptimizationProfile IProgressMonitor ITimingCache MemoryPoolType NetworkDefinitionCreationFlag
    OnnxParser ParserError Runtime TensorIOMode ILogger.Severity
"""
EXPORTS = """
    createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL getInferLibVersion
    createNvOnnxParserRefitter_INTERNAL createNvOnnxParser_INTERNAL getBuilderPluginRegistry getNvOnnxParserVersion
    getPluginRegistry initLibNvInferPlugins
"""
LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")


def main() -> None:
    """Prints the members of each wheel's classes, by version: a line a class."""
    versions = []
    for version, classes in sorted(map(_of_wheel, sys.argv[1:])):
        lines = [f"  {json.dumps(name)}: {json.dumps(members)}" for name, members in classes.items()]
        versions.append(f" {json.dumps(version)}: {{\n" + ",\n".join(lines) + "\n }")
    print("{\n" + ",\n".join(versions) + "\n}")


def _of_wheel(wheel: str) -> tuple[str, dict[str, object]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zipfile.ZipFile(wheel).extractall(folder)
        version = Path(wheel).name.split("-")[1]
        source = folder / "empty.c"
        source.write_text("".join(f"void *{export}(void) {{ return 0; }}\n" for export in EXPORTS.split()))
        for library in LIBRARIES:
            called = f"{library}.so.{version.partition('.')[0]}"
            subprocess.run(
                ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{called}", "-o", folder / called, source], check=True
            )
        scripts = str(Path(__file__).parent)
        code = f"import sys; sys.path[:0] = [{scripts!r}]; import tensorrt_signatures as s; s.print_members()"
        environment = {**os.environ, "LD_LIBRARY_PATH": name, "PYTHONPATH": name}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return version, json.loads(done.stdout)


def print_members() -> None:
    """Prints the members of the importable bindings."""
    import tensorrt_bindings

    print(json.dumps({name: _members(tensorrt_bindings, name) for name in CLASSES.split()}))


def _members(module: object, name: str) -> dict[str, object] | None:
    """Maps the members of a class to the arguments of each overload, the value of an enumeration's entry, or None."""
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        return None
    values = getattr(found, "__members__", {})
    return {
        member: int(values[member]) if member in values else _overloads(getattr(found, member).__doc__ or "", member)
        for member in vars(found)
        if not member.startswith("_") or member == "__init__"
    }


def _overloads(text: str, member: str) -> list[list[str]] | None:
    lines = re.findall(rf"^(?:\d+\. )?{member}\((.*)\) -> ", text, flags=re.MULTILINE)
    return [re.findall(r"(?:^|, )(\w+): ", line)[1:] for line in lines] or None


if __name__ == "__main__":
    main()
