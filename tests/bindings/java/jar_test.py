"""A stranger's program in a clean folder, with the jar alone. Standard library only.

usage: jar_test.py JAR JAVA JAVAC SOURCE [unittest arguments]
"""
import glob
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest
import zipfile

JAR = JAVA = JAVAC = SOURCE = None
ANSWER = '"action":"goto"'


def first_program():
    """The ten lines of README.md: what is written there is what is run here."""
    with open(os.path.join(SOURCE, "bindings/java/README.md"), encoding="utf-8") as file:
        return re.search(r"```java\n(.*?)```", file.read(), re.S).group(1)


class Jar(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.mkdtemp(prefix="dsopt-jar-test")
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.jar = shutil.copy(JAR, cls.work)
        with open(os.path.join(cls.work, "Hello.java"), "w", encoding="utf-8") as file:
            file.write(first_program())
        subprocess.run([JAVAC, "--release", "17", "-Xlint:all", "-Werror", "-cp", cls.jar, "Hello.java"],
                       cwd=cls.work, check=True, timeout=120)

    def setUp(self):
        self.unpacked = tempfile.mkdtemp(dir=self.work)

    def start(self, *options):
        options = options or ("-cp", self.jar + ":.")
        command = [JAVA, "-XX:TieredStopAtLevel=1", "-Djava.io.tmpdir=" + self.unpacked, *options, "Hello",
                   os.path.join(SOURCE, "examples/robot_model/robot.dsopt")]
        return subprocess.Popen(command, cwd=self.work, env={"PATH": "/usr/bin:/bin"}, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def finish(self, process):
        output = process.communicate(timeout=120)[0]
        self.assertEqual(process.returncode, 0, output)
        self.assertIn(ANSWER, output)

    def folders(self):
        return sorted(glob.glob(self.unpacked + "/dsopt-*"))

    def test_a_program_runs_with_the_jar_alone_and_unpacks_it_once(self):
        self.finish(self.start())
        folder, = self.folders()
        self.assertRegex(os.path.basename(folder), r"^dsopt-\d+\.\d+\.\d+-[0-9a-f]{16}-\w+$")
        self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700)
        before = os.stat(folder).st_mtime_ns
        self.finish(self.start())
        self.assertEqual(self.folders(), [folder])
        self.assertEqual(os.stat(folder).st_mtime_ns, before)

    def test_it_is_a_module(self):
        self.finish(self.start("-p", self.jar, "--add-modules", "ai.dsopt", "-cp", "."))
        self.assertRegex(os.path.basename(self.folders()[0]), r"^dsopt-\d+\.\d+\.\d+-")

    def test_programs_that_start_together_share_one_folder(self):
        for process in [self.start() for _ in range(4)]:
            self.finish(process)
        self.assertEqual(len(self.folders()), 1)

    def test_changed_and_open_folders_are_not_used(self):
        self.finish(self.start())
        folder, = self.folders()
        library = os.path.join(folder, "libdsopt.so.1")
        with open(library, "r+b") as file:
            file.write(b"harm")
        self.finish(self.start())  # from a private copy, which is gone afterwards
        self.assertEqual(self.folders(), [folder])
        shutil.rmtree(folder)
        shutil.copytree(SOURCE + "/bindings/java/src/ai", folder)  # something else, open to everybody
        os.chmod(folder, 0o777)
        self.finish(self.start())
        self.assertEqual(self.folders(), [folder])
        self.assertEqual(os.listdir(folder), ["dsopt"])
        shutil.rmtree(folder)
        os.symlink(self.work, folder)
        self.finish(self.start())
        self.assertTrue(os.path.islink(folder))

    def test_it_holds_the_version_the_coordinates_and_files_of_the_hashes_it_names(self):
        with zipfile.ZipFile(self.jar) as jar:
            manifest = jar.read("META-INF/MANIFEST.MF").decode()
            version = re.search(r"Implementation-Version: (\S+)", manifest).group(1)
            self.assertEqual(os.path.basename(self.jar), f"dsopt-{version}.jar")
            pom = jar.read("META-INF/maven/ai.dsopt/dsopt/pom.xml").decode()
            for part in ("<groupId>ai.dsopt<", "<artifactId>dsopt<", f"<version>{version}<"):
                self.assertIn(part, pom)
            index = dict(reversed(line.split()) for line in jar.read("native/linux-x64/files").decode().splitlines())
            self.assertEqual(set(index), {name.split("/")[2] for name in jar.namelist()
                                          if name.startswith("native/linux-x64/lib")})
            self.assertLessEqual({"libdsopt_java.so", "libdsopt.so.1"}, set(index))
            for name, expected in index.items():
                data = jar.read("native/linux-x64/" + name)
                self.assertEqual(hashlib.sha256(data).hexdigest(), expected)
                self.assertNotIn(SOURCE.encode(), data, "a path of the build in " + name)
            self.assertIn("META-INF/licenses/libzstd1.copyright", jar.namelist())
        size = os.path.getsize(self.jar)
        print(f"{os.path.basename(self.jar)}: {size} bytes")
        self.assertLess(size, 3_000_000)


if __name__ == "__main__":
    JAR, JAVA, JAVAC, SOURCE = sys.argv[1:5]
    unittest.main(argv=sys.argv[:1] + sys.argv[5:], verbosity=2)
