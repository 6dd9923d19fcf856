"""Make .venv and install the project into it; do nothing, at once, if nothing that matters has changed.

Standard library only, and syntax that an old Python can still read, so that every missing thing is said in one line.
"""

from __future__ import print_function

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
STAMP = os.path.join(VENV, "aieng-bench.installed")
CUDA_BUILD_MB = 400  # a CPU build of torch is about 200 MB, a CUDA build at least 500 MB before its libraries

CUDA_NOTICE = """\
NOTE: pip chose torch's CUDA build ({size} MB, several GB with its libraries), and this machine shows no NVIDIA GPU.
      For the small CPU build stop now (Ctrl-C) and give pip the index that PyTorch's install page names for CPU:
          PIP_EXTRA_INDEX_URL=<that index> make bench"""


def fail(message):
    sys.exit("bootstrap: " + message)


def check_prerequisites():
    if sys.version_info < (3, 11):
        fail("needs Python 3.11 or newer, this is %d.%d; try: make PYTHON=python3.12 ..." % sys.version_info[:2])
    if not (os.environ.get("CXX") or any(shutil.which(c) for c in ("g++", "clang++", "c++"))):
        fail("needs a C++ compiler (g++ or clang++) on the PATH; on Debian: apt-get install g++")


def fingerprint(extras):
    """Hash of everything whose change asks for a new install: build files, native sources, the interpreter, the extras."""
    digest = hashlib.sha256(("%s %s" % (sys.version, sorted(extras))).encode())
    paths = [os.path.join(ROOT, name) for name in ("pyproject.toml", "setup.py", "constraints.txt", "scripts/bootstrap.py")]
    for folder, _, names in sorted(os.walk(os.path.join(ROOT, "csrc"))):
        paths += [os.path.join(folder, name) for name in sorted(names)]
    for path in paths:
        with open(path, "rb") as source:
            digest.update(path.encode() + source.read())
    return digest.hexdigest()


def pip(*arguments, **options):
    """Run pip in the environment, passing its output on line by line to ``watch`` (or hiding it unless it fails)."""
    watch = options.get("watch", lambda line: None)
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"] + list(arguments)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    lines = []
    for line in process.stdout:
        lines.append(line)
        watch(line)
    if process.wait():
        sys.stderr.write("".join(lines[-25:]))
        fail("'pip install %s' failed; its last lines are above" % " ".join(arguments))


def warn_of_cuda_build(line):
    """Say so before gigabytes arrive that this machine cannot use."""
    words = line.strip().split("(")
    if not (line.strip().startswith(("Downloading torch-", "Using cached torch-")) and words[-1].endswith("MB)")):
        return
    size = float(words[-1].split()[0])
    if size > CUDA_BUILD_MB and not (os.path.exists("/dev/nvidiactl") or shutil.which("nvidia-smi")):
        print(CUDA_NOTICE.format(size=int(size)), flush=True)
        if sys.stdin is not None and sys.stdin.isatty():
            time.sleep(10)


def constraints():
    """The constraints to install by: without the Triton pin where torch's CUDA build pins the Triton that it needs."""
    wanted = os.path.join(VENV, "constraints.txt")
    requires = subprocess.check_output([PYTHON, "-c", "import importlib.metadata as m; print(m.requires('torch'))"], text=True)
    own_triton = "'triton" in requires
    with open(os.path.join(ROOT, "constraints.txt")) as source, open(wanted, "w") as target:
        target.writelines(line for line in source if not (own_triton and line.startswith("triton==")))
    return wanted


def install(extras):
    def say(text):
        print("[install] " + text, flush=True)

    if not os.path.exists(PYTHON):
        say("making .venv with Python %d.%d" % sys.version_info[:2])
        if subprocess.call([sys.executable, "-m", "venv", VENV]):
            fail("could not make .venv; on Debian: apt-get install python3-venv")
    say("torch (the largest part) ...")
    pip("-c", "constraints.txt", "torch", watch=warn_of_cuda_build)
    say("the project, its peers and its native modules ...")
    pip("-c", constraints(), "-e", ".[%s]" % ",".join(sorted(extras)))
    say("done")


def wait_alone(lock):
    """Wait until no other process installs here; others wait until ``lock`` is closed, by this process or by its end."""
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (IOError, OSError):
        print("[install] another process is installing here; waiting for it ...", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def install_once(extras):
    """Install, unless that was done already from the same sources with at least these extras."""
    have = []
    if os.path.exists(STAMP):
        with open(STAMP) as stamp:
            have = stamp.read().split("\n")
    extras = sorted(set(extras) | set(have[1].split() if len(have) > 1 else []))  # a smaller set never uninstalls a larger one
    mark = fingerprint(extras)
    if not have or have[0] != mark:
        install(extras)
        with open(STAMP, "w") as stamp:
            stamp.write(mark + "\n" + " ".join(extras))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", default=[], help="optional dependency groups of pyproject.toml")
    extras = parser.parse_args().extras
    check_prerequisites()
    with open(os.path.abspath(__file__)) as lock:
        wait_alone(lock)
        install_once(extras)


if __name__ == "__main__":
    main()
