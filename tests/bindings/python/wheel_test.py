"""Builds the wheel, installs it into a fresh environment and runs the short way there.

usage: wheel_test.py BUILD BUILD_WHEEL_SCRIPT"""

import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

BUILD, BUILD_WHEEL = sys.argv[1:3]
MODEL = os.environ["DSOPT_ROBOT_MODEL"]
LIMIT = 10_000_000  # bytes of a wheel without the CUDA plugin
SCRIPT = """
import pathlib, sys, dsopt
here = pathlib.Path(dsopt.__file__).parent
assert here.is_relative_to(sys.prefix), here
with dsopt.Model(sys.argv[1]) as model:
    print(model.chat("go to the kitchen"))
maps = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
for name in ("libdsopt.so", "libzstd.so", "libxxhash.so"):
    loaded = [path for path in maps if name in path]
    assert len(loaded) == 1 and pathlib.Path(loaded[0]).is_relative_to(here / "_bin"), (name, loaded)
"""


def run(*command):
    """Standard output of a command, in an environment that leads to nothing of the build."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_", "PIP_"))}
    done = subprocess.run(list(map(str, command)), env=environment, cwd="/", stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, timeout=300)
    assert done.returncode == 0, (command, done.stdout)
    return done.stdout


def main():
    """Raises if anything is not as it should be."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        print(run(sys.executable, BUILD_WHEEL, BUILD, folder / "one"), end="")
        run(sys.executable, BUILD_WHEEL, BUILD, folder / "two")
        (wheel,) = (folder / "one").iterdir()
        assert wheel.name == "dsopt-1.0.0-cp311-cp311-linux_x86_64.whl", wheel.name
        assert wheel.read_bytes() == (folder / "two" / wheel.name).read_bytes(), "two builds differ"
        cuda = any(name.endswith("libdsopt_cuda.so") for name in zipfile.ZipFile(wheel).namelist())
        assert cuda or wheel.stat().st_size < LIMIT, wheel.stat().st_size

        run(sys.executable, "-m", "venv", folder / "venv")
        python = folder / "venv" / "bin" / "python"
        run(python, "-m", "pip", "install", "--no-index", "--disable-pip-version-check", wheel)
        assert run(python, "-c", SCRIPT, MODEL).strip() == '[{"action":"goto","target":"kitchen"}]'
        for program in ([python, "-m", "dsopt"], [folder / "venv" / "bin" / "dsopt"]):
            assert "goto" in run(*program, "run", MODEL, "--chat", "-p", "go to the kitchen")
        assert "Version: 1.0.0" in run(python, "-m", "pip", "show", "--files", "dsopt")
        run(python, "-m", "pip", "uninstall", "--yes", "dsopt")
        left = list((folder / "venv").rglob("*dsopt*"))
        assert not left, left


main()
