package ai.dsopt;

import ai.dsopt.raw.DsoptNative;
import ai.dsopt.raw.dsopt_poll_result;
import ai.dsopt.raw.dsopt_session_stats;
import java.lang.ref.Cleaner;
import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * A cache and the scheduler of the streams that share it. Work is done inside {@link #poll} and {@link #await}
 * only, on the thread that calls them; see the package for what may run at the same time.
 */
public final class Session implements AutoCloseable {
  private final Handle handle;
  private final Cleaner.Cleanable cleanable;
  private final Shared shared;
  private final Model model;
  private final Pending pending = new Pending();
  private final Set<Stream> listening = ConcurrentHashMap.newKeySet();

  /** Takes over one share of shared. */
  Session(long pointer, Shared shared, Model model) {
    this.shared = shared;
    this.model = model;
    handle = new Handle("session", pointer, DsoptNative::dsopt_session_release, shared::drop);
    cleanable = handle.ownedBy(this);
  }

  /**
   * A new, empty sequence.
   *
   * @return to be closed
   */
  public Stream newStream() {
    long pointer = handle.enter();
    try {
      return new Stream(DsoptNative.stream_create(pointer), this);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * Works for about as long as the budget, delivers events, and never waits for a device: what a game calls
   * once per frame.
   *
   * @param budget zero: only deliver what is finished
   * @return what was done; {@link PollResult#active()} tells whether to go on
   */
  public PollResult poll(Duration budget) {
    long micros = Check.micros(budget, "budget");
    long pointer = handle.enter();
    dsopt_poll_result raw = new dsopt_poll_result();
    try {
      DsoptNative.dsopt_session_poll(pointer, micros, raw);
      pending.rethrow();
      return Records.poll(raw);
    } catch (DsoptException failure) {
      throw pending.rethrowInsteadOf(failure);
    } finally {
      raw.delete();
      handle.leave(this);
    }
  }

  /**
   * Polls until an event is ready or was delivered, or nothing generates.
   *
   * @param timeout after which it throws {@link DsoptException.Timeout}; {@link #interrupt()} makes it throw
   *     {@link DsoptException.Cancelled}
   */
  public void await(Duration timeout) {
    long micros = Check.micros(timeout, "timeout");
    long pointer = handle.enter();
    try {
      DsoptNative.dsopt_session_wait(pointer, micros);
      pending.rethrow();
    } catch (DsoptException failure) {
      throw pending.rethrowInsteadOf(failure);
    } finally {
      handle.leave(this);
    }
  }

  /** Makes a poll or await in progress return within 2 ms, from any thread; if there is none, the next one. */
  public void interrupt() {
    long pointer = handle.enter();
    try {
      DsoptNative.dsopt_session_interrupt(pointer);
    } finally {
      handle.leave(this);
    }
  }

  /** Gives back memory that is not needed now; the cache stays. */
  public void trim() {
    long pointer = handle.enter();
    try {
      DsoptNative.session_trim(pointer);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * From now on the streams hold at most so many bytes of cache, in whole pages. Pages already held stay. A stream that
   * needs one more page while the limit is reached ends with {@link DsoptException.OutOfMemory} and may go on when
   * pages were given back; the others are not touched. {@link SessionStats#kvTokensTotal()} says what the limit allows.
   *
   * @param bytes 0: all that the session was made with
   */
  public void setCacheLimit(long bytes) {
    Check.range(bytes, Long.MAX_VALUE, "bytes");
    long pointer = handle.enter();
    try {
      DsoptNative.dsopt_session_set_cache_limit(pointer, bytes);
    } finally {
      handle.leave(this);
    }
  }

  /**
   * What was done so far.
   *
   * @return counters
   */
  public SessionStats stats() {
    long pointer = handle.enter();
    dsopt_session_stats raw = new dsopt_session_stats();
    try {
      DsoptNative.dsopt_session_get_stats(pointer, raw);
      return Records.stats(raw);
    } finally {
      raw.delete();
      handle.leave(this);
    }
  }

  /**
   * The model of this session.
   *
   * @return as it was given, also when it has been closed
   */
  public Model model() {
    return model;
  }

  /** Releases the session; a poll in progress on another thread ends first. Streams made from it stay valid. */
  @Override
  public void close() {
    try {
      interrupt();
    } catch (DsoptException.InvalidState closedAlready) {
      return;
    }
    cleanable.clean();
  }

  Shared shared() {
    return shared;
  }

  /**
   * A generation with a listener goes on while its session is polled, also when nobody else keeps the stream.
   * False: it is kept already.
   */
  boolean keep(Stream stream) {
    return listening.add(stream);
  }

  void letGo(Stream stream) {
    listening.remove(stream);
  }

  Pending pending() {
    return pending;
  }
}
