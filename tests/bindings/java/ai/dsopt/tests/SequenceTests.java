package ai.dsopt.tests;

import static ai.dsopt.tests.Suite.equal;
import static ai.dsopt.tests.Suite.that;
import static ai.dsopt.tests.Suite.thrown;

import ai.dsopt.DataType;
import ai.dsopt.DsoptException;
import ai.dsopt.GenerateOptions;
import ai.dsopt.Generation;
import ai.dsopt.Model;
import ai.dsopt.ModelOptions;
import ai.dsopt.Runtime;
import ai.dsopt.Sampling;
import ai.dsopt.Session;
import ai.dsopt.SessionMemory;
import ai.dsopt.SessionOptions;
import ai.dsopt.SessionStats;
import ai.dsopt.Status;
import ai.dsopt.Stream;
import java.time.Duration;
import java.util.EnumMap;
import java.util.Iterator;

/** Scenarios 5, 6, 7 and 13. */
final class SequenceTests {
  private SequenceTests() {}

  static void add(Suite suite) {
    suite.test("fork: a fork continues exactly like its parent", SequenceTests::fork);
    suite.test("fork: changing one leaves the other as it was", SequenceTests::independent);
    suite.test("fork: rewind and the same prompt give the same text", SequenceTests::rewind);
    suite.test("save: a stream loaded elsewhere continues like the original", SequenceTests::save);
    suite.test("save: a flipped byte is corrupt and leaves the stream usable", SequenceTests::corrupt);
    suite.test("two models: each generates its own text in turn", SequenceTests::twoModels);
    suite.test("two models: what one saved is refused by the other", SequenceTests::otherModel);
    suite.test("memory: the plan is what the session then takes", SequenceTests::plan);
    suite.test("memory: every cache type is planned, taken and used", SequenceTests::cacheTypes);
    suite.test("memory: a plan needs the weights", SequenceTests::planNeedsWeights);
    suite.test("memory: a cap is kept or refused", SequenceTests::cap);
    suite.test("memory: the limit may be lowered while a stream runs", SequenceTests::limit);
  }

  private static final GenerateOptions RANDOM =
      GenerateOptions.builder()
          .sampling(Sampling.builder().temperature(1.5).topP(0.95).seed(42).build())
          .ignoreEos()
          .maxTokens(40)
          .build();

  private static void plan() {
    SessionOptions options = SessionOptions.builder().maxStreams(2).maxTokens(512).build();
    try (Model model = Demo.model(); Session session = model.newSession(options)) {
      SessionMemory plan = model.planSession(options);
      equal(512L, plan.tokens(), "tokens");
      equal(512L, plan.wantedTokens(), "wanted tokens");
      equal(0L, plan.tokens() % plan.pageTokens(), "whole pages");
      SessionStats stats = session.stats();
      equal(plan.tokens(), stats.kvTokensTotal(), "tokens of the session");
      equal(plan.cacheBytes() + plan.workspaceBytes(), stats.deviceBytes(), "device bytes of the session");
    }
  }

  private static void cacheTypes() {
    EnumMap<DataType, Long> bytes = new EnumMap<>(DataType.class);
    try (Model model = Demo.model()) {
      for (DataType type : DataType.values()) {
        SessionOptions options = SessionOptions.builder().maxTokens(512).cacheType(type).build();
        SessionMemory plan = model.planSession(options);
        bytes.put(type, plan.cacheBytes());
        try (Session session = model.newSession(options)) {
          equal(plan.cacheBytes() + plan.workspaceBytes(), session.stats().deviceBytes(), type + ": device bytes");
          String text = Demo.prompted(session).generate(Demo.GREEDY).text();
          that(text.contains(Demo.ANSWER_PART), type + ": " + text);
        }
      }
    }
    long bf16 = bytes.get(DataType.BF16);
    equal(bf16, bytes.get(DataType.DEFAULT), "bytes of the default type");
    equal(2 * bf16, bytes.get(DataType.F32), "bytes of F32");
    that(bytes.get(DataType.F8) < 0.6 * bf16 && bytes.get(DataType.I8) < 0.6 * bf16, "8 bits: " + bytes);
    that(bytes.get(DataType.I4) < Math.min(bytes.get(DataType.F8), bytes.get(DataType.I8)), "4 bits: " + bytes);
  }

  private static void planNeedsWeights() {
    try (Runtime runtime = Demo.runtime()) {
      Model model = runtime.open(Demo.MODEL, ModelOptions.builder().device("cpu").lazy().build());
      thrown(DsoptException.InvalidState.class, "", () -> model.planSession(SessionOptions.DEFAULT));
      while (!model.info().loaded()) {
        model.poll(Duration.ofSeconds(1));
      }
      equal((long) model.info().contextLength(), model.planSession(SessionOptions.DEFAULT).wantedTokens(), "context");
      model.close();
      thrown(DsoptException.InvalidState.class, "", () -> model.planSession(SessionOptions.DEFAULT));
    }
  }

  private static void cap() {
    try (Model model = Demo.model()) {
      long cap = model.planSession(SessionOptions.builder().maxTokens(512).build()).cacheBytes() / 2;
      SessionOptions tight = SessionOptions.builder().maxTokens(512).maxCacheBytes(cap).build();
      SessionMemory plan = model.planSession(tight);
      equal(256L, plan.tokens(), "tokens that fit");
      equal(512L, plan.wantedTokens(), "tokens that were wanted");
      DsoptException refused = thrown(
          DsoptException.OutOfMemory.class, "max_cache_bytes " + cap + ", " + 2 * cap, () -> model.newSession(tight));
      equal(Status.DEVICE_MEMORY, refused.code(), "code");
      SessionMemory whole = model.planSession(SessionOptions.builder().maxTokens(512).build());
      long most = model.info().weightBytes() + whole.workspaceBytes() + whole.cacheBytes();
      SessionOptions all =
          SessionOptions.builder().maxTokens(512).maxDeviceBytes(most - 1).maxHostCacheBytes(Long.MAX_VALUE).build();
      equal(448L, model.planSession(all).tokens(), "tokens under a cap on all device memory");
      equal(0L, model.planSession(all).hostTokens(), "tokens beside the CPU's memory");
      thrown(DsoptException.OutOfMemory.class, "max_device_bytes " + (most - 1), () -> model.newSession(all));
      SessionOptions tiny = SessionOptions.builder().maxCacheBytes(1).build();
      equal(0L, model.planSession(tiny).tokens(), "tokens under a cap below one page");
      thrown(DsoptException.OutOfMemory.class, "for 1 pages", () -> model.newSession(tiny));
      try (Session session = model.newSession(SessionOptions.builder().maxCacheBytes(cap).build())) {
        equal(256L, session.stats().kvTokensTotal(), "tokens under the cap");
      }
      SessionOptions wrong = SessionOptions.builder().maxCacheBytes(-1).build();
      thrown(DsoptException.InvalidArgument.class, "options.maxCacheBytes", () -> model.planSession(wrong));
    }
  }

  private static void limit() {
    SessionOptions options = SessionOptions.builder().maxTokens(512).build();
    try (Model model = Demo.model(); Session session = model.newSession(options)) {
      long whole = model.planSession(options).cacheBytes();
      Stream stream = Demo.prompted(session);
      Generation pieces = stream.generate(GenerateOptions.builder().ignoreEos().build());
      Iterator<String> iterator = pieces.iterator();
      iterator.next();
      session.setCacheLimit(whole / 4);
      equal(128L, session.stats().kvTokensTotal(), "tokens under the limit");
      thrown(DsoptException.OutOfMemory.class, "cache: no free page", () -> iterator.forEachRemaining(piece -> {}));
      session.setCacheLimit(0);
      equal(512L, session.stats().kvTokensTotal(), "tokens without a limit");
      session.setCacheLimit(2 * whole);
      equal(512L, session.stats().kvTokensTotal(), "a limit above what the session has");
      that(!stream.generate(GenerateOptions.builder().ignoreEos().maxTokens(4).build()).text().isEmpty(), "goes on");
      thrown(DsoptException.InvalidArgument.class, "bytes", () -> session.setCacheLimit(-1));
    }
  }

  private static void fork() {
    try (Model model = Demo.model(); Session session = Demo.session(model, 4)) {
      Stream parent = Demo.prompted(session);
      parent.generate(Demo.greedy().maxTokens(4).build()).text();
      Stream fork = parent.fork();
      equal(parent.tokens(0), fork.tokens(0), "tokens");
      String expected = parent.generate(RANDOM).text();
      equal(expected, fork.generate(RANDOM).text(), "text of the fork");
      equal(parent.tokens(0), fork.tokens(0), "tokens afterwards");
    }
  }

  private static void independent() {
    try (Model model = Demo.model(); Session session = Demo.session(model, 4)) {
      Stream parent = Demo.prompted(session);
      parent.generate(GenerateOptions.builder().prefillOnly().build()).text();
      Stream fork = parent.fork();
      int[] before = parent.tokens(0);
      fork.append("something else");
      fork.generate(RANDOM).text();
      equal(before, parent.tokens(0), "tokens of the parent");
      fork.close();
      equal(Demo.answer(model), parent.generate(Demo.GREEDY).text(), "text of the parent");
    }
  }

  private static void rewind() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      String first = stream.generate(Demo.GREEDY).text();
      stream.rewind(prompt);
      equal(first, stream.generate(Demo.GREEDY).text(), "after a rewind to the prompt");
      stream.rewind(0);
      equal(0, stream.tokenCount(), "tokens after a rewind to the begin");
      stream.appendChat(Demo.PROMPT);
      equal(first, stream.generate(Demo.GREEDY).text(), "after a rewind to the begin");
      thrown(DsoptException.InvalidArgument.class, "", () -> stream.rewind(100_000));
    }
  }

  private static void save() {
    byte[] saved;
    String expected;
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      stream.generate(Demo.greedy().maxTokens(5).build()).text();
      saved = stream.save();
      expected = stream.generate(RANDOM).text();
    }
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = session.newStream();
      stream.load(saved);
      equal(expected, stream.generate(RANDOM).text(), "text of the loaded stream");
    }
  }

  private static void corrupt() {
    try (Model model = Demo.model(); Session session = Demo.session(model, 2)) {
      Stream stream = Demo.prompted(session);
      stream.generate(GenerateOptions.builder().prefillOnly().build()).text();
      byte[] saved = stream.save();
      Stream other = Demo.prompted(session);
      for (int at : new int[] {0, 8, saved.length / 2, saved.length - 1}) {
        byte[] flipped = saved.clone();
        flipped[at] ^= 1;
        thrown(DsoptException.Corrupt.class, "", () -> other.load(flipped));
      }
      thrown(DsoptException.Corrupt.class, "", () -> other.load(new byte[0]));
      equal(Demo.answer(model), other.generate(Demo.GREEDY).text(), "text after failed loads");
    }
  }

  private static void twoModels() {
    try (Runtime runtime = Demo.runtime(); Model robot = runtime.open(Demo.MODEL, Demo.CPU);
         Model other = Model.open(Demo.OTHER)) {
      GenerateOptions twenty = Demo.greedy().ignoreEos().maxTokens(20).build();
      String expected = other.generate("abc", twenty).text();
      String answer = Demo.answer(robot);
      that(!expected.isEmpty() && !expected.equals(answer), "text of the other model: " + expected);
      try (Generation first = robot.chat(Demo.PROMPT, Demo.GREEDY);
           Generation second = other.generate("abc", twenty)) {
        StringBuilder one = new StringBuilder();
        StringBuilder two = new StringBuilder();
        Iterator<String> ones = first.iterator();
        Iterator<String> twos = second.iterator();
        while (ones.hasNext() | twos.hasNext()) {
          one.append(ones.hasNext() ? ones.next() : "");
          two.append(twos.hasNext() ? twos.next() : "");
        }
        equal(answer, one.toString(), "text of the robot model");
        equal(expected, two.toString(), "text of the other model");
      }
    }
  }

  private static void otherModel() {
    try (Model robot = Demo.model(); Model other = Model.open(Demo.OTHER); Session session = robot.newSession();
         Session elsewhere = other.newSession()) {
      Stream stream = Demo.prompted(session);
      stream.generate(Demo.greedy().maxTokens(2).build()).text();
      byte[] saved = stream.save();
      Stream target = elsewhere.newStream();
      thrown(DsoptException.Unsupported.class, "", () -> target.load(saved));
    }
  }
}
