package ai.dsopt.tests;

import static ai.dsopt.tests.Suite.equal;
import static ai.dsopt.tests.Suite.that;
import static ai.dsopt.tests.Suite.thrown;

import ai.dsopt.DsoptException;
import ai.dsopt.Event;
import ai.dsopt.Finish;
import ai.dsopt.Generation;
import ai.dsopt.InternalTests;
import ai.dsopt.Model;
import ai.dsopt.ModelOptions;
import ai.dsopt.Runtime;
import ai.dsopt.Sampling;
import ai.dsopt.Session;
import ai.dsopt.SessionOptions;
import ai.dsopt.Status;
import ai.dsopt.Stream;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;

/** Scenario 8, and wrong use. */
final class ErrorTests {
  private ErrorTests() {}

  static void add(Suite suite) {
    suite.test("errors: each failure has its type, its code and the library's message", ErrorTests::types);
    suite.test("errors: every status has its exception and its name", InternalTests::statuses);
    suite.test("internal: a handle is released once, after the last call in it", InternalTests::handles);
    suite.test("internal: durations become microseconds", InternalTests::durations);
    suite.test("errors: caps of host and device memory are kept", ErrorTests::memory);
    suite.test(
        "errors: a generation that runs out of cache fails with the reason", ErrorTests::failedGeneration);
    suite.test("wrong use: every method after close", ErrorTests::afterClose);
    suite.test("wrong use: null", ErrorTests::nulls);
    suite.test("wrong use: sizes and numbers out of range", ErrorTests::sizes);
    suite.test("wrong use: a generation whose stream went on", ErrorTests::staleGeneration);
  }

  private static void code(Status expected, DsoptException failure) {
    equal(expected, failure.code(), "code of " + failure);
    that(!failure.getMessage().isEmpty() && !failure.getMessage().contains("\n"), "message of " + failure);
  }

  private static void types() throws java.io.IOException {
    try (Runtime runtime = Demo.runtime(); Model model = Demo.model(); Session session = model.newSession()) {
      code(Status.NOT_FOUND,
          thrown(DsoptException.NotFound.class, "no/such.dsopt", () -> runtime.open("no/such.dsopt")));
      code(Status.CORRUPT,
          thrown(DsoptException.Corrupt.class, "", () -> runtime.open(new byte[5000], ModelOptions.DEFAULT)));
      byte[] short0 = Arrays.copyOf(Demo.bytes(), 20_000);
      code(Status.CORRUPT,
          thrown(DsoptException.Corrupt.class, "", () -> runtime.open(short0, ModelOptions.DEFAULT)));
      Stream empty = session.newStream();
      code(Status.INVALID_STATE, thrown(DsoptException.InvalidState.class, "token", empty::generate));
      code(Status.INVALID_ARGUMENT,
          thrown(DsoptException.InvalidArgument.class, "9999999", () -> empty.appendTokens(9_999_999)));
      code(Status.INVALID_ARGUMENT,
          thrown(DsoptException.InvalidArgument.class, "-1", () -> model.detokenize(new int[] {-1})));
      Stream stream = Demo.prompted(session);
      stream.start(Demo.ENDLESS);
      code(
          Status.TIMEOUT, thrown(DsoptException.Timeout.class, "no event", () -> session.await(Duration.ZERO)));
      code(Status.INVALID_STATE, thrown(DsoptException.InvalidState.class, "", () -> stream.rewind(1)));
      code(Status.NOT_FOUND,
          thrown(DsoptException.NotFound.class, "backend.so", () -> runtime.loadBackend("no/backend.so")));
    }
  }

  private static void memory() {
    try (Runtime small = Runtime.builder().threads(1).maxHostBytes(2_000_000).build()) {
      code(Status.OUT_OF_MEMORY,
          thrown(DsoptException.OutOfMemory.class, "", () -> small.open(Demo.MODEL, Demo.CPU)));
    }
    try (Runtime runtime = Demo.runtime()) {
      ModelOptions capped = ModelOptions.builder().device("cpu").maxDeviceBytes(1_000_000).build();
      code(Status.DEVICE_MEMORY,
          thrown(DsoptException.OutOfMemory.class, "1000000", () -> runtime.open(Demo.MODEL, capped)));
    }
  }

  private static void failedGeneration() {
    try (Model model = Demo.model();
         Session session = model.newSession(SessionOptions.builder().maxStreams(2).maxTokens(128).build())) {
      Stream first = Demo.prompted(session);
      Stream second = Demo.prompted(session);
      Generation one = first.generate(Demo.ENDLESS);
      second.start(Demo.ENDLESS);
      DsoptException failure = null;
      try {
        one.text();
      } catch (DsoptException.OutOfMemory e) {
        failure = e;
      }
      List<Event> events = Demo.finish(second, Duration.ofMillis(5));
      Event last = events.get(events.size() - 1);
      that(failure != null || last.kind() == Event.Kind.ERROR, "no stream ran out of cache");
      if (failure != null) {
        code(Status.DEVICE_MEMORY, failure);
        equal(Finish.ERROR, one.finish(), "finish");
      }
      if (last.kind() == Event.Kind.ERROR) {
        equal(Status.DEVICE_MEMORY, last.status(), "status of the event");
        that(second.error().get().getMessage().contains("cache"), second.error().toString());
      }
    }
  }

  private static void afterClose() {
    Runtime runtime = Demo.runtime();
    Model model = runtime.open(Demo.MODEL, Demo.CPU);
    Session session = model.newSession();
    Stream stream = Demo.prompted(session);
    for (AutoCloseable each : List.of(stream, session, model, runtime)) {
      for (int i = 0; i < 3; ++i) {
        try {
          each.close();
        } catch (Exception failure) {
          throw new AssertionError(failure);
        }
      }
    }
    List<Suite.Body> calls = List.of(runtime::devices, runtime::report, runtime::hostBytes,
        ()
            -> runtime.open(Demo.MODEL),
        ()
            -> runtime.loadBackend("x"),
        ()
            -> runtime.measureRead("cpu", 1 << 20),
        model::info, model::newSession, model::cancel,
        ()
            -> model.poll(Duration.ZERO),
        ()
            -> model.metadata("license"),
        ()
            -> model.tokenize("x"),
        ()
            -> model.detokenize(new int[] {1}),
        ()
            -> model.formatChat(Demo.PROMPT, true),
        ()
            -> model.generate("x"),
        session::newStream, session::trim, session::stats, session::interrupt,
        ()
            -> session.poll(Duration.ZERO),
        ()
            -> session.await(Duration.ZERO),
        ()
            -> stream.append("x"),
        ()
            -> stream.appendTokens(1),
        stream::generate, stream::read, stream::cancel, stream::error, stream::tokenCount,
        ()
            -> stream.tokens(0),
        ()
            -> stream.logprobs(0),
        stream::logits, () -> stream.rewind(0), stream::fork, stream::save, () -> stream.load(new byte[9]));
    for (Suite.Body call : calls) {
      thrown(DsoptException.InvalidState.class, ": closed, expected an open one", call);
    }
  }

  private static void nulls() {
    try (Runtime runtime = Demo.runtime(); Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = session.newStream();
      List<Suite.Body> calls = List.of(()
                                           -> runtime.open((String) null),
          ()
              -> runtime.open((byte[]) null, Demo.CPU),
          ()
              -> runtime.open(Demo.MODEL, null),
          ()
              -> runtime.loadBackend(null),
          ()
              -> Model.open((String) null),
          ()
              -> model.tokenize(null),
          ()
              -> model.detokenize(null),
          ()
              -> model.metadata(null),
          ()
              -> model.formatChat(null, true),
          ()
              -> model.poll(null),
          ()
              -> model.formatChat(Arrays.asList(null, null), true),
          ()
              -> model.newSession(null),
          ()
              -> model.generate(null),
          ()
              -> model.generate("x", null),
          ()
              -> session.poll(null),
          ()
              -> session.await(null),
          ()
              -> stream.append(null),
          ()
              -> stream.appendUtf8(null),
          ()
              -> stream.appendTokens((int[]) null),
          ()
              -> stream.generate(null),
          ()
              -> stream.load(null),
          ()
              -> stream.logits(null),
          ()
              -> stream.appendChat(null),
          () -> Demo.greedy().stop("a", null), () -> Runtime.builder().logLevel(null));
      for (Suite.Body call : calls) {
        code(Status.INVALID_ARGUMENT, thrown(DsoptException.InvalidArgument.class, ": null, expected", call));
      }
    }
  }

  private static void sizes() {
    try (Runtime runtime = Demo.runtime(); Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      SessionOptions.Builder huge = SessionOptions.builder();
      thrown(DsoptException.InvalidArgument.class, "1024",
          () -> model.newSession(huge.maxStreams(1 << 30).build()));
      thrown(DsoptException.OutOfMemory.class, "",
          () -> model.newSession(SessionOptions.builder().maxTokens(Integer.MAX_VALUE).build()));
      thrown(DsoptException.InvalidArgument.class, "options.maxTokens: -1, expected 0",
          () -> model.newSession(SessionOptions.builder().maxTokens(-1).build()));
      thrown(DsoptException.InvalidArgument.class, "-1", () -> runtime.measureRead("cpu", -1));
      thrown(DsoptException.OutOfMemory.class, "", () -> runtime.measureRead("cpu", Long.MAX_VALUE));
      thrown(DsoptException.InvalidArgument.class, "budget", () -> session.poll(Duration.ofNanos(-1)));
      session.poll(Duration.ofSeconds(Long.MAX_VALUE));
      thrown(DsoptException.InvalidArgument.class, "options.maxTokens",
          () -> Demo.greedy().maxTokens(Integer.MIN_VALUE));
      thrown(DsoptException.InvalidArgument.class, "",
          () -> stream.generate(Demo.greedy().topLogprobs(21).build()));
      thrown(DsoptException.InvalidArgument.class, "",
          () -> stream.generate(Demo.greedy().stopTokens(new int[100_000]).build()));
      thrown(DsoptException.InvalidArgument.class, "sampling.topK",
          () -> stream.generate(Demo.greedy().sampling(Sampling.builder().topK(-5).build()).build()));
      thrown(DsoptException.InvalidArgument.class, "temperature",
          () -> stream.generate(Demo.greedy().sampling(Sampling.builder().temperature(-1).build()).build()));
      thrown(DsoptException.InvalidArgument.class, "bias",
          () -> stream.generate(Demo.greedy().bias(65, Double.POSITIVE_INFINITY).build()));
      thrown(DsoptException.InvalidArgument.class, "first", () -> stream.tokens(-1));
      equal(0, stream.tokens(Integer.MAX_VALUE).length, "tokens after the last");
      thrown(DsoptException.InvalidArgument.class, "1024", () -> stream.append("x".repeat(1 << 20)));
      equal(Demo.answer(model), stream.generate(Demo.GREEDY).text(), "text after all that");
    }
  }

  private static void staleGeneration() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      Generation old = stream.generate(Demo.greedy().maxTokens(2).build());
      Demo.finish(stream, Duration.ofMillis(5));
      thrown(DsoptException.InvalidState.class, "Stream.read", old::text);
      stream.rewind(prompt);
      Generation next = stream.generate(Demo.GREEDY);
      thrown(DsoptException.InvalidState.class, "another one", old::text);
      old.cancel();
      old.close();
      equal(Demo.answer(model), next.text(), "text of the next generation");
      thrown(DsoptException.InvalidArgument.class, "listener",
          () -> stream.generate(Demo.greedy().listener((s, e) -> {}).build()));
    }
  }
}
