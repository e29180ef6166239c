package ai.dsopt;

import ai.dsopt.raw.LogSink;

/** Native log to listener, on any thread. */
final class LogBridge extends LogSink {
  private final LogListener listener;

  LogBridge(LogListener listener) {
    this.listener = listener;
  }

  @Override
  public void on_log(int level, byte[] component, byte[] message) {
    try {
      listener.onLog(LogLevel.of(level), Check.string(component), Check.string(message));
    } catch (Throwable dropped) {
      // No call waits for it, and nothing may unwind native frames.
    }
  }
}
