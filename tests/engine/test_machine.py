"""The machine as a record describes it: torch-free, without names of hosts or people, and honest about what is absent."""

from __future__ import annotations

import socket
import subprocess
import sys
import types

import pytest

from aieng_bench import machine


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("AMD EPYC", 2, 23.5, None), "amd-epyc-2c-23gib"),
        (("AMD EPYC 9354 32-Core Processor", 64, 503.2, "NVIDIA H200"), "amd-epyc-9354-64c-503gib-h200"),
        (("Intel(R) Xeon(R) Platinum 8480+ CPU @ 2.00GHz", 112, 1007, None), "intel-xeon-platinum-8480-112c-1007gib"),
        (("Intel(R) Core(TM) i9", 8, 31, "NVIDIA GeForce RTX 4090"), "intel-core-i9-8c-31gib-rtx-4090"),
        (("../../etc\x1b[1m", 1, None, None), "etc-1m-1c"),
    ],
)
def test_the_slug_names_what_a_machine_is_made_of(parts, expected):
    assert machine.slug(*parts) == expected


def test_an_environment_holds_no_host_name_and_no_path():
    variables = {
        "OMP_NUM_THREADS": "2",
        "TORCH_HOME": "/home/someone/x",
        "SECRET": "1",
        "MALLOC_TRIM_THRESHOLD_": "5",
        "USER": "me",
    }
    found = machine.environment(["pytest", "no-such-package", ""], threads=2, malloc="tuned", variables=variables)
    assert found.variables == {"MALLOC_TRIM_THRESHOLD_": "5", "OMP_NUM_THREADS": "2"}
    assert {"torch", "numpy", "pytest"} <= set(found.libraries)
    assert "no-such-package" not in found.libraries
    assert socket.gethostname() not in found.model_dump_json()
    assert (found.threads, found.malloc) == (2, "tuned")
    assert found.cores >= 1
    assert found.memory_gib > 0


def test_describing_the_machine_imports_no_torch():
    use = "machine.environment(threads=1); machine.devices()"
    code = f"import sys; from aieng_bench import machine; {use}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_missing_says_how_to_get_it(monkeypatch):
    assert machine.missing("pytest") is None
    assert machine.missing("no-such-package") == "no-such-package is not installed (pip install no-such-package)"
    requires = ["numpy>=1", 'diffusers>=0.35; extra == "peers"', "scikit-learn>=1.5; python_version > '3' and extra == 'vision'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requires)
    assert machine.extra_with("diffusers") == "peers"
    assert machine.extra_with("scikit-learn") == "vision"
    assert machine.extra_with("diffuser") is None
    assert machine.extra_with("numpy") is None


def test_a_compiler_is_looked_for_on_the_path(monkeypatch, tmp_path):
    machine.missing.cache_clear()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no C++ compiler" in machine.missing("compiler")
    machine.missing.cache_clear()
    (tmp_path / "g++").touch(mode=0o755)
    assert machine.missing("compiler") is None
    machine.missing.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "no C++ compiler" in machine.missing("compiler")
    machine.missing.cache_clear()


class NVMLError(Exception):
    pass


def nvml(**functions):
    module = types.ModuleType("pynvml")
    module.NVMLError = NVMLError
    for name, function in functions.items():
        setattr(module, name, function)
    return module


def fails(*_):
    raise NVMLError("no driver")


@pytest.fixture
def fresh_gpu():
    machine.gpu.cache_clear()
    yield
    machine.gpu.cache_clear()


@pytest.mark.usefixtures("fresh_gpu")
def test_a_gpu_is_described_by_its_driver(monkeypatch):
    functions = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetMemoryInfo": lambda d: types.SimpleNamespace(total=141 * 2**30),
        "nvmlDeviceGetName": lambda d: "NVIDIA H200",
        "nvmlSystemGetDriverVersion": lambda: "580.1",
    }
    monkeypatch.setitem(sys.modules, "pynvml", nvml(**functions))
    found = machine.environment(threads=1)
    assert (found.gpu, found.gpu_memory_gib, found.driver) == ("NVIDIA H200", 141.0, "580.1")
    assert found.machine.endswith("-h200")
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: False)
    assert machine.devices() == ["cpu"]
    monkeypatch.setattr(machine, "torch_has_cuda", lambda: True)
    assert (machine.devices(), machine.default_device()) == (["cpu", "cuda"], "cuda")


@pytest.mark.usefixtures("fresh_gpu")
def test_without_a_driver_there_is_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=fails))
    assert machine.gpu() is None
    assert machine.devices() == ["cpu"]


@pytest.mark.usefixtures("fresh_gpu")
def test_without_the_binding_the_drivers_tool_is_asked(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 580.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert machine.gpu() == machine.Gpu("NVIDIA H200", 143771 / 1024, "580.1")


def test_the_checkout_is_that_of_the_package_or_of_the_current_folder(monkeypatch, tmp_path):
    machine.checkout.cache_clear()
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "installed" / "machine.py"))
    (tmp_path / "installed").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert machine.checkout() == (None, None)
    machine.checkout.cache_clear()
    for arguments in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *arguments], check=True)
    commit, dirty = machine.checkout()
    assert commit is not None
    assert (len(commit), dirty) == (40, False)
    machine.checkout.cache_clear()
    (tmp_path / "work" / "new").touch()
    assert machine.checkout() == (commit, True)
    machine.checkout.cache_clear()
