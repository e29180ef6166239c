"""Scenarios 5, 6 and 13: fork, save and load, memory of a session."""

import dsopt
from support import ANSWER, COMMAND, LONG_COMMAND, ROBOT, Case


class Fork(Case):
    def test_a_fork_continues_exactly_like_its_parent(self):
        with self.model.session(max_streams=2, max_tokens=512) as session:
            parent = self.prompted(session, LONG_COMMAND)
            parent.generate(max_tokens=5)
            list(parent)
            fork = parent.fork()
            self.assertEqual(fork.tokens, parent.tokens)
            for stream in (parent, fork):
                stream.generate(temperature=0.8, seed=3, max_tokens=30)
            session.run()
            self.assertEqual("".join(fork), "".join(parent))
            self.assertEqual(fork.tokens, parent.tokens)

    def test_changing_a_fork_leaves_its_parent_as_it_was(self):
        with self.model.session(max_streams=2, max_tokens=512) as session:
            parent = self.prompted(session)
            fork = parent.fork()
            before = parent.tokens
            fork.rewind(4)
            fork.append(" somewhere else")
            fork.generate(max_tokens=8, ignore_eos=True)
            list(fork)
            self.assertEqual(parent.tokens, before)
            parent.generate()
            self.assertEqual("".join(parent), ANSWER)

    def test_many_forks_of_one_prompt_share_its_cache(self):
        with self.model.session(max_streams=16, max_tokens=2048) as session:
            parent = self.prompted(session)
            parent.generate(prefill_only=True)
            session.run()
            forks = [parent.fork() for _ in range(16)]
            self.assertEqual(session.stats.kv_tokens_used, 64)
            for fork in forks:
                fork.generate()
            session.run()
            self.assertEqual({"".join(fork) for fork in forks}, {ANSWER})

    def test_the_same_prompt_after_a_rewind_gives_the_same_text(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            count = stream.token_count
            stream.generate()
            self.assertEqual("".join(stream), ANSWER)
            stream.rewind(count)
            self.assertEqual(stream.token_count, count)
            stream.generate()
            self.assertEqual("".join(stream), ANSWER)
            with self.fails(dsopt.InvalidArgumentError, "rewind"):
                stream.rewind(10**6)


class SaveAndLoad(Case):
    def test_a_saved_stream_continues_in_a_new_session(self):
        with self.model.session() as session:
            stream = self.prompted(session, LONG_COMMAND)
            stream.generate(max_tokens=6)
            head = "".join(stream)
            saved = bytes(stream.save())
            stream.generate()
            tail = "".join(stream)
        with dsopt.Model(ROBOT) as again, again.session() as session, session.stream() as stream:
            stream.load(saved)
            stream.generate()
            self.assertEqual("".join(stream), tail)
            self.assertLessEqual(session.stats.prefill_tokens, 1)  # the cache came along
        self.assertEqual(head + tail, self.model.chat(LONG_COMMAND))

    def test_any_flipped_byte_is_found_and_the_stream_stays_usable(self):
        with self.model.session(max_streams=2, max_tokens=512) as session:
            stream = self.prompted(session)
            saved = stream.save()
            other = self.prompted(session)
            for place in (0, 8, len(saved) // 2, len(saved) - 1):
                broken = bytearray(saved)
                broken[place] ^= 0x40
                with self.assertRaises((dsopt.CorruptError, dsopt.UnsupportedError, dsopt.VersionError)):
                    other.load(broken)
            with self.assertRaises(dsopt.CorruptError):
                other.load(saved[:-1])
            other.generate()
            self.assertEqual("".join(other), ANSWER)

    def test_only_buffers_load(self):
        with self.model.session() as session:
            stream = session.stream()
            for wrong in (None, "text", 3):
                with self.fails(dsopt.InvalidArgumentError, "data"):
                    stream.load(wrong)
            self.assertEqual(stream.tokens, [])
            self.assertEqual(self.answer(session, COMMAND), ANSWER)


class Memory(Case):
    def test_the_plan_is_what_the_session_then_takes(self):
        plan = self.model.plan_session(max_streams=2, max_tokens=512)
        self.assertEqual((plan.tokens, plan.wanted_tokens, plan.cache_bytes), (512, 512, plan.wanted_cache_bytes))
        self.assertEqual(plan.tokens % plan.page_tokens, 0)
        with self.model.session(max_streams=2, max_tokens=512) as session:
            stats = session.stats
            self.assertEqual(stats.kv_tokens_total, plan.tokens)
            self.assertEqual(stats.device_bytes, plan.cache_bytes + plan.workspace_bytes)

    def test_every_cache_type_is_planned_taken_and_used(self):
        cache_bytes = []
        for kv_dtype in (dsopt.DType.F32, dsopt.DType.BF16, dsopt.DType.F8_E4M3, dsopt.DType.I8, dsopt.DType.I4):
            with self.subTest(kv_dtype), self.model.session(max_tokens=512, kv_dtype=kv_dtype) as session:
                plan = self.model.plan_session(max_tokens=512, kv_dtype=kv_dtype)
                self.assertEqual(session.stats.device_bytes, plan.cache_bytes + plan.workspace_bytes)
                self.assertEqual(self.answer(session), ANSWER)
                cache_bytes.append(plan.cache_bytes)
        f32, bf16, fp8, int8, int4 = cache_bytes
        self.assertEqual(f32, 2 * bf16)
        self.assertLess(max(fp8, int8), 0.6 * bf16)
        self.assertLess(int4, min(fp8, int8))
        with self.fails(dsopt.UnsupportedError, "kv_dtype is 77"):
            self.model.plan_session(kv_dtype=77)

    def test_a_plan_needs_the_weights(self):
        with dsopt.Model(ROBOT, lazy=True) as model:
            with self.fails(dsopt.InvalidStateError):
                model.plan_session()
            while model.poll(1) < 1.0:
                pass
            self.assertEqual(model.plan_session().wanted_tokens, model.info.context_length)
        with self.fails(dsopt.InvalidStateError):
            model.plan_session()

    def test_a_cap_is_kept_or_refused(self):
        cap = self.model.plan_session(max_tokens=512).cache_bytes // 2
        plan = self.model.plan_session(max_tokens=512, max_cache_bytes=cap)
        self.assertEqual((plan.tokens, plan.wanted_tokens), (256, 512))
        with self.fails(dsopt.DeviceMemoryError, f"max_cache_bytes {cap}", f"{2 * cap} expected"):
            self.model.session(max_tokens=512, max_cache_bytes=cap)
        self.assertEqual(self.model.plan_session(max_cache_bytes=1).tokens, 0)
        with self.fails(dsopt.DeviceMemoryError, "max_cache_bytes 1, ", "for 1 pages"):
            self.model.session(max_cache_bytes=1)
        with self.model.session(max_cache_bytes=cap) as session:
            self.assertEqual(session.stats.kv_tokens_total, 256)
        for wrong in (-1, 2**64):
            with self.fails(dsopt.InvalidArgumentError):
                self.model.plan_session(max_cache_bytes=wrong)

    def test_a_cap_on_all_device_memory_leaves_the_cache_what_is_left(self):
        whole = self.model.plan_session(max_tokens=512)
        most = self.model.info.weight_bytes + whole.workspace_bytes + whole.cache_bytes
        plan = self.model.plan_session(max_tokens=512, max_device_bytes=most - 1, max_host_cache_bytes=2**40)
        self.assertEqual((plan.tokens, plan.host_tokens, plan.host_cache_bytes), (448, 0, 0))  # none on the CPU's side
        with self.fails(dsopt.DeviceMemoryError, f"max_device_bytes {most - 1} ", "8 expected"):
            self.model.session(max_tokens=512, max_device_bytes=most - 1)
        with self.model.session(max_tokens=512, max_device_bytes=most) as session:
            self.assertEqual((session.stats.kv_tokens_total, session.stats.kv_host_tokens_total), (512, 0))
        with self.fails(dsopt.DeviceMemoryError, "max_device_bytes 1, "):
            self.model.session(max_device_bytes=1)

    def test_the_limit_may_be_lowered_while_a_stream_runs(self):
        whole = self.model.plan_session(max_tokens=512).cache_bytes
        with self.model.session(max_tokens=512) as session:
            stream = self.prompted(session)
            stream.generate(ignore_eos=True)
            next(stream)
            session.set_cache_limit(whole // 4)
            self.assertEqual(session.stats.kv_tokens_total, 128)
            with self.fails(dsopt.DeviceMemoryError, "cache: no free page", "2 of 2 pages"):
                "".join(stream)
            session.set_cache_limit(0)
            self.assertEqual(session.stats.kv_tokens_total, 512)
            session.set_cache_limit(2 * whole)
            self.assertEqual(session.stats.kv_tokens_total, 512)
            stream.generate(max_tokens=4, ignore_eos=True)
            self.assertGreater(len("".join(stream)), 0)
            for wrong in (-1, 2**64):
                with self.fails(dsopt.InvalidArgumentError):
                    session.set_cache_limit(wrong)
