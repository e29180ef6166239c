"""What dsopt doctor says of plugins that fail, and where the library looks for one. Standard library only.

usage: doctor_test.py DSOPT_PROGRAM LIBDSOPT FOLDER_OF_FAKE_PLUGINS [unittest arguments]
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

DSOPT = LIBRARY = FAKES = None
PLUGIN = "libdsopt_cuda.so"

# Loads argv[1], then goes to argv[2], and prints the report of a runtime.
REPORT = """
import ctypes, os, sys
library = ctypes.CDLL(sys.argv[1])
os.chdir(sys.argv[2])
runtime, size = ctypes.c_void_p(), ctypes.c_size_t()
assert library.dsopt_runtime_create(None, ctypes.byref(runtime)) == 0
text = ctypes.create_string_buffer(65536)
assert library.dsopt_runtime_report(runtime, text, len(text), ctypes.byref(size)) == 0
print(text.value.decode())
"""


def run(*command, **options):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120, **options)
    assert result.returncode == 0, (command, result.returncode, result.stderr)
    return result.stdout


def fake(kind):
    return os.path.join(FAKES, kind, PLUGIN)


class Doctor(unittest.TestCase):
    def examine(self, folder):
        """The plugin's part of the JSON and of the text, which must agree."""
        out = json.loads(run(DSOPT, "doctor", "--plugins", folder, "--json"))
        text = run(DSOPT, "doctor", "--plugins", folder)
        plugin = out["plugin"]
        self.assertEqual(plugin["path"], os.path.join(folder, PLUGIN))
        self.assertIn(f"plugin   {plugin['path']}: {plugin['state']}\n", text)
        self.assertIn(plugin["message"], text)
        self.assertIn(plugin["advice"], text)
        self.assertEqual(out["devices"][0]["id"], "cpu")
        self.assertTrue(out["devices"][0]["usable"])
        return out, text

    def test_every_failure_has_a_state_a_reason_and_an_advice(self):
        cases = {"no_driver": ("no_driver", "no usable driver", "driver"),
                 "other_abi": ("wrong_version", "backend interface", "one release"),
                 "hole": ("wrong_version", "empty slots", "one release"),
                 "no_entry": ("broken", "dsopt_backend_entry", "install it again"),
                 "undefined": ("broken", "dsopt_test_nobody_has_this", "different builds"),
                 "needs_library": ("broken", "libdsopt_test_absent.so", "missing")}
        for kind, (state, reason, advice) in cases.items():
            with self.subTest(kind):
                plugin = self.examine(os.path.join(FAKES, kind))[0]["plugin"]
                self.assertEqual(plugin["state"], state)
                self.assertIn(reason, plugin["message"])
                self.assertIn(advice, plugin["advice"])

    def test_a_plugin_that_works(self):
        out, text = self.examine(os.path.join(FAKES, "good"))
        self.assertEqual((out["plugin"]["state"], out["plugin"]["message"]), ("loaded", ""))
        self.assertEqual(out["devices"][1]["id"], "cuda:0")
        self.assertTrue(out["devices"][1]["usable"])
        self.assertIn("device   cuda:0", text)

    def test_a_gpu_that_is_too_old(self):
        out, text = self.examine(os.path.join(FAKES, "old_gpu"))
        device = out["devices"][1]
        self.assertFalse(device["usable"])
        self.assertIn("compute capability 7.5", device["problem"])
        self.assertIn("too old", device["advice"])
        self.assertIn(device["problem"], text)

    def test_files_that_are_no_plugins(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, PLUGIN)
            self.assertEqual(self.examine(folder)[0]["plugin"]["state"], "absent")
            os.symlink(path, path)
            self.assertEqual(self.examine(folder)[0]["plugin"]["state"], "unreadable")
            os.remove(path)
            with open(path, "w") as file:
                file.write("not a library")
            plugin = self.examine(folder)[0]["plugin"]
            self.assertEqual(plugin["state"], "broken")
            self.assertIn("no shared library", plugin["message"])
            with open(fake("good"), "rb") as whole, open(path, "wb") as file:
                file.write(whole.read()[:5000])
            self.assertIn("cut short", self.examine(folder)[0]["plugin"]["message"])

    def test_the_driver_is_described(self):
        out, text = self.examine(os.path.join(FAKES, "good"))
        self.assertEqual(set(out["driver"]), {"module", "cuda", "problem"})
        self.assertNotEqual(out["driver"]["cuda"] == "", out["driver"]["problem"] == "")
        self.assertIn("driver   ", text)


class Place(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.top = os.path.realpath(folder.name)

    def place(self, name, kind=None):
        """A folder with a copy of the library and, beside it, a fake plugin."""
        folder = os.path.join(self.top, name)
        os.mkdir(folder)
        shutil.copy(LIBRARY, os.path.join(folder, "libdsopt.so.1"))
        if kind:
            shutil.copy(fake(kind), folder)
        return folder

    def report(self, library, then, start=None, search=None):
        environment = {**os.environ, **({"LD_LIBRARY_PATH": search} if search else {})}
        return run(sys.executable, "-c", REPORT, library, then, cwd=start or self.top, env=environment)

    def test_a_plugin_beside_the_library_is_tried_and_its_failure_reported(self):
        here, there = self.place("here", "no_driver"), self.place("there", "good")
        report = self.report(os.path.join(here, "libdsopt.so.1"), there, search=there)
        self.assertIn(os.path.join(here, PLUGIN), report)
        self.assertIn("no usable driver", report)
        self.assertNotIn("fake plugin", report)

    def test_a_library_loaded_by_a_relative_path_looks_where_it_was_loaded_from(self):
        """Later the current directory is another one that looks the same."""
        here, there = self.place("here"), self.place("there", "good")
        report = self.report("./libdsopt.so.1", there, start=here)
        self.assertIn(f"'{here}/{PLUGIN}' is absent", report)
        self.assertNotIn("fake plugin", report)

    def test_a_link_to_the_library_leads_to_its_own_directory(self):
        here, links = self.place("here", "good"), os.path.join(self.top, "links")
        os.mkdir(links)
        os.symlink(os.path.join(here, "libdsopt.so.1"), os.path.join(links, "libdsopt.so.1"))
        shutil.copy(fake("no_driver"), links)
        self.assertIn("fake plugin", self.report(os.path.join(links, "libdsopt.so.1"), links))


if __name__ == "__main__":
    DSOPT, LIBRARY, FAKES = (os.path.abspath(argument) for argument in sys.argv[1:4])
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
