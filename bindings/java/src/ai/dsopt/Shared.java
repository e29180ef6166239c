package ai.dsopt;

import java.util.concurrent.atomic.AtomicInteger;

/** What a runtime and all objects made from it use together. Freed with the last of them. */
final class Shared {
  private final Runnable free;
  private final AtomicInteger holders = new AtomicInteger(1);

  /** Held once by the caller. */
  Shared(Runnable free) {
    this.free = free;
  }

  Shared hold() {
    holders.incrementAndGet();
    return this;
  }

  void drop() {
    if (holders.decrementAndGet() == 0) {
      free.run();
    }
  }
}
