package ai.dsopt;

import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.concurrent.Executor;
import java.util.concurrent.Flow;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;

/**
 * The output of one generation, computed while it is read: by a for loop, as a whole, or through a publisher.
 * It is read once and by one thread.
 *
 * <p>Reading throws {@link DsoptException} when the generation fails. Interrupting the reading thread cancels
 * the generation and throws {@link DsoptException.Cancelled}; the thread stays interrupted. {@link
 * Session#interrupt} makes reading throw that too, after which it may go on.
 */
public final class Generation implements Iterable<String>, AutoCloseable {
  private static final Duration SLICE = Duration.ofMillis(20);
  private static final Duration SHORT = Duration.ofMillis(1);
  private static final long BUSY_NANOS = 500_000;
  private static final long LONGEST_PARK_NANOS = 1_000_000;

  private final Stream stream;
  private final boolean ownsSession;
  private final Iterator<String> pieces = new Pieces();
  private final Iterator<Event> events = new Events();
  private final int number;
  private volatile boolean ended;
  private volatile Finish finish = Finish.NONE;
  private DsoptException failure;

  /** ownsSession: the stream and its session are closed at the end. */
  Generation(Stream stream, boolean ownsSession) {
    this.stream = stream;
    this.ownsSession = ownsSession;
    number = stream.generationNumber();
  }

  /** The short way of {@link Model#generate}. */
  static Generation withSession(Model model, Consumer<Stream> prompt, GenerateOptions options) {
    Session session = model.newSession();
    try {
      Stream stream = session.newStream();
      prompt.accept(stream);
      stream.begin(options);
      return new Generation(stream, true);
    } catch (Throwable failure) {
      session.close();
      throw failure;
    }
  }

  /**
   * The pieces of text that are left, each of whole characters and never empty.
   *
   * @return always the same iterator
   */
  @Override
  public Iterator<String> iterator() {
    return pieces;
  }

  /**
   * The events that are left, for programs that want tokens or log probabilities besides the text.
   *
   * @return to be used instead of {@link #iterator()}; always the same iterator
   */
  public Iterable<Event> events() {
    return () -> events;
  }

  /**
   * Reads to the end.
   *
   * @return the text that is left
   */
  public String text() {
    StringBuilder text = new StringBuilder();
    for (String piece : this) {
      text.append(piece);
    }
    return text.toString();
  }

  /**
   * The pieces of text for one subscriber, who gets them as it requests them. A daemon thread does the work.
   *
   * @return to be used instead of {@link #iterator()}
   */
  public Flow.Publisher<String> publisher() {
    return publisher(PiecePublisher.THREADS);
  }

  /**
   * The pieces of text for one subscriber.
   *
   * @param executor runs the work while there is demand; occupied meanwhile
   * @return to be used instead of {@link #iterator()}
   */
  public Flow.Publisher<String> publisher(Executor executor) {
    return new PiecePublisher(this, Check.notNull(executor, "executor"));
  }

  /**
   * Why it ended.
   *
   * @return {@link Finish#NONE} before its end was read
   */
  public Finish finish() {
    return finish;
  }

  /**
   * Whose generation it is.
   *
   * @return for its tokens; closed at the end of the short way
   */
  public Stream stream() {
    return stream;
  }

  /** Ends the generation, from any thread; reading it comes to an end soon. Harmless when it has ended. */
  public void cancel() {
    try {
      if (!ended && stream.generationNumber() == number) {
        stream.cancel();
      }
    } catch (DsoptException.InvalidState closed) {
      // Ended already.
    }
  }

  /** Ends the generation if it goes on, so that the stream can be used again. */
  @Override
  public void close() {
    cancel();
    while (!ended) {
      try {
        step(SHORT).ifPresent(this::note);
      } catch (DsoptException.InvalidState closed) {
        ended = true;
      } catch (DsoptException.Cancelled interrupted) {
        // By Session.interrupt: the generation is still to be brought to its end.
      }
    }
    release();
  }

  /** The next event; waits for it. */
  private Event next() {
    for (;;) {
      if (Thread.currentThread().isInterrupted()) {
        close();
        throw new DsoptException.Cancelled("generation: the thread that reads it was interrupted");
      }
      Optional<Event> event = step(SLICE);
      if (event.isPresent()) {
        note(event.get());
        if (event.get().kind() == Event.Kind.ERROR) {
          throw failure;
        }
        return event.get();
      }
    }
  }

  /**
   * Reads an event, or works for about a slice towards one. Another thread may poll the session at the same
   * time.
   */
  private Optional<Event> step(Duration slice) {
    Session session = stream.session();
    if (stream.generationNumber() != number) {
      throw new DsoptException.InvalidState("generation: its stream has begun another one");
    }
    try {
      Optional<Event> event = stream.read();
      if (event.isPresent() || !awaited(session, slice)) {
        return event;
      }
      event = stream.read();
      if (event.isPresent()) {
        return event;
      }
      PollResult polled = session.poll(SHORT); // the await saw an event of another stream that nobody has read
      event = stream.read();
      if (event.isEmpty() && !polled.active()) {
        throw new DsoptException.InvalidState("generation: its end was read by Stream.read");
      }
      park(polled.suggestedWait().toNanos());
      return event;
    } catch (DsoptException.Busy busy) {
      park(BUSY_NANOS);
      return Optional.empty();
    }
  }

  private static boolean awaited(Session session, Duration slice) {
    try {
      session.await(slice);
      return true;
    } catch (DsoptException.Timeout goOn) {
      return false;
    }
  }

  private static void park(long nanos) {
    if (nanos > 0) {
      LockSupport.parkNanos(Math.min(nanos, LONGEST_PARK_NANOS));
    }
  }

  private void note(Event event) {
    if (!event.last()) {
      return;
    }
    ended = true;
    finish = event.kind() == Event.Kind.ERROR ? Finish.ERROR : event.finish();
    if (event.kind() == Event.Kind.ERROR) {
      failure = stream.error().orElseGet(() -> DsoptException.of(event.status(), "generation: failed"));
    }
    release();
  }

  private void release() {
    if (ownsSession) {
      stream.close();
      stream.session().close();
    }
  }

  /** All events to the last one. */
  private final class Events implements Iterator<Event> {
    @Override
    public boolean hasNext() {
      return !ended;
    }

    @Override
    public Event next() {
      if (ended) {
        throw new NoSuchElementException();
      }
      return Generation.this.next();
    }
  }

  /** The events that have text. */
  private final class Pieces implements Iterator<String> {
    private String ahead;

    @Override
    public boolean hasNext() {
      while (ahead == null && !ended) {
        String text = Generation.this.next().text();
        if (!text.isEmpty()) {
          ahead = text;
        }
      }
      return ahead != null;
    }

    @Override
    public String next() {
      if (!hasNext()) {
        throw new NoSuchElementException();
      }
      String text = ahead;
      ahead = null;
      return text;
    }
  }
}
