package ai.dsopt;

/** Receives the log of a {@link Runtime}. */
@FunctionalInterface
public interface LogListener {
  /**
   * Called on any thread, possibly several at once. What it throws is dropped, since no call waits for it.
   *
   * @param level how bad it is
   * @param component the part of the library that speaks
   * @param message one line
   */
  void onLog(LogLevel level, String component, String message);
}
