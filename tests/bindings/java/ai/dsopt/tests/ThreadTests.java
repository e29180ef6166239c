package ai.dsopt.tests;

import static ai.dsopt.tests.Suite.equal;
import static ai.dsopt.tests.Suite.that;
import static ai.dsopt.tests.Suite.thrown;

import ai.dsopt.DsoptException;
import ai.dsopt.Generation;
import ai.dsopt.Model;
import ai.dsopt.ModelOptions;
import ai.dsopt.Runtime;
import ai.dsopt.Session;
import ai.dsopt.Stream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;

/** Scenario 12. */
final class ThreadTests {
  private ThreadTests() {}

  static void add(Suite suite) {
    suite.test("threads: one session each generates the same text in parallel", ThreadTests::parallel);
    suite.test("threads: the second call in one session is told that it is busy", ThreadTests::busy);
    suite.test("threads: one polls, another reads the generation", ThreadTests::pollAndRead);
    suite.test("threads: closing while others poll, read and ask is safe", ThreadTests::closeWhileUsed);
    suite.test("threads: two that load one model", ThreadTests::busyLoad);
  }

  private interface Work {
    void run() throws Exception;
  }

  /** Runs all at the same time; the first failure comes out. */
  private static void together(List<Work> works) throws Exception {
    ExecutorService threads = Executors.newCachedThreadPool();
    try {
      List<Future<?>> results = new ArrayList<>();
      for (Work work : works) {
        results.add(threads.submit(() -> {
          work.run();
          return null;
        }));
      }
      for (Future<?> result : results) {
        result.get();
      }
    } finally {
      threads.shutdown();
    }
  }

  private static void parallel() throws Exception {
    try (Model model = Demo.model()) {
      String expected = Demo.answer(model);
      Work work = () -> {
        for (int i = 0; i < 5; ++i) {
          try (Session session = model.newSession()) {
            equal(expected, Demo.prompted(session).generate(Demo.GREEDY).text(), "text");
          }
        }
      };
      together(List.of(work, work, work, work));
    }
  }

  private static void busy() throws Exception {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      CountDownLatch inside = new CountDownLatch(1);
      CountDownLatch leave = new CountDownLatch(1);
      stream.start(Demo.greedy()
                       .listener((sender, event) -> {
                         inside.countDown();
                         try {
                           leave.await();
                         } catch (InterruptedException e) {
                           throw new AssertionError(e);
                         }
                       })
                       .build());
      together(List.of(() -> session.poll(Duration.ofSeconds(5)), () -> {
        inside.await();
        try {
          for (Suite.Body call : List.<Suite.Body>of(()
                                                         -> session.poll(Duration.ZERO),
                   ()
                       -> session.await(Duration.ZERO),
                   session::trim, stream::read, () -> stream.append("x"), stream::save)) {
            equal(ai.dsopt.Status.BUSY, thrown(DsoptException.Busy.class, "another call", call).code(), "code");
          }
          that(stream.tokenCount() > 0 && session.stats().batches() > 0, "questions are answered");
        } finally {
          leave.countDown();
        }
      }));
    }
  }

  private static void pollAndRead() throws Exception {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Generation generation = Demo.prompted(session).generate(Demo.GREEDY);
      AtomicBoolean over = new AtomicBoolean();
      String expected = Demo.answer(model);
      together(List.of(
          ()
              -> {
            while (!over.get()) {
              try {
                session.poll(Duration.ofMillis(1));
              } catch (DsoptException.Busy busy) {
                Thread.onSpinWait();
              }
            }
          },
          () -> {
            equal(expected, generation.text(), "text");
            over.set(true);
          }));
    }
  }

  private static void closeWhileUsed() throws Exception {
    for (int round = 0; round < 20; ++round) {
      Model model = Model.open(Demo.OTHER);
      Session session = Demo.session(model, 2);
      Stream stream = session.newStream().append("go");
      stream.start(Demo.ENDLESS);
      Work poll = untilClosed(() -> session.poll(Duration.ofMillis(2)));
      Work await = untilClosed(() -> session.await(Duration.ofSeconds(30)));
      Work read = untilClosed(stream::read);
      Work ask = untilClosed(() -> that(stream.tokens(0).length > 0 && session.stats().batches() >= 0, "ask"));
      Work load = untilClosed(() -> model.tokenize("text"));
      Work close = () -> {
        Thread.sleep(5);
        session.close();
        model.close();
        stream.close();
      };
      together(List.of(poll, await, read, ask, load, close));
    }
  }

  /** Calls until the object is closed. Busy, timeout and interruption are answers of one that is not. */
  private static Work untilClosed(Suite.Body call) {
    return () -> {
      for (;;) {
        try {
          call.run();
        } catch (DsoptException.InvalidState closed) {
          that(closed.getMessage().contains("closed"), closed.getMessage());
          return;
        } catch (DsoptException.Busy | DsoptException.Timeout | DsoptException.Cancelled goOn) {
          Thread.onSpinWait();
        } catch (Throwable failure) {
          throw new AssertionError(failure);
        }
      }
    };
  }

  private static void busyLoad() throws Exception {
    try (Runtime runtime = Demo.runtime()) {
      CountDownLatch inside = new CountDownLatch(1);
      CountDownLatch leave = new CountDownLatch(1);
      ModelOptions options = ModelOptions.builder()
                                 .lazy()
                                 .progress(progress -> {
                                   inside.countDown();
                                   try {
                                     leave.await();
                                   } catch (InterruptedException e) {
                                     return false;
                                   }
                                   return true;
                                 })
                                 .build();
      try (Model model = runtime.open(Demo.MODEL, options)) {
        together(List.of(() -> equal(true, model.poll(Duration.ofSeconds(30)), "loaded"), () -> {
          inside.await();
          try {
            thrown(DsoptException.Busy.class, "", () -> model.poll(Duration.ZERO));
            that(!model.info().loaded(), "loaded already");
          } finally {
            leave.countDown();
          }
        }));
      }
    }
  }
}
