package ai.dsopt;

import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.LongConsumer;

/**
 * A native object and the calls that are inside it. It is released when its owner was closed or collected and
 * the last of those calls has returned, so that no thread ever uses a freed object.
 *
 * <pre>{@code
 * long native = handle.enter();
 * try { ... } finally { handle.leave(this); }
 * }</pre>
 */
final class Handle {
  private static final Cleaner CLEANER = Cleaner.create();
  private static final int CLOSED = Integer.MIN_VALUE;

  private final String what;
  private final long pointer;
  private final LongConsumer release;
  private final Runnable afterRelease;
  /** Number of calls inside, plus CLOSED. */
  private final AtomicInteger calls = new AtomicInteger();

  /**
   * what: for messages. afterRelease may hold on to what the native object needs; neither may refer to the
   * owner.
   */
  Handle(String what, long pointer, LongConsumer release, Runnable afterRelease) {
    this.what = what;
    this.pointer = pointer;
    this.release = release;
    this.afterRelease = afterRelease;
  }

  /** Closes the handle when the owner is unreachable, or at the first clean() of the result. */
  Cleaner.Cleanable ownedBy(Object owner) {
    return CLEANER.register(owner, this::close);
  }

  long enter() {
    int before = calls.getAndUpdate(n -> n < 0 ? n : n + 1);
    if (before < 0) {
      throw new DsoptException.InvalidState(what + ": closed, expected an open one");
    }
    return pointer;
  }

  /** owner: keeps the garbage collector from closing it while the call runs. */
  void leave(Object owner) {
    if (calls.decrementAndGet() == CLOSED) {
      free();
    }
    Reference.reachabilityFence(owner);
  }

  private void close() {
    if (calls.getAndUpdate(n -> n | CLOSED) == 0) {
      free();
    }
  }

  private void free() {
    try {
      release.accept(pointer);
    } finally {
      afterRelease.run();
    }
  }
}
