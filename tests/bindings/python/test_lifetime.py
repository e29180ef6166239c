"""Scenarios 11 and 12: release in any order under garbage-collector pressure, threads. And the end of the process."""

import gc
import itertools
import subprocess
import sys
import textwrap
import threading

import dsopt
from support import ANSWER, COMMAND, ROBOT, TINY, Case


class AnyOrder(Case):
    def setUp(self):
        self.threshold = gc.get_threshold()
        gc.set_threshold(1)

    def tearDown(self):
        gc.set_threshold(*self.threshold)

    def make(self):
        runtime = dsopt.Runtime(cpu_threads=1, host_memory_limit=0, log=lambda *line: None)
        model = dsopt.Model(TINY, runtime=runtime)
        session = model.session(max_tokens=64)
        stream = session.stream()
        stream.append("abc")
        stream.generate(max_tokens=3, on_event=lambda event: None)
        return [runtime, model, session, stream]

    def test_closing_in_every_order(self):
        for order in itertools.permutations(range(4)):
            objects = self.make()
            for index in order:
                objects[index].close()
                objects[index].close()

    def test_dropping_in_every_order(self):
        for order in itertools.permutations(range(4)):
            objects = self.make()
            objects[2].poll(1)
            for index in order:
                objects[index] = None

    def test_a_child_outlives_its_closed_parents(self):
        runtime, model, session, stream = self.make()
        model.close()
        runtime.close()
        session.run()
        self.assertEqual(stream.token_count, 4 + 3)

    def test_all_host_memory_comes_back(self):
        runtime, model, session, stream = self.make()
        session.run()
        session.close()
        stream.close()
        model.close()
        kept = runtime.host_memory_used
        for _ in range(3):
            again = dsopt.Model(TINY, runtime=runtime)
            again.generate("abc", max_tokens=2)
            again.close()
        self.assertEqual(runtime.host_memory_used, kept)

    def test_cycles_through_callbacks_are_collected(self):
        class Holder:
            pass

        alive = len(gc.get_objects())
        for _ in range(50):
            holder = Holder()
            holder.objects = self.make()
            holder.bound = holder.objects[3].generate
            holder.callback = lambda event, holder=holder: None
            holder.objects[3].cancel()
            holder.objects[2].run()
            holder.objects[3].generate(on_event=holder.callback)
            del holder
        gc.collect()
        self.assertLess(len(gc.get_objects()) - alive, 500)

    def test_garbage_made_in_callbacks_is_collected_there(self):
        with self.model.session() as session:
            def callback(event):
                cycle = self.make()
                cycle.append(cycle)
                del cycle
                gc.collect()

            stream = self.prompted(session)
            stream.generate(on_event=callback, max_tokens=5)
            session.run()
            self.assertEqual(stream.finish, dsopt.Finish.NONE)  # nobody read it

    def test_an_abandoned_iteration_gives_its_session_back(self):
        for _ in range(20):
            for _ in self.model.stream_chat(COMMAND):
                break


class Threads(Case):
    def test_sessions_generate_in_parallel(self):
        answers, errors = [], []

        def work():
            try:
                for _ in range(5):
                    with self.model.session(max_tokens=128) as session:
                        answers.append(self.answer(session))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((errors, set(answers), len(answers)), ([], {ANSWER}, 30))

    def test_native_code_runs_without_the_interpreter_lock(self):
        with self.model.session() as session:
            stream = self.endless(session)
            counted, done = 0, threading.Event()

            def work():
                session.poll(0.2)
                done.set()

            thread = threading.Thread(target=work)
            thread.start()
            while not done.is_set():
                counted += 1
            thread.join()
            self.assertGreater(counted, 1000)
            stream.close()

    def test_closing_while_another_thread_polls_is_safe(self):
        for victim in ("stream", "session", "model"):
            model = dsopt.Model(ROBOT)
            session = model.session()
            stream = self.endless(session, on_event=lambda event: None)
            started, raised = threading.Event(), []

            def work():
                try:
                    while True:
                        started.set()
                        session.poll(0.002)
                        stream.token_count
                        model.info
                except dsopt.InvalidStateError as error:
                    raised.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            started.wait()
            {"stream": stream, "session": session, "model": model}[victim].close()
            thread.join(30)
            self.assertFalse(thread.is_alive())
            self.assertIn("after close", str(raised[0]))

    def test_reading_and_generating_from_many_threads_keeps_memory_safe(self):
        with self.model.session(max_streams=2, max_tokens=512) as session:
            stream = self.prompted(session)
            stop, errors = threading.Event(), []

            def hammer(call):
                while not stop.is_set():
                    try:
                        call()
                    except dsopt.DsoptError:
                        pass
                    except BaseException as error:
                        errors.append(error)
                        return

            calls = [lambda: session.poll(0.001), stream.read, lambda: stream.generate(max_tokens=5, ignore_eos=True),
                     session.trim, stream.cancel, lambda: stream.fork().close(), lambda: stream.rewind(5)]
            threads = [threading.Thread(target=hammer, args=(call,)) for call in calls]
            for thread in threads:
                thread.start()
            stop.wait(0.5)
            stop.set()
            for thread in threads:
                thread.join()
            self.assertEqual(errors, [])


class ProcessEnd(Case):
    def run_script(self, script):
        done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(script), ROBOT],
                              capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout.decode()

    def test_daemon_threads_inside_native_code_do_not_end_the_process_badly(self):
        for _ in range(3):
            self.run_script("""
                import sys, threading, time, dsopt
                model = dsopt.Model(sys.argv[1])
                def work():
                    with model.session() as session:
                        stream = session.stream()
                        while True:
                            stream.append_tokens([5, 6, 7])
                            stream.generate(max_tokens=100, ignore_eos=True, on_event=lambda event: None)
                            session.run()
                            stream.rewind(0)
                for _ in range(3):
                    threading.Thread(target=work, daemon=True).start()
                time.sleep(0.1)
                """)

    def test_open_objects_at_the_end_are_fine(self):
        self.run_script("""
            import sys, atexit, logging, dsopt
            logging.basicConfig(level=logging.DEBUG)
            runtime = dsopt.Runtime(log=print, log_level=logging.DEBUG)
            model = dsopt.Model(sys.argv[1], runtime=runtime)
            session = model.session()
            stream = session.stream()
            stream.append("abc")
            stream.generate(on_event=print)
            session.poll(0.001)
            class Last:
                def __del__(self):
                    session.poll(0.001)
            last = Last()
            last.me = last
            """)

    def test_ctrl_c_ends_a_blocking_run(self):
        self.run_script("""
            import _thread, sys, threading, dsopt
            model = dsopt.Model(sys.argv[1])
            for drive in ("run", "wait", "callback", "iterate"):
                with model.session(max_tokens=1024) as session, session.stream() as stream:
                    stream.append("abc")
                    stream.generate(ignore_eos=True, on_event=(lambda event: None) if drive == "callback" else None)
                    threading.Timer(0.05, _thread.interrupt_main).start()
                    try:
                        if drive == "iterate":
                            list(stream)
                        elif drive == "wait":
                            while session.stats.decode_tokens < 900:
                                session.wait()
                                stream.read()
                        else:
                            session.run()
                        raise SystemExit(f"{drive} was not interrupted")
                    except KeyboardInterrupt:
                        pass
            """)
