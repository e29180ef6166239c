package ai.dsopt;

import java.util.Iterator;
import java.util.concurrent.Executor;
import java.util.concurrent.Executors;
import java.util.concurrent.Flow;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicBoolean;

/** The pieces of a generation for one subscriber, by the rules of Reactive Streams. */
final class PiecePublisher implements Flow.Publisher<String> {
  /** Threads are made when needed, end when idle, and do not keep the program alive. */
  static final Executor THREADS = Executors.newCachedThreadPool(work -> {
    Thread thread = new Thread(work, "dsopt-publisher");
    thread.setDaemon(true);
    return thread;
  });

  private final Generation generation;
  private final Executor executor;
  private final AtomicBoolean subscribed = new AtomicBoolean();

  PiecePublisher(Generation generation, Executor executor) {
    this.generation = generation;
    this.executor = executor;
  }

  @Override
  public void subscribe(Flow.Subscriber<? super String> subscriber) {
    if (subscriber == null) {
      throw new NullPointerException("subscriber"); // as Reactive Streams asks for
    }
    if (!subscribed.compareAndSet(false, true)) {
      subscriber.onSubscribe(new Refused());
      subscriber.onError(new DsoptException.InvalidState("publisher: a second subscriber, expected one"));
      return;
    }
    subscriber.onSubscribe(new Pump(subscriber));
  }

  /** One subscriber's demand. run() is in the executor at most once at a time. */
  private final class Pump implements Flow.Subscription, Runnable {
    private final Flow.Subscriber<? super String> subscriber;
    private long demand;
    private boolean running;
    private boolean over;
    private Throwable refusal;

    Pump(Flow.Subscriber<? super String> subscriber) {
      this.subscriber = subscriber;
    }

    @Override
    public void request(long count) {
      synchronized (this) {
        if (over) {
          return;
        }
        if (count <= 0) {
          refusal = new IllegalArgumentException("request: " + count + ", expected at least 1");
        } else {
          demand = demand + count < 0 ? Long.MAX_VALUE : demand + count;
        }
        if (running) {
          return;
        }
        running = true;
      }
      try {
        executor.execute(this);
      } catch (RejectedExecutionException full) {
        end(full);
      }
    }

    @Override
    public void cancel() {
      boolean idle;
      synchronized (this) {
        if (over) {
          return;
        }
        over = true;
        idle = !running;
        running = true;
      }
      generation.cancel();
      if (idle) {
        try {
          executor.execute(generation::close);
        } catch (RejectedExecutionException full) {
          generation.close();
        }
      }
    }

    @Override
    public void run() {
      try {
        Iterator<String> pieces = generation.iterator();
        while (mayGoOn()) {
          if (!pieces.hasNext()) {
            end(null);
            return;
          }
          String piece = pieces.next();
          if (!cancelled()) {
            subscriber.onNext(piece);
          }
        }
      } catch (Throwable failure) {
        end(failure);
      }
    }

    /** Takes one from the demand. False: there is none, or it is over. */
    private boolean mayGoOn() {
      Throwable refused;
      synchronized (this) {
        if (!over && refusal == null && demand > 0) {
          demand = demand == Long.MAX_VALUE ? demand : demand - 1;
          return true;
        }
        if (!over && refusal == null) {
          running = false;
          return false;
        }
        refused = over ? null : refusal;
      }
      if (refused != null) {
        end(refused);
      } else {
        generation.close();
      }
      return false;
    }

    private synchronized boolean cancelled() {
      return over;
    }

    private void end(Throwable failure) {
      boolean tell;
      synchronized (this) {
        tell = !over;
        over = true;
      }
      Throwable reason = failure;
      try {
        generation.close();
      } catch (RuntimeException another) {
        reason = failure != null ? failure : another;
      }
      if (tell && reason != null) {
        subscriber.onError(reason);
      } else if (tell) {
        subscriber.onComplete();
      }
    }
  }

  private static final class Refused implements Flow.Subscription {
    @Override
    public void request(long count) {}

    @Override
    public void cancel() {}
  }
}
