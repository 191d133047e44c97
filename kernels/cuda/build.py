#!/usr/bin/env python3
"""Writes the PTX modules of `kernels/ptx/` and the report of what their kernels need.

    kernels/cuda/build.py           writes them
    kernels/cuda/build.py --check   says what differs from the tree, and fails if anything does

No GPU, toolkit or driver: the compilers come from PyPI, pinned, into a virtual environment under `target/`. NVRTC 12.0
writes PTX ISA 8.0, which every driver from 525 on can compile; a newer one would lock older drivers out. `ptxas` is a
newer one, for it must know sm_120; it makes nothing that is kept but the report.

What NVRTC writes for a large kernel depends on the addresses that its memory happens to have: mostly one text, now and
then another with a few instructions in another order. So each module is compiled a few times; of each kernel the most common
text is written, and a text in the tree passes the check if it was among them.
"""

import collections
import ctypes
import difflib
import hashlib
import pathlib
import re
import subprocess
import sys
import venv

CUDA = pathlib.Path(__file__).resolve().parent
PTX = CUDA.parent / "ptx"
ENVIRONMENT = CUDA.parents[1] / "target" / "cuda-venv"
PACKAGES = ["nvidia-cuda-nvrtc-cu12==12.0.140", "nvidia-cuda-nvcc-cu12==12.9.86"]
# A module for each: `MODULE` is the first column in the sources.
MODULES = {"75": "compute_75", "80": "compute_80"}
TARGETS = {"75": ["sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120"],
           "80": ["sm_80", "sm_89", "sm_90", "sm_100", "sm_120"]}
COMPILATIONS = 9
# ptxas and the runtime agree on how much a block may have without asking for more.
SHARED_MAX = 48 * 1024


def sources_digest():
    """The SHA-256 of the sources, each preceded by its name; `kernels/tests/cuda/ptx.rs` computes the same."""
    digest = hashlib.sha256()
    for path in sorted([*CUDA.glob("*.cu"), *CUDA.glob("*.cuh")], key=lambda path: path.name):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def site_packages():
    """Makes the environment if its packages are not there; a network that is down is said in one line."""
    marker = ENVIRONMENT / "packages"
    if not marker.exists() or marker.read_text().split() != PACKAGES:
        try:
            venv.create(ENVIRONMENT, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit("Python cannot make virtual environments here; on Debian: apt-get install python3-venv")
        pip = [ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1]
            print(f"skipped: no CUDA compilers from PyPI, so the PTX was not compared: {last}", file=sys.stderr)
            sys.exit(75)  # EX_TEMPFAIL
        marker.write_text("\n".join(PACKAGES) + "\n")
    return next(ENVIRONMENT.glob("lib/python3*/site-packages")) / "nvidia"


class Compiler:
    """NVRTC, by its C interface."""

    def __init__(self, nvidia):
        library = nvidia / "cuda_nvrtc" / "lib"
        # It looks for its built-in functions by name; loaded beforehand, they are found wherever they stand.
        ctypes.CDLL(next(library.glob("libnvrtc-builtins.so.*")), mode=ctypes.RTLD_GLOBAL)
        self.nvrtc = ctypes.CDLL(library / "libnvrtc.so.12")

    def call(self, name, *arguments):
        return getattr(self.nvrtc, name)(*arguments)

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer.value.decode()

    def ptx(self, module, arch):
        program = ctypes.c_void_p()
        source = (CUDA / "module.cu").read_bytes()
        self.call("nvrtcCreateProgram", ctypes.byref(program), source, b"module.cu", 0, None, None)
        options = [f"--gpu-architecture={arch}", f"-DMODULE={module}", f"--include-path={CUDA}", "--std=c++17",
                   "--device-as-default-execution-space"]  # for generic lambdas, which cannot say it themselves
        array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = self.call("nvrtcCompileProgram", program, len(options), array)
        log = self.text(program, "ProgramLog").strip()
        if log:
            print(log, file=sys.stderr)
        if status != 0:
            sys.exit(f"NVRTC refused the module for {arch} with status {status}")
        return self.text(program, "PTX")


def by_kernel(text):
    """The text in pieces: what stands before the first kernel, and each kernel."""
    return re.split(r"^(?=\.visible \.entry )", text, flags=re.MULTILINE)


def compile_module(compiler, module, digest, accepted):
    """The module's text: of each kernel the form that stands in `accepted`, or else the most common one."""
    texts = [compiler.ptx(module, MODULES[module]).rstrip() + "\n" for _ in range(COMPILATIONS)]
    accepted, text = set(by_kernel(accepted)), ""
    for forms in zip(*map(by_kernel, texts), strict=True):
        text += next((form for form in forms if form in accepted), collections.Counter(forms).most_common(1)[0][0])
    header = f"// Made by kernels/cuda/build.py from sources with the SHA-256\n// {digest}\n"
    return header + text


def report(nvidia, paths):
    """A line for each kernel and target, from `ptxas --verbose`."""
    ptxas = nvidia / "cuda_nvcc" / "bin" / "ptxas"
    lines = [f"{'target':<8}{'kernel':<24}{'registers':>10}{'spilled':>9}{'stack':>7}{'shared':>8}"]
    for module, path in paths.items():
        for target in TARGETS[module]:
            command = [ptxas, "--verbose", f"--gpu-name={target}", "--output-file=/dev/null", path]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"ptxas refused {path} for {target}:\n{done.stderr}")
            lines.extend(sorted(kernels(done.stderr, target)))
    return "\n".join(lines) + "\n"


def kernels(log, target):
    for part in log.split("Compiling entry function '")[1:]:
        name = part[: part.index("'")]
        stack, *spills = (int(number) for number in re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part).groups())
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        shared = int(match[1]) if (match := re.search(r"(\d+) bytes smem", part)) else 0
        if sum(spills) or shared > SHARED_MAX:
            print(f"{target} {name}: {sum(spills)} bytes spilled, {shared} bytes shared", file=sys.stderr)
        yield f"{target:<8}{name:<24}{registers:>10}{sum(spills):>9}{stack:>7}{shared:>8}"


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    nvidia, digest = site_packages(), sources_digest()
    compiler = Compiler(nvidia)
    files, fresh = {}, ENVIRONMENT / "ptx"
    fresh.mkdir(exist_ok=True)
    for module in MODULES:
        name = f"compute_{module}.ptx"
        accepted = (PTX / name).read_text() if check and (PTX / name).exists() else ""
        files[name] = compile_module(compiler, module, digest, accepted)
        (fresh / name).write_text(files[name])
    files["ptxas.txt"] = report(nvidia, {module: fresh / f"compute_{module}.ptx" for module in MODULES})

    PTX.mkdir(exist_ok=True)
    differs = False
    for name, text in files.items():
        path = PTX / name
        kept = path.read_text() if path.exists() else ""
        if kept == text:
            continue
        differs = True
        if check:
            sys.stderr.writelines(list(difflib.unified_diff(
                kept.splitlines(True), text.splitlines(True), f"kernels/ptx/{name}", "built", n=0))[:60])
        else:
            path.write_text(text)
            print(f"wrote kernels/ptx/{name}")
    if check and differs:
        sys.exit("kernels/ptx differs from what the sources make; run kernels/cuda/build.py and look at ptxas.txt")


if __name__ == "__main__":
    main()
