package ai.dsopt;

/** What listeners of one session or model threw, on its way from inside a native call to that call's caller. */
final class Pending {
  private Throwable first;

  synchronized void add(Throwable thrown) {
    if (first == null) {
      first = thrown;
    } else if (first != thrown) {
      first.addSuppressed(thrown);
    }
  }

  /** Throws what was added, once. */
  void rethrow() {
    Throwable thrown;
    synchronized (this) {
      thrown = first;
      first = null;
    }
    if (thrown instanceof RuntimeException e) {
      throw e;
    }
    if (thrown instanceof Error e) {
      throw e;
    }
    if (thrown != null) {
      throw new DsoptException.Callback("a listener failed: " + thrown, thrown);
    }
  }

  /**
   * The same for a call that failed itself: busy means that it never began, so what is pending is not its own.
   */
  RuntimeException rethrowInsteadOf(DsoptException failure) {
    if (failure.code() != Status.BUSY) {
      rethrow();
    }
    return failure;
  }
}
