package ai.dsopt.tests;

import static ai.dsopt.tests.Suite.equal;
import static ai.dsopt.tests.Suite.that;
import static ai.dsopt.tests.Suite.thrown;

import ai.dsopt.DsoptException;
import ai.dsopt.Event;
import ai.dsopt.EventListener;
import ai.dsopt.Finish;
import ai.dsopt.GenerateOptions;
import ai.dsopt.LogLevel;
import ai.dsopt.Model;
import ai.dsopt.ModelOptions;
import ai.dsopt.Runtime;
import ai.dsopt.Session;
import ai.dsopt.Stream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;

/** Scenario 10. */
final class CallbackTests {
  private static final Duration LONG = Duration.ofSeconds(10);

  private CallbackTests() {}

  static void add(Suite suite) {
    suite.test("callbacks: a listener gets the text inside poll, on its thread", CallbackTests::listener);
    suite.test("callbacks: what an event listener throws comes back out of poll", CallbackTests::eventThrows);
    suite.test("callbacks: two that throw in one poll come back together", CallbackTests::twoThrow);
    suite.test("callbacks: errors and checked exceptions come back too", CallbackTests::otherThrowables);
    suite.test(
        "callbacks: what a progress listener throws comes back out of open", CallbackTests::progressThrows);
    suite.test("callbacks: a log listener hears, and what it throws harms nobody", CallbackTests::log);
    suite.test("callbacks: a listener may cancel and ask, not change", CallbackTests::insideCallback);
    suite.test("callbacks: a listener may close its stream, session and model", CallbackTests::closeInside);
  }

  private static GenerateOptions to(EventListener listener) {
    return Demo.greedy().listener(listener).build();
  }

  private static void listener() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      List<Event> events = new ArrayList<>();
      Thread here = Thread.currentThread();
      Stream stream = Demo.prompted(session);
      stream.start(to((sender, event) -> {
        that(sender == stream && Thread.currentThread() == here, "stream or thread");
        events.add(event);
      }));
      while (session.poll(Duration.ofMillis(1)).active()) {
        equal(true, stream.read().isEmpty(), "no event is left to read");
      }
      equal(Demo.answer(model), Demo.text(events), "text");
      equal(Finish.END, events.get(events.size() - 1).finish(), "finish");
    }
  }

  private static void eventThrows() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      IllegalStateException mine = new IllegalStateException("mine");
      List<Event> events = new ArrayList<>();
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      for (boolean await : new boolean[] {false, true}) {
        stream.rewind(prompt);
        stream.start(to((sender, event) -> {
          events.add(event);
          if (!event.last()) {
            throw mine;
          }
        }));
        IllegalStateException back = thrown(IllegalStateException.class, "mine", () -> {
          if (await) {
            session.await(LONG);
          } else {
            session.poll(LONG);
          }
        });
        that(back == mine, "another object");
        session.poll(LONG);
        equal(Finish.CANCELLED, events.get(events.size() - 1).finish(), "finish");
      }
      stream.rewind(prompt);
      equal(Demo.answer(model), stream.generate(Demo.GREEDY).text(), "text afterwards");
    }
  }

  private static void twoThrow() {
    try (Model model = Demo.model(); Session session = Demo.session(model, 2)) {
      AtomicInteger number = new AtomicInteger();
      EventListener failing = (sender, event) -> {
        if (!event.last()) {
          throw new IllegalStateException("failure " + number.incrementAndGet());
        }
      };
      Demo.prompted(session).start(to(failing));
      Demo.prompted(session).start(to(failing));
      Throwable back = thrown(IllegalStateException.class, "failure 1", () -> session.poll(LONG));
      equal("failure 2", back.getSuppressed()[0].getMessage(), "suppressed");
      session.poll(LONG);
    }
  }

  private static void otherThrowables() {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      stream.start(to((sender, event) -> sneak(new StackOverflowError("deep"))));
      thrown(StackOverflowError.class, "deep", () -> session.poll(LONG));
      stream.start(to((sender, event) -> sneak(new java.io.IOException("checked"))));
      Throwable back = thrown(DsoptException.Callback.class, "checked", () -> session.poll(LONG));
      that(back.getCause() instanceof java.io.IOException, "cause " + back.getCause());
      equal(1, back.getSuppressed().length + back.getCause().getSuppressed().length,
          "the event of its end threw too");
      stream.start(to((sender, event) -> recurse(0)));
      thrown(StackOverflowError.class, "", () -> session.poll(LONG));
    }
  }

  @SuppressWarnings("unchecked")
  private static <T extends Throwable> void sneak(Throwable failure) throws T {
    throw(T) failure;
  }

  private static int recurse(int depth) {
    return recurse(depth + 1) + 1;
  }

  private static void progressThrows() {
    UnsupportedOperationException mine = new UnsupportedOperationException("mine");
    ModelOptions.Builder options = ModelOptions.builder().device("cpu").progress(progress -> { throw mine; });
    try (Runtime runtime = Demo.runtime()) {
      that(mine
              == thrown(
                  UnsupportedOperationException.class, "mine", () -> runtime.open(Demo.MODEL, options.build())),
          "another object out of open");
      try (Model model = runtime.open(Demo.MODEL, options.lazy().build())) {
        that(mine == thrown(UnsupportedOperationException.class, "mine", () -> model.poll(LONG)),
            "another object out of poll");
      }
    }
  }

  private static void log() {
    List<String> heard = Collections.synchronizedList(new ArrayList<>());
    try (Runtime runtime = Runtime.builder()
                               .threads(2)
                               .logLevel(LogLevel.DEBUG)
                               .log((level, component, message) -> {
                                 heard.add(level + " " + component + ": " + message);
                                 throw new IllegalStateException("nobody hears this");
                               })
                               .build();
         Model model = runtime.open(Demo.MODEL, Demo.CPU)) {
      equal(Demo.answer(Demo.model()), Demo.answer(model), "text");
    }
    that(!heard.isEmpty(), "nothing was logged");
    for (String line : heard) {
      that(line.matches("[A-Z]+ [a-z_/0-9:]+: .+"), "log line: " + line);
    }
  }

  private static void insideCallback() {
    try (Model model = Demo.model(); Session session = Demo.session(model, 2)) {
      Stream stream = Demo.prompted(session);
      AtomicInteger calls = new AtomicInteger();
      stream.start(Demo.greedy()
                       .ignoreEos()
                       .listener((sender, event) -> {
                         that(sender.tokenCount() > 0 && session.stats().batches() > 0, "questions");
                         that(model.tokenize("x").length > 0 && sender.error().isEmpty(), "questions");
                         for (Suite.Body change : List.<Suite.Body>of(()
                                                                          -> session.poll(Duration.ZERO),
                                  ()
                                      -> session.await(LONG),
                                  session::newStream,
                                  ()
                                      -> sender.append("x"),
                                  sender::generate, sender::read, sender::fork, sender::save,
                                  () -> sender.rewind(0), session::trim)) {
                           thrown(DsoptException.Busy.class, "", change);
                         }
                         sender.cancel();
                         calls.incrementAndGet();
                       })
                       .build());
      session.poll(LONG);
      that(calls.get() >= 2 && calls.get() < 5, "calls: " + calls);
    }
  }

  private static void closeInside() {
    try (Runtime runtime = Demo.runtime()) {
      long before = runtime.hostBytes();
      for (int round = 0; round < 20; ++round) {
        Model model = runtime.open(Demo.MODEL, Demo.CPU);
        Session session = Demo.session(model, 2);
        Stream other = Demo.prompted(session);
        Stream stream = Demo.prompted(session);
        AtomicInteger calls = new AtomicInteger();
        other.start(to((sender, event) -> {}));
        stream.start(to((sender, event) -> {
          calls.incrementAndGet();
          sender.close();
          sender.session().close();
          model.close();
          other.close();
        }));
        session.poll(LONG);
        equal(1, calls.get(), "calls of a listener that closed its stream");
        thrown(DsoptException.InvalidState.class, "stream: closed", stream::cancel);
        thrown(DsoptException.InvalidState.class, "session: closed", () -> session.poll(LONG));
      }
      equal(before, runtime.hostBytes(), "host memory that is left");
    }
  }
}
