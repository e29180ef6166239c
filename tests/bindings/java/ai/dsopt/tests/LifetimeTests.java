package ai.dsopt.tests;

import static ai.dsopt.tests.Suite.equal;
import static ai.dsopt.tests.Suite.that;

import ai.dsopt.GenerateOptions;
import ai.dsopt.Model;
import ai.dsopt.ModelOptions;
import ai.dsopt.Runtime;
import ai.dsopt.Session;
import ai.dsopt.Stream;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;

/** Scenario 11. */
final class LifetimeTests {
  private LifetimeTests() {}

  static void add(Suite suite) {
    suite.test("release: closing in every order while garbage is collected", LifetimeTests::everyOrder);
    suite.test("release: the survivor of each kind still works", LifetimeTests::survivors);
    suite.test("release: what is dropped is released by the garbage collector", LifetimeTests::dropped);
    suite.test(
        "release: a stream that only its listener waits for goes on to its end", LifetimeTests::listenedTo);
    suite.test("release: what is in use is not, whatever else was dropped", LifetimeTests::inUse);
  }

  /** Collects garbage all the time on another thread. */
  static final class Pressure implements AutoCloseable {
    private volatile boolean over;
    private final Thread thread = new Thread(() -> {
      List<byte[]> garbage = new ArrayList<>();
      while (!over) {
        garbage.add(new byte[100_000]);
        if (garbage.size() > 50) {
          garbage.clear();
          System.gc();
        }
      }
    });

    Pressure() {
      thread.start();
    }

    @Override
    public void close() {
      over = true;
      try {
        thread.join();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }
  }

  private static GenerateOptions listening() {
    return Demo.greedy()
        .ignoreEos()
        .listener((stream, event) -> that(stream.tokenCount() > 0, "tokens"))
        .build();
  }

  @SuppressWarnings("try") // the pressure is there, not used
  private static void everyOrder() throws Exception {
    List<List<Integer>> orders = new ArrayList<>();
    permute(new ArrayList<>(), orders);
    equal(24, orders.size(), "orders");
    try (Pressure pressure = new Pressure()) {
      for (List<Integer> order : orders) {
        Runtime runtime = Demo.runtime();
        Model model = runtime.open(Demo.OTHER, Demo.CPU);
        Session session = Demo.session(model, 2);
        Stream stream = session.newStream().append("go");
        session.newStream().append("dropped").start(listening());
        stream.start(listening());
        session.poll(Duration.ofMillis(1)); // a generation in progress, its listener pending
        List<AutoCloseable> all = List.of(runtime, model, session, stream);
        for (int each : order) {
          all.get(each).close();
          all.get(each).close();
        }
      }
    }
  }

  private static void permute(List<Integer> begin, List<List<Integer>> orders) {
    if (begin.size() == 4) {
      orders.add(List.copyOf(begin));
    }
    for (int next = 0; next < 4; ++next) {
      if (!begin.contains(next)) {
        begin.add(next);
        permute(begin, orders);
        begin.remove(begin.size() - 1);
      }
    }
  }

  private static void survivors() {
    Runtime runtime = Demo.runtime();
    Model model = runtime.open(Demo.MODEL, Demo.CPU);
    runtime.close();
    String expected = Demo.answer(model);
    Session session = Demo.session(model, 2);
    Stream stream = Demo.prompted(session);
    model.close();
    Stream fork = stream.fork();
    stream.start(Demo.GREEDY);
    fork.close();
    equal(expected, Demo.text(Demo.finish(stream, Duration.ofMillis(5))), "text after the model was closed");
    session.close();
    that(stream.tokenCount() > 5 && stream.tokens(0).length == stream.tokenCount(),
        "tokens after the session was closed");
    byte[] saved = stream.save();
    that(saved.length > 1000, "saved after the session was closed");
    stream.close();
  }

  private static void dropped() throws Exception {
    try (Runtime runtime = Demo.runtime(); Model model = runtime.open(Demo.OTHER, Demo.CPU)) {
      long before = runtime.hostBytes();
      for (int i = 0; i < 50; ++i) {
        Session session = Demo.session(model, 2);
        Stream stream = session.newStream().append("dropped");
        // The listener refers to everything there is, and is itself referred to by the native side.
        stream.start(
            Demo.greedy().listener((sender, event) -> that(session != null && stream != null, "")).build());
        session.poll(Duration.ofMillis(1));
      }
      open(runtime);
      that(runtime.hostBytes() > before, "sessions use no memory");
      for (int i = 0; i < 200 && runtime.hostBytes() != before; ++i) {
        System.gc();
        Thread.sleep(10);
      }
      equal(before, runtime.hostBytes(), "host memory after collection");
    }
  }

  /** Only the session is kept. */
  private static void listenedTo() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      StringBuilder text = new StringBuilder();
      Demo.prompted(session).start(
          Demo.greedy().listener((sender, event) -> text.append(event.text())).build());
      do {
        System.gc();
      } while (session.poll(Duration.ofMillis(1)).active());
      equal(Demo.answer(model), text.toString(), "text");
    }
  }

  /** A model dropped while it loads from memory. */
  private static void open(Runtime runtime) throws IOException {
    Model model = runtime.open(Demo.bytes(), ModelOptions.builder().lazy().build());
    model.poll(Duration.ofMillis(1));
  }

  @SuppressWarnings("try")
  private static void inUse() {
    try (Pressure pressure = new Pressure()) {
      String expected = Demo.answer(Demo.model());
      for (int i = 0; i < 10; ++i) {
        // Nothing but the iterator, or the stream, is reachable.
        equal(expected, Demo.answer(Demo.model()), "text");
        Stream stream = Demo.prompted(Demo.model().newSession());
        stream.start(Demo.GREEDY);
        equal(expected, Demo.text(Demo.finish(stream, Duration.ofMillis(2))), "text of a stream");
      }
      List<Stream> streams = new ArrayList<>();
      for (int i = 0; i < 8; ++i) {
        streams.add(Demo.prompted(Demo.session(Demo.model(), 2)));
      }
      Collections.shuffle(streams, new Random(1));
      for (Stream stream : streams) {
        stream.start(Demo.GREEDY);
        equal(expected, Demo.text(Demo.finish(stream, Duration.ofSeconds(1))), "text of a shuffled stream");
      }
    }
  }
}
