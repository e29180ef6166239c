package ai.dsopt.tests;

import static ai.dsopt.tests.Suite.equal;
import static ai.dsopt.tests.Suite.that;
import static ai.dsopt.tests.Suite.thrown;

import ai.dsopt.Finish;
import ai.dsopt.Generation;
import ai.dsopt.Model;
import ai.dsopt.Session;
import ai.dsopt.Stream;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Flow;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;

/** Streaming through java.util.concurrent.Flow. */
final class PublisherTests {
  private PublisherTests() {}

  static void add(Suite suite) {
    suite.test("publisher: the pieces joined are the text, one request at a time", PublisherTests::pieces);
    suite.test("publisher: nothing is computed without a request", PublisherTests::demand);
    suite.test("publisher: cancelling ends the generation", PublisherTests::cancel);
    suite.test("publisher: failures come as onError", PublisherTests::failures);
  }

  /** Requests some at a time and keeps what comes. */
  private static class Collector implements Flow.Subscriber<String> {
    final List<String> pieces = new CopyOnWriteArrayList<>();
    final CountDownLatch end = new CountDownLatch(1);
    final long atATime;
    volatile Throwable failure;
    volatile Flow.Subscription subscription;

    Collector(long atATime) {
      this.atATime = atATime;
    }

    @Override
    public void onSubscribe(Flow.Subscription given) {
      subscription = given;
      if (atATime != 0) {
        given.request(atATime);
      }
    }

    @Override
    public void onNext(String piece) {
      pieces.add(piece);
      subscription.request(atATime);
    }

    @Override
    public void onError(Throwable thrown) {
      failure = thrown;
      end.countDown();
    }

    @Override
    public void onComplete() {
      end.countDown();
    }

    Collector join() throws InterruptedException {
      that(end.await(30, TimeUnit.SECONDS), "no end within 30 seconds");
      return this;
    }
  }

  private static void pieces() throws InterruptedException {
    try (Model model = Demo.model()) {
      String expected = Demo.answer(model);
      for (long atATime : new long[] {1, Long.MAX_VALUE}) {
        Collector collector = new Collector(atATime);
        model.chat(Demo.PROMPT, Demo.GREEDY).publisher().subscribe(collector);
        collector.join();
        equal(null, collector.failure, "failure");
        that(collector.pieces.size() > 3, "pieces");
        equal(expected, String.join("", collector.pieces), "text");
      }
      Collector here = new Collector(2);
      model.chat(Demo.PROMPT, Demo.GREEDY).publisher(Runnable::run).subscribe(here);
      equal(expected, String.join("", here.join().pieces), "text on the caller's thread");
    }
  }

  private static void demand() throws InterruptedException {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      int prompt = stream.tokenCount();
      Collector collector = new Collector(0);
      stream.generate(Demo.GREEDY).publisher().subscribe(collector);
      Thread.sleep(30);
      equal(prompt, stream.tokenCount(), "tokens without a request");
      collector.subscription.cancel();
      collector.subscription.request(1);
      equal(0, collector.pieces.size(), "pieces after cancelling");
    }
  }

  private static void cancel() throws InterruptedException {
    try (Model model = Demo.model(); Session session = model.newSession()) {
      Stream stream = Demo.prompted(session);
      Generation generation = stream.generate(Demo.ENDLESS);
      Collector collector = new Collector(Long.MAX_VALUE) {
        @Override
        public void onNext(String piece) {
          super.onNext(piece);
          if (pieces.size() == 3) {
            subscription.cancel();
          }
        }
      };
      generation.publisher().subscribe(collector);
      for (int i = 0; i < 3000 && generation.finish() == Finish.NONE; ++i) {
        Thread.sleep(10);
      }
      equal(Finish.CANCELLED, generation.finish(), "finish");
      equal(3, collector.pieces.size(), "pieces");
      equal(1L, collector.end.getCount(), "signals after cancelling");
    }
  }

  private static void failures() throws InterruptedException {
    try (Model model = Demo.model()) {
      Generation generation = model.chat(Demo.PROMPT, Demo.ENDLESS);
      Flow.Publisher<String> publisher = generation.publisher();
      thrown(NullPointerException.class, "subscriber", () -> publisher.subscribe(null));
      Collector first = new Collector(-1);
      publisher.subscribe(first);
      that(first.join().failure instanceof IllegalArgumentException, "request(-1): " + first.failure);
      Collector second = new Collector(1);
      publisher.subscribe(second);
      that(second.join().failure instanceof ai.dsopt.DsoptException.InvalidState, "second: " + second.failure);
      Collector rejected = new Collector(1);
      model.chat(Demo.PROMPT, Demo.GREEDY)
          .publisher(work -> { throw new RejectedExecutionException("full"); })
          .subscribe(rejected);
      that(rejected.join().failure instanceof RejectedExecutionException, "rejected: " + rejected.failure);
      Collector closed = new Collector(1);
      Generation dead = model.chat(Demo.PROMPT, Demo.ENDLESS);
      dead.stream().session().close();
      dead.publisher().subscribe(closed);
      that(closed.join().failure instanceof ai.dsopt.DsoptException.InvalidState, "closed: " + closed.failure);
    }
  }
}
