"""Scenarios 8 and 9: error mapping, UTF-8 and emoji. And wrong use."""

import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

import dsopt
from dsopt import _errors, _native
from support import ANSWER, COMMAND, ROBOT, Case

TEXT = "grüße 机器人 🤖👩‍🚀"


class Mapping(Case):
    def test_every_status_has_its_class_with_the_librarys_name(self):
        codes = {getattr(_native, name): name for name in dir(_native) if name.startswith("DSOPT_E_")}
        codes = {code: name for code, name in codes.items() if "EVENT" not in name}
        self.assertEqual(set(codes), set(_errors.BY_CODE))
        for code, name in codes.items():
            error = _errors.make(code, "why")
            self.assertEqual((error.code, error.status_name, error.message), (code, name, "why"))
            self.assertEqual(_native.dsopt_status_name(code), name)
            self.assertEqual(str(error), f"{name}: why")
            self.assertIs(getattr(dsopt, type(error).__name__), type(error))
        newer = _errors.make(-77, "why")
        self.assertEqual((type(newer), newer.code), (dsopt.DsoptError, -77))

    def test_builtin_bases_catch_them_too(self):
        for error, base in ((dsopt.InvalidArgumentError, ValueError), (dsopt.OutOfMemoryError, MemoryError),
                            (dsopt.IoError, OSError), (dsopt.NotFoundError, LookupError),
                            (dsopt.TimeoutError, TimeoutError)):
            self.assertTrue(issubclass(error, base))
            self.assertEqual(str(error("x")), f"{error.status_name}: x")

    def test_files_that_cannot_be_models(self):
        with self.fails(dsopt.NotFoundError, "no/such/file"):
            dsopt.Model("no/such/file")
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaises(dsopt.DsoptError):
                dsopt.Model(folder)
            garbage = pathlib.Path(folder, "garbage.dsopt")
            garbage.write_bytes(os.urandom(100_000))
            with self.fails(dsopt.CorruptError, "first 8 bytes"):
                dsopt.Model(garbage)
            cut = pathlib.Path(folder, "cut.dsopt")
            cut.write_bytes(pathlib.Path(ROBOT).read_bytes()[:1_000_000])
            with self.fails(dsopt.CorruptError):
                dsopt.Model(cut)
            flipped = bytearray(pathlib.Path(ROBOT).read_bytes())
            flipped[-1000] ^= 1
            with self.fails(dsopt.CorruptError):
                dsopt.Model.from_memory(flipped)
        with self.fails(dsopt.NotFoundError, "cuda:9"):
            dsopt.Model(ROBOT, device="cuda:9")

    def test_states_keys_and_limits(self):
        with self.fails(dsopt.NotFoundError, "no such key"):
            self.model.get_metadata("no such key")
        with self.model.session(max_tokens=64) as session:
            stream = session.stream()
            with self.fails(dsopt.InvalidStateError, "tokens"):
                stream.generate()
            stream.append_tokens([5] * 65)
            with self.fails(dsopt.DeviceMemoryError, "65"):
                stream.generate()
            stream.rewind(8)
            with self.fails(dsopt.InvalidStateError, "logits"):
                stream.logits()
            stream.generate()
            with self.fails(dsopt.InvalidStateError, "generating"):
                stream.append(COMMAND)
        with self.fails(dsopt.DeviceMemoryError, "1000"):
            dsopt.Model(ROBOT, max_device_bytes=1000)

    def test_host_memory_is_counted_and_capped(self):
        with dsopt.Runtime(host_memory_limit=0) as runtime, dsopt.Model(ROBOT, runtime=runtime) as model:
            self.assertEqual(model.chat(COMMAND), ANSWER)
            peak = runtime.host_memory_peak
            self.assertGreater(runtime.host_memory_used, 1_000_000)
            self.assertGreaterEqual(peak, runtime.host_memory_used)
        with dsopt.Runtime(host_memory_limit=peak // 2) as runtime:
            with self.assertRaises(MemoryError):
                dsopt.Model(ROBOT, runtime=runtime).chat(COMMAND)
            self.assertLessEqual(runtime.host_memory_peak, peak // 2)
        self.assertIsNone(dsopt.default_runtime().host_memory_used)

    def test_a_failed_generation_raises_from_the_iteration(self):
        with self.model.session(max_tokens=64, max_streams=2) as session:
            streams = [self.endless(session), self.endless(session)]  # together more than the cache holds
            with self.fails(dsopt.DeviceMemoryError):
                for stream in streams:
                    list(stream)
            failed = next(stream for stream in streams if stream.finish == dsopt.Finish.ERROR)
            self.assertIsInstance(failed.error, dsopt.DeviceMemoryError)


class WrongUse(Case):
    def test_use_after_close_raises(self):
        model = dsopt.Model(ROBOT)
        session = model.session()
        stream = self.prompted(session)
        for closed in (stream, session, model):
            closed.close()
            closed.close()
            self.assertTrue(closed.closed)
        for call in (stream.generate, stream.read, stream.fork, stream.save, stream.logits, lambda: stream.tokens,
                     lambda: next(stream), lambda: stream.append("x"), lambda: stream.rewind(0),
                     lambda: stream.load(b""), session.stream, session.wait, session.run, session.trim,
                     lambda: session.poll(0), lambda: session.stats, model.session, lambda: model.info,
                     lambda: model.tokenize("x"), lambda: model.chat("x"), lambda: model.poll(0)):
            with self.fails(dsopt.InvalidStateError, "after close"):
                call()
        stream.cancel()
        session.interrupt()
        model.cancel()
        runtime = dsopt.Runtime()
        runtime.close()
        with self.fails(dsopt.InvalidStateError):
            dsopt.Model(ROBOT, runtime=runtime)

    def test_none_and_wrong_types_raise(self):
        with self.model.session() as session:
            stream = session.stream()
            wrong = (lambda: dsopt.Model(None), lambda: dsopt.Model(3), lambda: dsopt.Model(ROBOT, runtime=3),
                     lambda: dsopt.Model.from_memory(None), lambda: dsopt.Model.from_memory("text"),
                     lambda: dsopt.Model(ROBOT, progress=3), lambda: self.model.tokenize(None),
                     lambda: self.model.get_metadata(None), lambda: self.model.detokenize(None),
                     lambda: self.model.detokenize(["x"]), lambda: stream.append(None),
                     lambda: stream.append_tokens(None), lambda: stream.append_tokens([2**40]),
                     lambda: stream.append_tokens([-1]), lambda: stream.append_tokens([1280]),
                     lambda: session.poll(None), lambda: session.poll("x"), lambda: session.poll(-1),
                     lambda: session.poll(float("nan")), lambda: stream.rewind(-1), lambda: stream.rewind(1.5),
                     lambda: stream.generate(on_event=3), lambda: stream.generate(stop=[None]),
                     lambda: stream.generate(stop="\0"), lambda: stream.generate(temperature="hot"),
                     lambda: stream.generate(top_k=4), lambda: dsopt.Runtime(log=3),
                     lambda: dsopt.Runtime(log_level="loud"))
            for place, call in enumerate(wrong):
                with self.subTest(place), self.assertRaises(dsopt.InvalidArgumentError) as raised:
                    call()
                self.assertTrue(raised.exception.message)
            with self.assertRaises(TypeError):
                stream.generate(tempreature=1)

    def test_huge_sizes_raise(self):
        for options in (dict(max_streams=2**32), dict(max_tokens=2**64), dict(max_streams=2**31),
                        dict(prefill_chunk=2**200), dict(kv_dtype=77), dict(precision=9)):
            with self.assertRaises(dsopt.DsoptError):
                self.model.session(**options)
        with self.assertRaises(dsopt.DsoptError):
            self.model.session(max_tokens=2**32 - 1)
        with self.model.session() as session:
            stream = self.prompted(session)
            for options in (dict(max_tokens=2**32), dict(top_logprobs=21), dict(top_logprobs=2**32),
                            dict(seed=2**64, temperature=1), dict(stop=["x"] * 65), dict(stop="x" * 5000),
                            dict(stop_tokens=range(1025)), dict(bias={token: 0.5 for token in range(1025)}),
                            dict(stop_tokens=[2**31]), dict(priority=2**31), dict(penalty_window=1025, temperature=1)):
                with self.assertRaises(dsopt.InvalidArgumentError):
                    stream.generate(**options)
            stream.generate()  # a refused one changed nothing
            self.assertEqual("".join(stream), ANSWER)
            self.assertFalse(session.poll(1e300).pending)
            with self.fails(dsopt.InvalidArgumentError):
                stream.rewind(2**64)

    def test_invalid_utf8_names_its_place(self):
        with self.model.session() as session:
            stream = session.stream()
            for text in (b"ab\xff", "ab\udcff", "ab\ud83d", b"ab\xc0\x80"):
                for call in (self.model.tokenize, stream.append):
                    with self.fails(dsopt.InvalidArgumentError, "invalid UTF-8 at byte 2"):
                        call(text)
            for text in (b"ab\xff", "ab\udcff"):
                with self.fails(dsopt.InvalidArgumentError, "messages[0].content: invalid UTF-8 at byte 2"):
                    self.model.chat(text if isinstance(text, str) else [("user", text)])

    def test_a_second_thread_in_a_session_is_told_busy(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            inside, leave, raised = threading.Event(), threading.Event(), []

            def block(event):
                inside.set()
                leave.wait(30)

            stream.generate(on_event=block)
            thread = threading.Thread(target=session.run)
            thread.start()
            inside.wait(30)
            for call in (lambda: session.poll(0), session.wait, session.stream, stream.fork, stream.read, stream.save,
                         stream.generate, session.trim, lambda: stream.append("x"), lambda: stream.rewind(0)):
                with self.fails(dsopt.BusyError):
                    call()
            self.assertGreater(stream.token_count, 0)  # shared calls go on
            self.assertEqual(session.stats.kv_tokens_total, 1024)
            leave.set()
            thread.join()
            self.assertEqual(stream.tokens[-1], 1)


class Utf8(Case):
    def test_text_survives_tokens_and_templates(self):
        self.assertEqual(self.model.detokenize(self.model.tokenize(TEXT)), TEXT)
        self.assertEqual(self.model.tokenize(TEXT.encode()), self.model.tokenize(TEXT))
        self.assertIn(f"<|user|>{TEXT}<|assistant|>", self.model.format_chat(TEXT))
        self.assertEqual(self.model.format_chat([("user", "a\0b")], add_prompt=False)[-3:], "a\0b")

    def test_cut_characters_are_exact_as_bytes_and_marked_as_text(self):
        first = self.model.tokenize("🤖")[:1]
        self.assertEqual(self.model.detokenize_bytes(first), b"\xf0")
        self.assertEqual(self.model.detokenize(first), "\ufffd")

    def test_pieces_hold_whole_characters(self):
        tokens = self.model.tokenize(TEXT)
        banned = {token: float("-inf") for token in range(1024)}
        with self.model.session() as session:
            pieces = []
            stream = self.prompted(session)
            for token in tokens:  # bytes one by one, forced
                stream.generate(max_tokens=1, bias={token: 1000.0})
                for event in iter(lambda: session.run() or stream.read(), None):
                    pieces.append(event.text)
            self.assertEqual(stream.tokens[-len(tokens):], tokens)
            self.assertEqual("".join(stream_text(self.model, tokens)), TEXT)
            for piece in pieces:
                piece.encode()  # no lone surrogate

    def test_file_names_and_messages(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, TEXT + ".dsopt")
            with self.fails(dsopt.NotFoundError, TEXT):
                dsopt.Model(path)
            path.write_bytes(pathlib.Path(ROBOT).read_bytes())
            with dsopt.Model(path) as model:
                self.assertEqual(model.chat(COMMAND), ANSWER)
            raw = os.fsencode(folder) + b"/\xff.dsopt"  # names need not be UTF-8
            with self.assertRaises(dsopt.NotFoundError):
                dsopt.Model(os.fsdecode(raw))
            os.rename(path, raw)
            with dsopt.Model(os.fsdecode(raw)) as model:
                self.assertEqual(model.chat(COMMAND), ANSWER)
            with self.fails(dsopt.InvalidArgumentError, "NUL"):
                dsopt.Model("a\0b")
        with self.fails(dsopt.NotFoundError, TEXT):
            self.model.get_metadata(TEXT)


def stream_text(model, tokens):
    """Text of tokens, one by one, through the exact bytes."""
    return b"".join(model.detokenize_bytes([token]) for token in tokens).decode()


class Program(Case):
    def test_python_m_dsopt_is_the_program(self):
        done = subprocess.run([sys.executable, "-m", "dsopt", "run", ROBOT, "--chat", "-p", COMMAND],
                              capture_output=True, check=True)
        self.assertEqual(done.stdout.decode().strip(), ANSWER)
        done = subprocess.run([sys.executable, "-m", "dsopt", "nonsense"], capture_output=True)
        self.assertEqual(done.returncode, 2)

    def test_convert_writes_the_demo_model(self):
        checkpoint = pathlib.Path(ROBOT).parent / "checkpoint"
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "robot.dsopt")
            dsopt.convert(checkpoint, out, license="MIT", level=3)
            with dsopt.Model(out) as model:
                self.assertEqual(model.chat(COMMAND), ANSWER)
                self.assertEqual(model.metadata("license"), "MIT")
            with self.fails(dsopt.NotFoundError, "config.json"):
                dsopt.convert(folder, out)
            with self.assertRaises(dsopt.InvalidArgumentError):
                dsopt.convert(checkpoint, out, dtype="decimal")
            with self.assertRaises(dsopt.InvalidArgumentError):
                dsopt.convert("a\0b", out)
