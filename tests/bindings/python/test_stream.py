"""Scenarios 2, 3, 4: stream, cancel, budgeted poll. And the short ways, async for, and Chat."""

import asyncio
import datetime
import math
import threading
import time

import dsopt
from support import ANSWER, COMMAND, LONG_COMMAND, Case


class Stream(Case):
    def test_pieces_joined_are_the_text_of_the_short_way(self):
        whole = self.model.chat(LONG_COMMAND)
        pieces = list(self.model.stream_chat(LONG_COMMAND))
        self.assertGreater(len(pieces), 3)
        self.assertEqual("".join(pieces), whole)
        with self.model.session() as session:
            self.assertEqual(self.answer(session, LONG_COMMAND), whole)

    def test_the_short_way_continues_plain_text(self):
        prompt = "<|user|>" + COMMAND + "<|assistant|>"
        with self.model.session() as session, session.stream() as stream:
            stream.append(prompt)  # as text: control tokens stay characters
            stream.generate(max_tokens=5, temperature=0)
            text = "".join(stream)
        self.assertEqual(self.model.generate(prompt, max_tokens=5, temperature=0), text)

    def test_events_carry_tokens_and_logprobs_and_the_finish(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            before = stream.token_count
            stream.generate(logprobs=True, top_logprobs=3)
            session.run()
            events = list(iter(stream.read, None))
            self.assertEqual(events[-1].kind, dsopt.EventKind.DONE)
            self.assertEqual((events[-1].finish, stream.finish), (dsopt.Finish.EOS, dsopt.Finish.EOS))
            tokens = [token for event in events for token in event.tokens]
            self.assertEqual(stream.tokens[before:], tokens)
            self.assertEqual("".join(event.text for event in events), ANSWER)
            for event in events:
                for token, logprob, top in zip(event.tokens, event.logprobs or (), event.top_logprobs or ()):
                    self.assertEqual(len(top), 3)
                    self.assertEqual(top[0], (token, logprob))  # greedy
                    self.assertEqual(sorted(top, key=lambda entry: -entry[1]), top)

    def test_max_tokens_and_stop_end_it(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            stream.generate(max_tokens=3)
            list(stream)
            self.assertEqual(stream.finish, dsopt.Finish.LENGTH)
            for stop in ('","target', ['nothing', '","target']):
                stream = self.prompted(session)
                stream.generate(stop=stop)
                self.assertEqual("".join(stream), ANSWER[:ANSWER.index('","target')])
                self.assertEqual(stream.finish, dsopt.Finish.STOP)

    def test_stop_tokens_and_bias_change_the_generation(self):
        kitchen = self.model.tokenize("kitchen")[0]
        with self.model.session() as session:
            stream = self.prompted(session)
            stream.generate(stop_tokens=[kitchen])
            self.assertEqual("".join(stream), ANSWER[:ANSWER.index("kitchen")])
            self.assertEqual(stream.finish, dsopt.Finish.EOS)
            banned = self.answer(session, bias={kitchen: float("-inf")}, max_tokens=20)
            self.assertNotEqual(banned, ANSWER)

    def test_the_same_seed_draws_the_same_text(self):
        options = dict(temperature=2.0, top_k=40, top_p=0.99, max_tokens=24, ignore_eos=True)
        with self.model.session() as session:
            texts = [self.answer(session, seed=seed, **options) for seed in (7, 7, 8)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_a_prompt_is_scored(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            stream.generate(score=True, prefill_only=True)
            session.run()
            scores = stream.logprobs()
            self.assertEqual(len(scores), stream.token_count)
            self.assertTrue(math.isnan(scores[0]))  # nothing is before it
            self.assertTrue(all(score <= 0 for score in scores[1:]))
            self.assertEqual(stream.logprobs(3), scores[3:])
            self.assertEqual(stream.logprobs(10**6), [])

    def test_iterating_goes_on_after_a_break(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            stream.generate()
            for first in stream:
                break
            self.assertEqual(first + "".join(stream), ANSWER)
            self.assertEqual(list(stream), [])

    def test_streams_of_one_session_iterate_side_by_side(self):
        with self.model.session(max_streams=2, max_tokens=512) as session:
            streams = [self.prompted(session), self.prompted(session, "go to the garage")]
            for stream in streams:
                stream.generate()
            texts = ["", ""]
            for a, b in zip(*streams):
                texts[0] += a
                texts[1] += b
            rest = ["".join(stream) for stream in streams]
            self.assertEqual(texts[0] + rest[0], ANSWER)
            self.assertEqual(texts[1] + rest[1], ANSWER.replace("kitchen", "garage"))


class Async(Case):
    def test_async_for_gives_the_same_pieces_and_leaves_the_loop_running(self):
        async def main():
            ticks = 0

            async def ticker():
                nonlocal ticks
                while True:
                    ticks += 1
                    await asyncio.sleep(0)

            task = asyncio.ensure_future(ticker())
            text = "".join([piece async for piece in self.model.stream_chat(LONG_COMMAND)])
            task.cancel()
            return text, ticks

        text, ticks = asyncio.run(main())
        self.assertEqual(text, self.model.chat(LONG_COMMAND))
        self.assertGreater(ticks, 3)

    def test_tasks_share_a_session(self):
        async def collect(stream):
            return "".join([piece async for piece in stream])

        async def main(session):
            streams = [self.prompted(session, f"go to the {room}") for room in ("kitchen", "garage", "bedroom")]
            for stream in streams:
                stream.generate()
            return await asyncio.gather(*map(collect, streams))

        with self.model.session(max_streams=3, max_tokens=1024) as session:
            texts = asyncio.run(main(session))
        self.assertEqual(texts, [ANSWER.replace("kitchen", room) for room in ("kitchen", "garage", "bedroom")])


class Chat(Case):
    def test_a_chat_reads_each_message_once(self):
        with dsopt.Chat(self.model) as chat:
            self.assertEqual(chat.ask(COMMAND), ANSWER)
            self.assertEqual("".join(chat.send("go to the garage")), ANSWER.replace("kitchen", "garage"))
            self.assertEqual([message.role for message in chat.messages], ["user", "assistant"] * 2)
            whole = len(self.model.tokenize(self.model.format_chat(chat.messages[:3]), special=True))
            # the last token of a turn's end may be read twice
            self.assertLessEqual(chat._session.stats.prefill_tokens, whole + 2)

    def test_a_turn_that_is_given_up_is_taken_back(self):
        with dsopt.Chat(self.model) as chat:
            with chat.send(LONG_COMMAND) as answer:
                next(answer)
                with self.fails(dsopt.InvalidStateError):
                    chat.send(COMMAND)
            self.assertEqual(chat.messages, [])
            self.assertEqual(chat.ask(COMMAND), ANSWER)
            next(chat.send(LONG_COMMAND))  # dropped, not closed
            self.assertEqual(chat.ask(COMMAND), ANSWER)
            self.assertEqual(len(chat.messages), 4)
            with self.fails(dsopt.InvalidArgumentError):
                chat.send(COMMAND, max_tokens=-1)
            chat.messages.clear()
            self.assertEqual(chat.ask(COMMAND), ANSWER)

    def test_a_chat_that_ends_while_it_answers_closes(self):
        with dsopt.Chat(self.model) as chat:
            answer = chat.send(LONG_COMMAND)
            next(answer)
        with self.fails(dsopt.InvalidStateError, "after close"):
            next(answer)

    def test_messages_come_in_many_shapes(self):
        class Turn:
            role, content = "user", COMMAND

        for messages in (COMMAND, [("user", COMMAND)], [{"role": "user", "content": COMMAND}], [Turn()],
                         [dsopt.Message("user", COMMAND)]):
            self.assertEqual(self.model.chat(messages), ANSWER)
        for wrong in ([("user",)], [3], [{"role": "user"}], [("user", 3)]):
            with self.fails(dsopt.InvalidArgumentError, "messages"):
                self.model.chat(wrong)


class Cancel(Case):
    def test_a_generation_is_cancelled_from_another_thread(self):
        with self.model.session() as session:
            stream = self.endless(session)
            threading.Timer(0.02, stream.cancel).start()
            list(stream)
            self.assertEqual(stream.finish, dsopt.Finish.CANCELLED)

    def test_the_short_way_is_cancelled_and_closed(self):
        pieces = self.model.stream_chat(COMMAND, max_tokens=0, ignore_eos=True)
        next(pieces)
        pieces.cancel()
        list(pieces)
        self.assertEqual(pieces.finish, dsopt.Finish.CANCELLED)
        pieces.close()
        pieces.cancel()

    def test_interrupt_makes_wait_return_and_the_stream_goes_on(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            stream.generate()
            session.interrupt()
            with self.fails(dsopt.CancelledError, "interrupt"):
                session.wait()
            self.assertEqual("".join(stream), ANSWER)

    def test_interrupt_from_another_thread_ends_a_wait_in_progress(self):
        with self.model.session() as session:
            stream = self.endless(session)
            threading.Timer(0.02, session.interrupt).start()
            with self.fails(dsopt.CancelledError):
                while True:
                    session.wait()
                    while stream.read() is not None:
                        pass

    def test_cancel_after_the_end_and_after_close_is_harmless(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            stream.cancel()
            stream.generate()
            self.assertEqual("".join(stream), ANSWER)
            stream.cancel()
            stream.close()
            stream.cancel()
        session.interrupt()


class Poll(Case):
    def test_short_polls_bring_the_same_text(self):
        for budget in (0.001, datetime.timedelta(milliseconds=1)):
            with self.model.session() as session:
                stream = self.prompted(session, LONG_COMMAND)
                before = stream.token_count
                stream.generate()
                sampled, polls, pending = 0, 0, True
                while pending:
                    result = session.poll(budget)
                    sampled, polls, pending = sampled + result.tokens_sampled, polls + 1, result.pending
                    self.assertEqual(result.active_streams, int(pending))
                self.assertEqual(sampled, stream.token_count - before)
                self.assertGreater(polls, 3)
                self.assertEqual("".join(stream), self.model.chat(LONG_COMMAND))

    def test_a_poll_without_budget_computes_nothing(self):
        with self.model.session() as session:
            stream = self.prompted(session)
            stream.generate()
            for _ in range(10):
                result = session.poll(0)
                self.assertEqual((result.pending, result.tokens_sampled, result.ready_events), (True, 0, 0))

    def test_wait_returns_with_an_event_or_a_timeout(self):
        with self.model.session() as session:
            session.wait()  # nothing generates
            stream = self.prompted(session)
            stream.generate()
            session.wait()
            self.assertIsNotNone(stream.read())
            prompt = self.model.tokenize(COMMAND) * 100
            slow = session.stream()
            slow.append_tokens(prompt[:900])
            slow.generate(prefill_only=True)
            started = time.monotonic()
            with self.fails(dsopt.TimeoutError, "wait"):
                while True:
                    session.wait(datetime.timedelta(microseconds=100))
                    while stream.read() is not None:
                        pass
            self.assertLess(time.monotonic() - started, 5)

    def test_stats_count_the_work(self):
        with self.model.session(max_tokens=256) as session:
            stream = self.prompted(session)
            prompt = stream.token_count
            stream.generate()
            session.run()
            stats = session.stats
            self.assertEqual((stats.kv_tokens_total, stats.prefill_tokens), (256, prompt))
            self.assertGreater(stats.decode_tokens, 3)
            self.assertEqual(stats.replayed_batches, 0)  # no graphs on the CPU
            session.trim()
