"""Scenario 10: callbacks that throw. And the log."""

import gc
import logging
import pathlib
import weakref

import dsopt
from support import ANSWER, COMMAND, LONG_COMMAND, ROBOT, Case


class Boom(Exception):
    pass


class Events(Case):
    def test_events_reach_the_callback_inside_poll(self):
        with self.model.session() as session:
            events = []
            stream = self.prompted(session)
            stream.generate(on_event=events.append)
            self.assertEqual(events, [])
            session.run()
            self.assertEqual("".join(event.text for event in events), ANSWER)
            self.assertEqual(events[-1].finish, dsopt.Finish.EOS)
            self.assertIsNone(stream.read())

    def test_an_exception_comes_out_of_poll_as_the_same_object(self):
        boom = Boom("x")

        def callback(event):
            raise boom

        for drive in (lambda session, stream: session.run(), lambda session, stream: session.poll(1),
                      lambda session, stream: session.wait(), lambda session, stream: next(stream)):
            with self.model.session() as session:
                stream = self.prompted(session)
                stream.generate(on_event=callback)
                with self.assertRaises(Boom) as raised:
                    drive(session, stream)
                self.assertIs(raised.exception, boom)
                self.assertIsNone(boom.__context__)
                session.run()
                self.assertIsNone(stream.error)
                stream.rewind(3)
                self.assertEqual(self.answer(session), ANSWER)  # the session is usable

    def test_the_stream_of_a_callback_that_threw_is_cancelled(self):
        with self.model.session() as session:
            finishes = []

            def callback(event):
                finishes.append(event.finish)
                if len(finishes) == 2:
                    raise Boom

            stream = self.endless(session, on_event=callback)
            self.assertRaises(Boom, session.run)
            session.run()
            self.assertEqual(finishes, [dsopt.Finish.NONE] * 2)  # a callback that raised is not called again
            self.assertLess(stream.token_count, 100)

    def test_keyboard_interrupt_and_system_exit_come_out_too(self):
        for kind in (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
            with self.model.session() as session:
                def callback(event):
                    raise kind

                stream = self.prompted(session)
                stream.generate(on_event=callback)
                self.assertRaises(kind, session.run)

    def test_false_cancels_and_none_does_not(self):
        with self.model.session() as session:
            seen = []
            stream = self.endless(session, on_event=lambda event: seen.append(event) or len(seen) < 3)
            session.run()
            self.assertLess(stream.token_count, 100)

    def test_one_callback_that_throws_leaves_the_other_streams_alone(self):
        with self.model.session(max_streams=2, max_tokens=512) as session:
            def callback(event):
                raise Boom

            bad, good = self.prompted(session), self.prompted(session, LONG_COMMAND)
            bad.generate(on_event=callback)
            good.generate()
            self.assertRaises(Boom, session.run)
            self.assertEqual("".join(good), self.model.chat(LONG_COMMAND))

    def test_serial_calls_inside_a_callback_are_refused(self):
        with self.model.session() as session:
            stream = self.prompted(session)

            def callback(event):
                stream.tokens
                session.stats
                session.poll(0)

            stream.generate(on_event=callback)
            with self.fails(dsopt.BusyError):
                session.run()

    def test_a_callback_may_close_its_own_stream_and_session(self):
        session = self.model.session()
        stream = self.prompted(session)

        def callback(event):
            stream.close()
            session.close()
            gc.collect()

        stream.generate(on_event=callback)
        session.poll(1)
        self.assertTrue(session.closed)

    def test_callbacks_go_with_their_stream(self):
        class Callback:
            def __call__(self, event):
                pass

        with self.model.session() as session:
            callback = Callback()
            gone = weakref.ref(callback)
            stream = self.prompted(session)
            stream.generate(on_event=callback)
            session.run()
            del callback
            self.assertIsNotNone(gone())
            stream.close()
            del stream
            self.assertIsNone(gone())


class Loading(Case):
    def test_an_exception_of_progress_comes_out_of_the_open(self):
        boom = Boom()

        def progress(share):
            raise boom

        with self.assertRaises(Boom) as raised:
            dsopt.Model(ROBOT, progress=progress)
        self.assertIs(raised.exception, boom)
        self.assertIsNone(boom.__context__)
        model = dsopt.Model(ROBOT, progress=progress, lazy=True)
        with self.assertRaises(Boom):
            while model.poll(1) < 1:
                pass

    def test_progress_may_throw_at_the_very_end(self):
        def progress(share):
            if share == 1.0:
                raise Boom

        with dsopt.Runtime(host_memory_limit=0) as runtime:
            self.assertRaises(Boom, dsopt.Model, ROBOT, runtime=runtime, progress=progress)
            self.assertLess(runtime.host_memory_used, 1_000_000)  # the model is gone

    def test_an_exception_of_a_file_comes_out_of_the_open(self):
        class File:
            def __init__(self):
                self.file, self.reads = open(ROBOT, "rb"), 0

            def seek(self, *where):
                return self.file.seek(*where)

            def read(self, size):
                self.reads += 1
                if self.reads == 3:
                    raise Boom
                return self.file.read(size)

        file = File()
        with self.assertRaises(Boom):
            dsopt.Model.from_file(file)
        file.file.close()

    def test_a_file_that_is_too_short_fails(self):
        with open(ROBOT, "rb") as file:
            size = pathlib.Path(ROBOT).stat().st_size
            with self.assertRaises(dsopt.DsoptError):
                dsopt.Model.from_file(file, size=size + 4096, verify=True)


class Log(Case):
    def test_messages_go_to_a_logger_or_a_callable(self):
        lines = []
        dsopt.Runtime(log=lambda *line: lines.append(line), log_level=logging.DEBUG).close()
        with self.assertLogs("test.dsopt", logging.DEBUG) as logs:
            with dsopt.Runtime(log=logging.getLogger("test.dsopt"), log_level=logging.DEBUG) as runtime:
                dsopt.Model(ROBOT, runtime=runtime).close()
        self.assertTrue(logs.records)
        for level, component, message in lines:
            self.assertIn(level, (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG))
            self.assertIsInstance(message, str)

    def test_a_log_callback_that_throws_harms_nobody(self):
        calls = []

        def log(level, component, message):
            calls.append(message)
            raise Boom

        with self.assertLogs("dsopt", logging.ERROR):
            with dsopt.Runtime(log=log, log_level=logging.DEBUG) as runtime:
                with dsopt.Model(ROBOT, runtime=runtime) as model:
                    self.assertEqual(model.chat(COMMAND), ANSWER)
        self.assertTrue(calls)
