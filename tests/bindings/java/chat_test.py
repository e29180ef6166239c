"""examples/desktop_java with piped input, and with Ctrl-C. Standard library only.

usage: chat_test.py JAR JAVA SOURCE [unittest arguments]
"""
import os
import signal
import subprocess
import sys
import tempfile
import unittest

JAR = JAVA = SOURCE = None
ATTEMPTS = 5


class Chat(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="dsopt-chat-test")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def start(self, *options):
        return subprocess.Popen(
            [JAVA, "-XX:TieredStopAtLevel=1", "-Djava.io.tmpdir=" + self.folder, "-cp", JAR, SOURCE + "/examples/desktop_java/Chat.java",
             SOURCE + "/examples/robot_model/robot.dsopt", *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
            env={"PATH": "/usr/bin:/bin"})

    def read_until(self, process, end):
        text = ""
        while not text.endswith(end):
            character = process.stdout.read(1)
            self.assertNotEqual(character, "", "the program ended after: " + text)
            text += character
        return text

    def test_each_line_of_a_pipe_is_answered_and_statistics_come_last(self):
        process = self.start()
        output = process.communicate("go to the kitchen\n\ngo to the kitchen 🤖\n", timeout=120)[0]
        self.assertEqual(process.returncode, 0, output)
        self.assertIn('> [{"action":"goto","target":"kitchen"}]\n', output)
        self.assertRegex(output, r"\n2 answers; first text after \d+\.\d ms on average\n"
                                 r"prompts +\d+ tokens +\d+\.\d tokens/s\nanswers +\d+ tokens +\d+\.\d tokens/s\n"
                                 r"cache +\d+ of 1024 tokens\n$")

    def test_a_file_that_is_no_model_is_named_and_the_exit_code_is_1(self):
        process = subprocess.run([JAVA, "-cp", JAR, SOURCE + "/examples/desktop_java/Chat.java", "no/such.dsopt"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(process.returncode, 1, process.stdout)
        self.assertIn("NOT_FOUND: no/such.dsopt", process.stdout)

    def test_ctrl_c_ends_the_answer_and_at_the_prompt_the_program(self):
        for _ in range(ATTEMPTS):  # on a loaded machine the signal may come after the answer has filled the context
            process = self.start("--endless")
            self.read_until(process, "> ")
            process.stdin.write("go to the kitchen\n")
            process.stdin.flush()
            self.read_until(process, "goto")
            process.send_signal(signal.SIGINT)
            rest = process.stdout.readline()
            if rest.endswith(" [cancelled]\n"):
                break
            print("the signal came late: " + rest[-60:].rstrip())
            process.communicate(timeout=120)
        self.assertTrue(rest.endswith(" [cancelled]\n"), rest)
        self.read_until(process, "> ")
        process.stdin.write("go to the kitchen\n")
        process.stdin.flush()
        text = self.read_until(process, "> ")  # it goes on, until the context is full
        self.assertTrue(text.endswith(" [cut at the length limit]\n> "), text)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=120)[0]
        self.assertEqual(process.returncode, 0, output)
        self.assertIn("2 answers", output)


if __name__ == "__main__":
    JAR, JAVA, SOURCE = (os.path.abspath(path) if os.path.sep in path else path for path in sys.argv[1:4])
    unittest.main(argv=sys.argv[:1] + sys.argv[4:], verbosity=2)
