"""The C# chat as a reader runs it: with piped input, and in a terminal where Ctrl-C stops an answer.

usage: desktop_csharp_test.py MONO CHAT.exe MODEL [unittest arguments]
"""
import os
import pty
import select
import signal
import subprocess
import sys
import time
import unittest

MONO = CHAT = MODEL = None
ANSWER = '[{"action":"goto","target":"kitchen"}]'


class Terminal:
    """The chat inside a terminal of its own."""

    def __init__(self, *arguments):
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execvp(MONO, [MONO, CHAT, *arguments])
        self.seen = ""

    def until(self, text, seconds=60):
        """What was printed up to text."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.descriptor], [], [], max(0, end - time.monotonic()))
            try:
                data = os.read(self.descriptor, 4096) if ready else b""
            except OSError:  # the other side is gone
                data = b""
            if not data:
                raise AssertionError(f"'{text}' did not come; seen: {self.seen}")
            self.seen += data.decode(errors="replace")
        before, self.seen = self.seen.split(text, 1)
        return before

    def type(self, keys):
        os.write(self.descriptor, keys.encode())

    def exit_code(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self):
        os.close(self.descriptor)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


class Chat(unittest.TestCase):
    def chat(self, text, *arguments):
        return subprocess.run([MONO, CHAT, *arguments], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=120)

    def test_each_line_is_answered_and_statistics_come_at_the_end(self):
        result = self.chat("go to the kitchen\ngo to the kitchen\n", MODEL, "--once")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertEqual(result.stdout.count(ANSWER), 2, result.stdout)
        for part in ("EndOfText", "prompts:", "answers:", "tokens of cache"):
            self.assertIn(part, result.stdout)

    def test_a_conversation_goes_on_in_one_stream(self):
        result = self.chat("go to the kitchen\nand now to the bedroom\n\nnot read\n", MODEL, "--max-tokens", "20")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertEqual(result.stdout.count("model> "), 2, result.stdout)

    def test_wrong_use_is_told(self):
        self.assertEqual(self.chat("", "--nonsense").returncode, 2)
        result = self.chat("", "no/such/file.dsopt")
        self.assertEqual(result.returncode, 1)
        self.assertIn("chat: NotFound: no/such/file.dsopt", result.stdout)

    def test_ctrl_c_stops_an_answer_and_the_chat_goes_on(self):
        terminal = Terminal(MODEL, "--once", "--max-tokens", "1000", "--endless")
        try:
            terminal.until("you> ")
            terminal.type("go to the kitchen\n")
            terminal.until(ANSWER)
            terminal.type("\x03")
            terminal.until("[stopped]")
            self.assertIn("Cancelled", terminal.until("you> "))
            terminal.type("go to the kitchen\n")
            self.assertIn("Length", terminal.until("you> "))
            terminal.type("\n")
            terminal.until("tokens of cache")
            self.assertEqual(terminal.exit_code(), 0)
        finally:
            terminal.kill()


if __name__ == "__main__":
    MONO, CHAT, MODEL = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
