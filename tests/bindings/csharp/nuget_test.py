"""The NuGet package as a stranger takes it: unpacked into a clean folder, and the README's program built against it and
run there, without a look at anything of the build.

usage: nuget_test.py PACKAGE.nupkg SOURCE MCS MONO [unittest arguments]
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
import zipfile

PACKAGE = SOURCE = MCS = MONO = None
NATIVE = "runtimes/linux-x64/native/"
PROBE = """
class Probe {
  static void Main() {
    using (var runtime = new Dsopt.Runtime()) System.Console.Write(System.IO.File.ReadAllText("/proc/self/maps"));
  }
}
"""


def run(*command, **options):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                            **options)
    assert result.returncode == 0, f"{command}: exit code {result.returncode}\n{result.stdout}"
    return result.stdout


class NugetPackage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.mkdtemp()
        cls.package = os.path.join(cls.work, "package")
        with zipfile.ZipFile(PACKAGE) as package:
            cls.names = package.namelist()
            package.extractall(cls.package)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.work)

    def parse(self, name):
        return xml.etree.ElementTree.parse(os.path.join(self.package, name)).getroot()

    # What MSBuild does with the package: the assembly, and for .NET Framework and Mono the natives, beside the program.
    def program(self, source):
        folder = tempfile.mkdtemp(dir=self.work)
        shutil.copy(os.path.join(self.package, "lib/netstandard2.0/Dsopt.dll"), folder)
        for name in os.listdir(os.path.join(self.package, NATIVE)):
            shutil.copy(os.path.join(self.package, NATIVE, name), folder)
        with open(os.path.join(folder, "program.cs"), "w") as file:
            file.write(source)
        run(MCS, "-r:Dsopt.dll", "-out:program.exe", "program.cs", cwd=folder)
        return folder

    def start(self, folder, *arguments):
        environment = {"PATH": os.environ["PATH"], "HOME": self.work, "LANG": "C.UTF-8"}
        return run(MONO, os.path.join(folder, "program.exe"), *arguments, cwd="/", env=environment)

    def test_the_package_has_the_parts_that_nuget_asks_for(self):
        for name in ("[Content_Types].xml", "_rels/.rels", "Dsopt.nuspec", "README.md", "lib/netstandard2.0/Dsopt.dll",
                     "lib/netstandard2.0/Dsopt.xml", "build/netstandard2.0/Dsopt.targets", NATIVE + "libdsopt.so.1",
                     NATIVE + "libdsopt_csharp.so"):
            self.assertIn(name, self.names)
        self.assertEqual(len(self.names), len(set(self.names)))
        metadata = {e.tag.split("}")[1]: e.text for e in self.parse("Dsopt.nuspec")[0]}
        self.assertEqual(f"{metadata['id']}.{metadata['version']}.nupkg", os.path.basename(PACKAGE))
        self.assertIn(metadata["readme"], self.names)

    def test_every_part_has_a_content_type_and_every_relationship_its_target(self):
        extensions = {e.get("Extension") for e in self.parse("[Content_Types].xml")}
        for name in self.names:
            if name != "[Content_Types].xml":
                self.assertIn(os.path.splitext(name)[1][1:] or name.rsplit(".", 1)[1], extensions, name)
        for relationship in self.parse("_rels/.rels"):
            self.assertIn(relationship.get("Target").lstrip("/"), self.names)
        self.parse("build/netstandard2.0/Dsopt.targets")

    def test_the_documentation_is_that_of_the_assembly(self):
        members = {e.get("name") for e in self.parse("lib/netstandard2.0/Dsopt.xml").iter("member")}
        self.assertIn("T:Dsopt.Session", members)
        self.assertIn("M:Dsopt.Session.Poll(System.TimeSpan)", members)

    def test_the_natives_find_each_other_and_nothing_of_the_build(self):
        for name in ("libdsopt.so.1", "libdsopt_csharp.so"):
            dynamic = run("readelf", "-d", os.path.join(self.package, NATIVE, name))
            self.assertEqual(re.findall(r"R(?:UN)?PATH\)\s+Library r\w+path: \[(.*)\]", dynamic), ["$ORIGIN"], dynamic)
        folder = self.program(PROBE)
        loaded = {line.split()[-1] for line in self.start(folder).splitlines() if ".so" in line}
        for name in os.listdir(os.path.join(self.package, NATIVE)):
            self.assertEqual({os.path.dirname(path) for path in loaded if os.path.basename(path) == name},
                             {os.path.realpath(folder)}, name)

    def test_the_program_of_the_readme_answers(self):
        with open(os.path.join(self.package, "README.md")) as file:
            source = re.search(r"```csharp\n(.*?)```", file.read(), re.DOTALL).group(1)
        folder = self.program(source)
        model = os.path.join(SOURCE, "examples/robot_model/robot.dsopt")
        self.assertEqual(self.start(folder, model, "go to the kitchen"), '[{"action":"goto","target":"kitchen"}]')


if __name__ == "__main__":
    PACKAGE, SOURCE, MCS, MONO = sys.argv[1:5]
    unittest.main(argv=[sys.argv[0], *sys.argv[5:]], verbosity=2)
