"""Builds the wheel: build_wheel.py BUILD OUT

Installs component "python" of the CMake build folder BUILD into a clean tree and writes it as a wheel into OUT. A wheel
is a zip of that tree with three files about it, so the standard library is all it takes. The same input gives the same
bytes.
"""

import base64
import hashlib
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile

NAME = "dsopt"
SUMMARY = "Language-model inference inside your program"
TIME = (2026, 1, 1, 0, 0, 0)


def cached(build, name):
    """A variable of the CMake cache."""
    found = re.search(rf"^{name}:\w+=(.*)$", (build / "CMakeCache.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        sys.exit(f"build_wheel.py: {build}/CMakeCache.txt has no {name}")
    return found[1]


def metadata(version, readme):
    """METADATA of the core metadata specification 2.1."""
    return "\n".join([
        "Metadata-Version: 2.1", f"Name: {NAME}", f"Version: {version}", f"Summary: {SUMMARY}",
        f"Requires-Python: =={sys.version_info.major}.{sys.version_info.minor}.*",
        "Provides-Extra: numpy", 'Requires-Dist: numpy; extra == "numpy"',
        "Description-Content-Type: text/markdown", "", readme])


def tag():
    """Python, ABI and platform that the extension was built for."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    return f"{python}-{python}-{platform}"


def record_line(name, data):
    """A line of RECORD: name, hash, size."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


def write_wheel(tree, version, readme, out):
    """The wheel of an installed tree. Its path."""
    info = f"{NAME}-{version}.dist-info"
    files = {path.relative_to(tree).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o111)
             for path in sorted(tree.rglob("*")) if path.is_file()}
    files[f"{info}/METADATA"] = (metadata(version, readme).encode(), 0)
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: dsopt {version}\nRoot-Is-Purelib: false\nTag: {tag()}\n".encode(), 0)
    files[f"{info}/entry_points.txt"] = (b"[console_scripts]\ndsopt = dsopt._program:main\n", 0)
    record = [record_line(name, data) for name, (data, _) in files.items()] + [f"{info}/RECORD,,"]
    files[f"{info}/RECORD"] = ("\n".join(record).encode() + b"\n", 0)
    out.mkdir(parents=True, exist_ok=True)
    wheel = out / f"{NAME}-{version}-{tag()}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (data, executable) in files.items():
            entry = zipfile.ZipInfo(name, TIME)
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def flatten_links(folder):
    """A zip has no links: each library stays once, under the name that programs ask for."""
    for link in [path for path in folder.iterdir() if path.is_symlink()]:
        target = link.resolve()
        link.unlink()
        target.rename(link)


def main():
    """Prints the path of the wheel and its size."""
    build, out = map(pathlib.Path, sys.argv[1:3])
    version = cached(build, "CMAKE_PROJECT_VERSION")
    readme = pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cached(build, "CMAKE_COMMAND"), "--install", build, "--component", "python", "--strip",
                        "--prefix", folder], check=True, stdout=subprocess.DEVNULL)
        tree = pathlib.Path(folder)
        flatten_links(tree / NAME / "_bin")
        wheel = write_wheel(tree, version, readme, out)
    print(f"{wheel}: {wheel.stat().st_size} bytes")


if __name__ == "__main__":
    main()
