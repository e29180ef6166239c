"""Makes the packages, installs each into a clean place and runs programs there. Standard library only.

usage: packages_test.py BUILD SOURCE [unittest arguments]

The Debian packages go into an empty root whose dpkg database is a copy of this machine's, so that their
dependencies are checked; nothing of the machine is changed. Where BUILD/../cuda/packages has libdsopt-cuda (the CUDA
part of tests/run.sh made it), it is installed too.
"""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = SOURCE = WORK = PACKAGES = None
LIBRARY_LIMIT, PLUGIN_LIMIT = 3_000_000, 60_000_000
ANSWER = '"action":"goto"'


def run(*command, fails=False, **options):
    options.setdefault("cwd", WORK)
    result = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=300, **options)
    if (result.returncode != 0) != fails:
        raise AssertionError(f"{command}: exit code {result.returncode}\n{result.stdout}")
    return result.stdout


def robot_model():
    return os.path.join(SOURCE, "examples/robot_model/robot.dsopt")


def ask(program, environment):
    return run(program, robot_model(), "go to the kitchen", env=environment)


class InstalledTree:
    """A prefix that holds a package's files, as a stranger's build sees it."""

    def __init__(self, prefix, libdir):
        self.prefix, self.libdir = prefix, os.path.join(prefix, libdir)
        self.environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": self.libdir}

    def build_with_cmake(self):
        project = tempfile.mkdtemp(dir=WORK)
        with open(os.path.join(project, "CMakeLists.txt"), "w") as file:
            file.write("cmake_minimum_required(VERSION 3.20)\nproject(stranger C)\nfind_package(dsopt 1.0 REQUIRED)\n"
                       f"add_executable(stream {SOURCE}/examples/c/stream.c)\n"
                       "target_link_libraries(stream dsopt::dsopt)\n")
        run("cmake", "-S", project, "-B", project, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        run("cmake", "--build", project)
        linked = run("ldd", os.path.join(project, "stream"), env=self.environment)
        assert self.libdir in linked, linked
        return os.path.join(project, "stream")

    def build_with_pkg_config(self):
        program = os.path.join(tempfile.mkdtemp(dir=WORK), "stream")
        flags = run("pkg-config", "--cflags", "--libs", "dsopt",
                    env={**os.environ, "PKG_CONFIG_PATH": os.path.join(self.libdir, "pkgconfig")})
        assert self.prefix in flags, flags
        run("cc", "-std=c99", os.path.join(SOURCE, "examples/c/stream.c"), "-o", program, *flags.split())
        return program


class Tarball(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        (archive,) = glob.glob(os.path.join(PACKAGES, "dsopt-*.tar.gz"))
        first, cls.place = tempfile.mkdtemp(dir=WORK), os.path.join(tempfile.mkdtemp(dir=WORK), "moved here")
        run("tar", "xf", archive, "-C", first)
        (top,) = os.listdir(first)
        shutil.move(os.path.join(first, top), cls.place)

    def test_the_program_runs_from_any_place_and_brings_what_it_loads(self):
        program = os.path.join(self.place, "bin/dsopt")
        out = run(program, "run", robot_model(), "--chat", "-p", "go to the kitchen", env={"PATH": "/usr/bin"})
        self.assertIn(ANSWER, out)
        outside = set()
        for line in run("ldd", program).splitlines():
            self.assertNotIn("not found", line)
            name, found, path = line.partition("=>")
            if found and self.place not in path:
                outside.add(name.strip().split(".so")[0])
        self.assertLessEqual(outside, {"libc", "libm", "libgcc_s", "libstdc++", "libpthread", "libdl"})
        bundled = os.listdir(os.path.join(self.place, "share/doc/dsopt/bundled"))
        self.assertEqual(len(bundled), 4, bundled)

    def test_it_is_found_by_cmake_and_pkg_config(self):
        place = os.path.join(tempfile.mkdtemp(dir=WORK), "dsopt")  # flags of pkg-config are split at blanks
        shutil.copytree(self.place, place, symlinks=True)
        tree = InstalledTree(place, "lib")
        self.assertIn(ANSWER, ask(tree.build_with_cmake(), {}))
        self.assertIn(ANSWER, ask(tree.build_with_pkg_config(), tree.environment))


class Debian(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root_rights = [] if os.geteuid() == 0 else [shutil.which("fakeroot")]
        if None in cls.root_rights:
            raise unittest.SkipTest("dpkg needs root or the program fakeroot")
        cls.root = tempfile.mkdtemp(dir=WORK)
        cls.machine = run("dpkg", "--print-architecture").strip()
        triplet = run("cc", "-print-multiarch").strip()
        cls.tree = InstalledTree(os.path.join(cls.root, "usr"), os.path.join("lib", triplet))
        admin = os.path.join(cls.root, "var/lib/dpkg")
        for folder in ("info", "triggers", "updates"):
            os.makedirs(os.path.join(admin, folder))
        shutil.copy("/var/lib/dpkg/status", admin)
        os.makedirs(os.path.join(cls.root, "etc"))
        # Maintainer scripts see this one: the cache of the root, not that of the machine.
        scripts = tempfile.mkdtemp(dir=WORK)
        with open(os.path.join(scripts, "ldconfig"), "w") as file:
            file.write('#!/bin/sh\n'
                       f'exec /sbin/ldconfig -X -f /dev/null -C {cls.root}/etc/ld.so.cache {cls.tree.libdir}\n')
        os.chmod(os.path.join(scripts, "ldconfig"), 0o755)
        cls.path = scripts + ":" + os.environ["PATH"] + ":/usr/sbin:/sbin"

    def dpkg(self, *arguments, **options):
        return run(*self.root_rights, "dpkg", "--root=" + self.root, "--force-not-root", "--force-script-chrootless",
                   "--log=" + os.path.join(WORK, "dpkg.log"), *arguments, env={**os.environ, "PATH": self.path},
                   **options)

    def package(self, name, folder=None):
        (file,) = glob.glob(os.path.join(folder or PACKAGES, f"{name}_*_{self.machine}.deb"))
        return file

    def test_1_the_program_needs_the_library_package(self):
        self.assertIn("libdsopt1", self.dpkg("-i", self.package("dsopt-tools"), fails=True))
        self.dpkg("--purge", "dsopt-tools")

    def test_2_packages_install_and_programs_run(self):
        self.dpkg("-i", *(self.package(name) for name in ("libdsopt1", "libdsopt-dev", "dsopt-tools")))
        cached = run("/sbin/ldconfig", "-C", os.path.join(self.root, "etc/ld.so.cache"), "-p")
        self.assertIn(os.path.join(self.tree.libdir, "libdsopt.so.1"), cached)
        program = os.path.join(self.root, "usr/bin/dsopt")
        out = run(program, "run", robot_model(), "--chat", "-p", "go to the kitchen", env=self.tree.environment)
        self.assertIn(ANSWER, out)
        self.assertNotIn("PATH", run("readelf", "-d", program).replace("PATHS", ""))
        self.assertIn(ANSWER, ask(self.tree.build_with_cmake(), self.tree.environment))
        self.assertIn(ANSWER, ask(self.tree.build_with_pkg_config(), self.tree.environment))

    def test_3_the_plugin_is_found_beside_the_library(self):
        folder = os.path.join(BUILD, "../cuda/packages")
        if not glob.glob(os.path.join(folder, "libdsopt-cuda_*.deb")):
            self.skipTest(f"no libdsopt-cuda in {folder}: the CUDA part was not built")
        self.dpkg("-i", self.package("libdsopt-cuda", folder))
        out = run(os.path.join(self.root, "usr/bin/dsopt"), "doctor", "--json", env=self.tree.environment)
        plugin = json.loads(out)["plugin"]
        self.assertEqual(plugin["path"], os.path.join(self.tree.libdir, "libdsopt_cuda.so"))
        self.assertIn(plugin["state"], ("loaded", "no_driver"), plugin)

    def test_4_what_was_installed_can_be_removed(self):
        self.dpkg("--purge", "libdsopt-cuda", "libdsopt-dev", "dsopt-tools", "libdsopt1")
        left = [file for file in glob.glob(self.root + "/usr/**", recursive=True) if "dsopt" in file]
        self.assertEqual(left, [])


class Sizes(unittest.TestCase):
    def stripped(self, path):
        copy = os.path.join(tempfile.mkdtemp(dir=WORK), "stripped")
        run("strip", "-o", copy, path)
        return os.path.getsize(copy)

    def test_library_and_plugin_are_small(self):
        sizes = {"libdsopt.so": (self.stripped(os.path.join(BUILD, "lib/libdsopt.so")), LIBRARY_LIMIT)}
        for plugin in glob.glob(os.path.join(BUILD, "../cuda/**/libdsopt_cuda.so"), recursive=True)[:1]:
            sizes["libdsopt_cuda.so"] = (self.stripped(plugin), PLUGIN_LIMIT)
        for name, (size, limit) in sizes.items():
            print(f"{name}: {size} bytes stripped, at most {limit} expected")
            self.assertLess(size, limit, name)


if __name__ == "__main__":
    BUILD, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    with tempfile.TemporaryDirectory() as WORK:
        WORK = os.path.realpath(WORK)
        PACKAGES = os.path.join(WORK, "packages")
        run("cpack", "--config", os.path.join(BUILD, "CPackConfig.cmake"), "-B", PACKAGES)
        unittest.main(argv=sys.argv[:1] + sys.argv[3:])
