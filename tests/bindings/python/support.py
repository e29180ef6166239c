"""What the Python binding's tests share: the demo model, a second one, and its prompt.

ctest sets PYTHONPATH (the staged package), DSOPT_ROBOT_MODEL and DSOPT_TINY_MODEL."""

import os
import unittest

import dsopt

ROBOT = os.environ["DSOPT_ROBOT_MODEL"]
TINY = os.environ["DSOPT_TINY_MODEL"]
COMMAND = "go to the kitchen"
ANSWER = '[{"action":"goto","target":"kitchen"}]'
LONG_COMMAND = "bring me the red cup from the kitchen, then come back"


class Case(unittest.TestCase):
    """Tests with one demo model, opened once per class."""

    @classmethod
    def setUpClass(cls):
        cls.model = dsopt.Model(ROBOT)

    @classmethod
    def tearDownClass(cls):
        cls.model.close()

    def prompted(self, session, command=COMMAND):
        """A stream of session that holds the prompt of a command."""
        stream = session.stream()
        stream.append(self.model.format_chat(command), bos=False, special=True)
        return stream

    def endless(self, session, **options):
        """A stream that generates until its cache is full: far longer than any test waits."""
        stream = self.prompted(session)
        stream.generate(ignore_eos=True, **options)
        return stream

    def answer(self, session, command=COMMAND, **options):
        """Text of a command on a new stream of session."""
        with self.prompted(session, command) as stream:
            stream.generate(**options)
            return "".join(stream)

    def fails(self, error, *parts):
        """Expects error, with the number and name of its class and parts in its message."""
        return _Fails(self, error, parts)


class _Fails:
    def __init__(self, case, error, parts):
        self._case, self._error, self._parts = case, error, parts

    def __enter__(self):
        self._context = self._case.assertRaises(self._error)
        return self._context.__enter__()

    def __exit__(self, *exception):
        handled = self._context.__exit__(*exception)
        if handled:
            raised = self._context.exception
            self._case.assertIs(type(raised), self._error)
            self._case.assertEqual(raised.code, self._error.code)
            self._case.assertIn(self._error.status_name, str(raised))
            for part in self._parts:
                self._case.assertIn(part, raised.message)
        return handled
