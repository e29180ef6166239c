"""Scenarios 1 and 7: load, two models."""

import array
import io
import mmap
import pathlib
import tempfile

import dsopt
from support import ANSWER, COMMAND, ROBOT, TINY, Case


class Load(Case):
    def test_the_short_way_answers(self):
        with dsopt.Model(ROBOT) as model:
            self.assertEqual(model.chat(COMMAND), ANSWER)

    def test_info_and_metadata_describe_the_file(self):
        info = self.model.info
        self.assertEqual(
            (info.architecture, info.vocab_size, info.context_length, info.layer_count, info.parameter_count),
            ("deepseek_v2", 1280, 1024, 5, 4820352))
        self.assertEqual((info.bos, info.eos, info.pad, info.loaded, info.device), (0, 1, 2, True, "cpu"))
        self.assertEqual(self.model.metadata("license"), "MIT")
        self.assertIsNone(self.model.metadata("no such key"))
        self.assertEqual(self.model.metadata("no such key", "fallback"), "fallback")

    def test_a_path_object_opens(self):
        with dsopt.Model(pathlib.Path(ROBOT), mmap=True, verify=True, device="cpu") as model:
            self.assertEqual(model.chat(COMMAND), ANSWER)

    def test_bytes_and_other_buffers_open_and_are_released_after_the_load(self):
        data = bytearray(pathlib.Path(ROBOT).read_bytes())
        with dsopt.Model.from_memory(data) as model:
            data.clear()  # a BufferError while someone holds the buffer
            self.assertEqual(model.chat(COMMAND), ANSWER)
        with open(ROBOT, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            with dsopt.Model.from_memory(mapped) as model:
                self.assertEqual(model.chat(COMMAND), ANSWER)

    def test_a_lazy_model_holds_its_buffer_until_it_has_loaded(self):
        data = bytearray(pathlib.Path(ROBOT).read_bytes())
        model = dsopt.Model.from_memory(data, lazy=True)
        self.assertRaises(BufferError, data.clear)
        while model.poll(0.001) < 1.0:
            pass
        data.clear()
        self.assertEqual(model.chat(COMMAND), ANSWER)
        half = bytearray(pathlib.Path(ROBOT).read_bytes())
        dropped = dsopt.Model.from_memory(half, lazy=True)
        dropped.close()
        half.clear()

    def test_a_file_object_opens_and_is_read_at_any_place(self):
        with open(ROBOT, "rb") as file, dsopt.Model.from_file(file) as model:
            self.assertEqual(model.chat(COMMAND), ANSWER)

        class Stutter(io.BytesIO):
            def read(self, size=-1):
                return super().read(min(size, 100_000))  # a read may give less than asked

        file = Stutter(pathlib.Path(ROBOT).read_bytes())
        with dsopt.Model.from_file(file, size=len(file.getbuffer())) as model:
            self.assertEqual(model.chat(COMMAND), ANSWER)

    def test_a_lazy_load_grows_to_one(self):
        model = dsopt.Model(ROBOT, lazy=True)
        self.assertFalse(model.info.loaded)
        seen = [model.poll(0.0005)]
        while seen[-1] < 1.0:
            seen.append(model.poll(0.0005))
        self.assertEqual(seen, sorted(seen))
        self.assertGreater(len(seen), 1)
        self.assertTrue(model.info.loaded)
        self.assertEqual(model.chat(COMMAND), ANSWER)

    def test_progress_is_reported_and_can_cancel(self):
        seen = []
        dsopt.Model(ROBOT, progress=seen.append).close()
        self.assertEqual(seen, sorted(seen))
        self.assertEqual(seen[-1], 1.0)
        with self.fails(dsopt.CancelledError):
            dsopt.Model(ROBOT, progress=lambda share: False)

    def test_a_lazy_load_is_cancelled_from_outside(self):
        model = dsopt.Model(ROBOT, lazy=True)
        model.cancel()
        with self.fails(dsopt.CancelledError):
            while model.poll(0.001) < 1.0:
                pass

    def test_metadata_only_reads_no_weights(self):
        with dsopt.Model(ROBOT, metadata_only=True) as model:
            self.assertFalse(model.info.loaded)
            self.assertEqual(model.detokenize(model.tokenize(COMMAND)), COMMAND)
            with self.assertRaises(dsopt.DsoptError):
                model.session()

    def test_a_runtime_reports_its_devices(self):
        with dsopt.Runtime(cpu_threads=1, cpu_variant="scalar") as runtime:
            cpu = runtime.devices[0]
            self.assertEqual((cpu.kind, cpu.id), (dsopt.DeviceKind.CPU, "cpu"))
            self.assertIn("scalar", runtime.report)
            self.assertGreater(runtime.measure_read(size=1 << 20), 0)


class TwoModels(Case):
    def test_two_models_of_two_runtimes_generate_in_turn(self):
        with dsopt.Runtime(cpu_threads=1) as one, dsopt.Runtime(cpu_threads=2) as two, \
                dsopt.Model(ROBOT, runtime=one) as robot, dsopt.Model(TINY, runtime=two) as tiny:
            alone = tiny.generate("once", max_tokens=8, temperature=0, ignore_eos=True)
            with robot.session() as first, tiny.session() as second:
                a, b = first.stream(), second.stream()
                a.append(robot.format_chat(COMMAND), bos=False, special=True)
                b.append("once")
                a.generate()
                b.generate(max_tokens=8, temperature=0, ignore_eos=True)
                while first.poll(0.001).pending | second.poll(0.001).pending:
                    pass
                self.assertEqual("".join(a), ANSWER)
                self.assertEqual("".join(b), alone)

    def test_a_stream_does_not_load_into_another_model(self):
        with dsopt.Model(TINY) as tiny, self.model.session() as one, tiny.session() as two:
            saved = self.prompted(one).save()
            with self.fails(dsopt.UnsupportedError):
                two.stream().load(saved)


class NoCopy(Case):
    def test_logits_are_written_into_memory_of_the_caller(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            stream.generate(max_tokens=1)
            session.run()
            own = array.array("f", bytes(4 * 1280))
            address, _ = own.buffer_info()
            self.assertIs(stream.logits(own), own)
            self.assertEqual(own.buffer_info()[0], address)
            found = stream.logits()
            self.assertEqual(list(found), own.tolist())
            self.assertEqual(max(range(1280), key=own.__getitem__), stream.tokens[-1])
            with self.fails(dsopt.BufferTooSmallError, "1279", "1280"):
                stream.logits(array.array("f", bytes(4 * 1279)))
            with self.fails(dsopt.InvalidArgumentError, "float32"):
                stream.logits(array.array("d", bytes(8 * 1280)))

    def test_logits_are_a_numpy_array_where_numpy_is(self):
        try:
            import numpy
        except ImportError:
            self.skipTest("numpy is absent")
        with self.model.session() as session:
            stream = self.prompted(session)
            stream.generate(max_tokens=1)
            session.run()
            logits = stream.logits()
            self.assertEqual((logits.dtype, logits.shape), (numpy.float32, (1280,)))
            self.assertTrue(logits.flags.owndata)
            self.assertEqual(int(logits.argmax()), stream.tokens[-1])
            row = numpy.zeros((2, 1280), numpy.float32)
            stream.logits(row[1])
            self.assertTrue((row[1] == logits).all() and not row[0].any())
