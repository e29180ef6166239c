package ai.dsopt.tests;

import static ai.dsopt.tests.Suite.equal;
import static ai.dsopt.tests.Suite.that;
import static ai.dsopt.tests.Suite.thrown;

import ai.dsopt.DsoptException;
import ai.dsopt.Event;
import ai.dsopt.Finish;
import ai.dsopt.GenerateOptions;
import ai.dsopt.Generation;
import ai.dsopt.Model;
import ai.dsopt.PollResult;
import ai.dsopt.Session;
import ai.dsopt.Stream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Scenarios 2, 3 and 4. */
final class StreamTests {
  private StreamTests() {}

  static void add(Suite suite) {
    suite.test("stream: the pieces joined are the text of the short way", StreamTests::pieces);
    suite.test("stream: tokens, finish and log probabilities come with the events", StreamTests::events);
    suite.test("stream: stop strings, stop tokens and maxTokens end it", StreamTests::ends);
    suite.test("stream: bias, scores and prefill", StreamTests::biasAndScore);
    suite.test("stream: logits come in native memory and predict the next token", StreamTests::logits);
    suite.test("cancel: another thread ends a generation without an end", StreamTests::cancel);
    suite.test("cancel: interrupt ends an await, and the stream goes on", StreamTests::interrupt);
    suite.test(
        "cancel: an interrupted thread stops reading, and stays interrupted", StreamTests::threadInterrupt);
    suite.test("cancel: a loop that is left leaves a stream that can be used", StreamTests::leave);
    suite.test("poll: polls of 1 ms bring the same text", StreamTests::budget);
    suite.test("poll: a poll with budget zero computes nothing", StreamTests::zeroBudget);
    suite.test("poll: two streams of one session are read in turn", StreamTests::twoStreams);
  }

  private static void pieces() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      String whole = Demo.answer(model);
      Stream stream = Demo.prompted(session);
      Generation generation = stream.generate(Demo.GREEDY);
      equal(Finish.NONE, generation.finish(), "finish before it is read");
      List<String> pieces = new ArrayList<>();
      for (String piece : generation) {
        that(!piece.isEmpty(), "an empty piece");
        pieces.add(piece);
      }
      that(pieces.size() > 3, "pieces: " + pieces);
      equal(whole, String.join("", pieces), "text");
      equal(Finish.END, generation.finish(), "finish");
      equal(false, generation.iterator().hasNext(), "more after the end");
      equal("", generation.text(), "text after the end");
      generation.close();
    }
  }

  private static void events() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      List<Integer> tokens = new ArrayList<>();
      Event last = null;
      for (Event event : stream.generate(Demo.greedy().logprobs().topLogprobs(3).build()).events()) {
        last = event;
        equal(event.tokens().length, event.logprobs() == null ? 0 : event.logprobs().length, "logprobs");
        for (int i = 0; i < event.tokens().length; ++i) {
          tokens.add(event.tokens()[i]);
          equal(3, event.topCount(), "topCount");
          equal(event.tokens()[i], event.topTokens()[3 * i], "the most probable token");
          equal(event.logprobs()[i], event.topLogprobs()[3 * i], "its log probability");
          that(event.topLogprobs()[3 * i] >= event.topLogprobs()[3 * i + 1], "top tokens out of order");
        }
      }
      equal(Event.Kind.DONE, last.kind(), "last event");
      equal(Finish.END, last.finish(), "finish");
      equal(tokens.stream().mapToInt(i -> i).toArray(), stream.tokens(prompt), "tokens of the stream");
      float[] logprobs = stream.logprobs(prompt);
      equal(tokens.size(), logprobs.length, "number of log probabilities");
      that(logprobs[0] <= 0 && logprobs[0] > -5, "log probability " + logprobs[0]);
    }
  }

  private static void ends() {
    try (Model model = Demo.model()) {
      String whole = Demo.answer(model);
      Generation stopped = model.chat(Demo.PROMPT, Demo.greedy().stop("nothing like this", "target").build());
      equal(whole.substring(0, whole.indexOf("target")), stopped.text(), "text before the stop string");
      equal(Finish.STOP, stopped.finish(), "finish");
      Generation three = model.chat(Demo.PROMPT, Demo.greedy().maxTokens(3).build());
      that(whole.startsWith(three.text()), "text of three tokens");
      equal(Finish.LENGTH, three.finish(), "finish");
      try (Session session = model.newSession()) {
        Stream stream = Demo.prompted(session);
        int prompt = stream.tokenCount();
        stream.generate(Demo.GREEDY).text();
        int third = stream.tokens(prompt)[2];
        stream.rewind(prompt);
        Generation two = stream.generate(Demo.greedy().stopTokens(third).build());
        two.text();
        equal(Finish.END, two.finish(), "finish at a stop token");
        equal(prompt + 3, stream.tokenCount(), "tokens to the stop token");
      }
    }
  }

  private static void biasAndScore() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      stream.generate(GenerateOptions.builder().prefillOnly().score().build()).text();
      equal(prompt, stream.tokenCount(), "tokens after a prefill");
      float[] scores = stream.logprobs(0);
      that(Float.isNaN(scores[0]) && scores[1] <= 0, "scores: " + Arrays.toString(scores));
      Stream biased = Demo.prompted(session);
      biased.generate(Demo.greedy().bias(300, 1e6).maxTokens(2).ignoreEos().build()).text();
      equal(new int[] {300, 300}, biased.tokens(prompt), "tokens with a large bias");
    }
  }

  private static void logits() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      thrown(DsoptException.InvalidState.class, "", stream::logits);
      stream.generate(GenerateOptions.builder().prefillOnly().build()).text();
      FloatBuffer logits = stream.logits();
      that(logits.isDirect(), "not in native memory");
      equal(model.info().vocabSize(), logits.remaining(), "number of logits");
      int best = 0;
      for (int i = 1; i < logits.capacity(); ++i) {
        best = logits.get(i) > logits.get(best) ? i : best;
      }
      FloatBuffer mine =
          ByteBuffer.allocateDirect(4 * (2 + logits.capacity())).order(ByteOrder.nativeOrder()).asFloatBuffer();
      stream.logits(mine.position(1));
      equal(1 + logits.capacity(), mine.position(), "position after filling");
      equal(logits, mine.slice(1, logits.capacity()), "logits in the caller's buffer");
      DsoptException small = thrown(DsoptException.class, "logits: room for 1", () -> stream.logits(mine));
      equal(ai.dsopt.Status.BUFFER_TOO_SMALL, small.code(), "code");
      for (FloatBuffer wrong : List.of(FloatBuffer.allocate(2000),
               ByteBuffer.allocateDirect(8000).asFloatBuffer(), mine.asReadOnlyBuffer())) {
        thrown(DsoptException.InvalidArgument.class, "logits: ", () -> stream.logits(wrong));
      }
      stream.generate(Demo.greedy().maxTokens(1).build()).text();
      equal(best, stream.tokens(prompt)[0], "token of the largest logit");
    }
  }

  private static void cancel() throws InterruptedException {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      Generation generation = stream.generate(Demo.ENDLESS);
      generation.iterator().next();
      Thread other = new Thread(generation::cancel);
      other.start();
      generation.text();
      other.join();
      equal(Finish.CANCELLED, generation.finish(), "finish");
      generation.cancel();
      stream.append("x", new ai.dsopt.TextFlag[0]).generate(Demo.greedy().maxTokens(1).build()).text();
    }
  }

  private static void interrupt() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      stream.start(Demo.GREEDY);
      session.interrupt();
      thrown(DsoptException.Cancelled.class, "interrupt", () -> session.await(Duration.ofSeconds(10)));
      equal(Demo.answer(model), Demo.text(Demo.finish(stream, Duration.ofSeconds(1))), "text afterwards");
    }
  }

  private static void threadInterrupt() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      Generation generation = stream.generate(Demo.ENDLESS);
      generation.iterator().next();
      Thread.currentThread().interrupt();
      thrown(DsoptException.Cancelled.class, "was interrupted", generation::text);
      that(Thread.interrupted(), "the thread is no longer interrupted");
      equal(Finish.CANCELLED, generation.finish(), "finish");
    }
  }

  private static void leave() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      try (Generation generation = stream.generate(Demo.ENDLESS)) {
        for (String piece : generation) {
          that(!piece.isEmpty(), "an empty piece");
          break;
        }
        thrown(DsoptException.InvalidState.class, "", () -> stream.append("x"));
      }
      stream.rewind(prompt);
      Generation again = stream.generate(Demo.GREEDY);
      equal(Demo.answer(model), again.text(), "text afterwards");
      Generation third = Demo.prompted(session).generate(Demo.GREEDY);
      again.close(); // of a stream, and of a generation, that ended: harms nothing
      equal(Demo.answer(model), third.text(), "text of another stream");
      stream.generate(Demo.ENDLESS);
      Generation old = again;
      thrown(java.util.NoSuchElementException.class, "", () -> old.events().iterator().next());
    }
  }

  private static void budget() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      stream.start(Demo.GREEDY);
      int polls = 0;
      int sampled = 0;
      PollResult result;
      do {
        result = session.poll(Duration.ofMillis(1));
        sampled += result.tokensSampled();
        ++polls;
      } while (result.active());
      that(polls > 2, "polls: " + polls);
      equal(stream.tokenCount() - prompt, sampled, "tokens sampled by polls");
      equal(Demo.answer(model), Demo.text(Demo.drain(stream)), "text");
      that(session.stats().decodeTokens() > 0, session.stats().toString());
      equal(0L, session.stats().replayedBatches(), "graphs on the CPU");
    }
  }

  private static void zeroBudget() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      stream.start(Demo.GREEDY);
      for (int i = 0; i < 20; ++i) {
        PollResult result = session.poll(Duration.ZERO);
        that(result.active() && result.tokensSampled() == 0, result.toString());
      }
      equal(prompt, stream.tokenCount(), "tokens");
      thrown(DsoptException.Timeout.class, "", () -> session.await(Duration.ofNanos(1)));
    }
  }

  private static void twoStreams() {
    try (Model model = Demo.model(); Session session = Demo.session(model, 2)) {
      Generation first = Demo.prompted(session).generate(Demo.GREEDY);
      Generation second = Demo.prompted(session).generate(Demo.GREEDY);
      String expected = Demo.answer(model);
      String begin = first.iterator().next(); // events of the second wait meanwhile
      equal(expected, begin + first.text(), "text of the first");
      equal(expected, second.text(), "text of the second");
    }
  }
}
