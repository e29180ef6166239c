"""The command-line program dsopt, which is bundled beside the library."""

import os
import pathlib
import re
import subprocess
import sys

from ._errors import BY_NAME, DsoptError, InvalidArgumentError, NotFoundError


def program():
    """Path of the bundled program."""
    path = pathlib.Path(__file__).parent / "_bin" / "dsopt"
    if not path.is_file():
        raise NotFoundError(f"program: {path} is not there; this package was built without it")
    return str(path)


def main():
    """Becomes the program, with the arguments of this process."""
    os.execv(program(), ["dsopt", *sys.argv[1:]])


def convert(folder, out, *, dtype=None, compression=None, level=None, license=None):
    """Makes a .dsopt file of a Hugging Face checkpoint, by "dsopt convert". The keywords are its options: see
    "python -m dsopt convert --help". Raises the DsoptError that the program reports."""
    arguments = [program(), "convert", os.fspath(folder), os.fspath(out), "--quiet"]
    for name, value in (("dtype", dtype), ("compression", compression), ("level", level), ("license", license)):
        if value is not None:
            arguments.append(f"--{name}={value}")
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, check=False)
    except ValueError as error:  # a NUL in a name
        raise InvalidArgumentError(f"convert: {error}") from None
    if done.returncode == 0:
        return
    report = done.stderr.decode("utf-8", "replace").strip() or f"exit status {done.returncode}"
    found = re.search(r"(DSOPT_E_[A-Z_]+): (.*)", report)
    if found is not None and found[1] in BY_NAME:
        raise BY_NAME[found[1]](found[2])
    if done.returncode == 2:  # wrong usage
        raise InvalidArgumentError(report)
    raise DsoptError(report)
