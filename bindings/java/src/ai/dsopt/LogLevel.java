package ai.dsopt;

/**
 * How much a runtime tells its log listener: messages of this level and of those before it ({@code
 * dsopt_log_level}).
 */
public enum LogLevel {
  /** {@link #WARN}. */
  DEFAULT,
  /** What failed. */
  ERROR,
  /** What works otherwise than asked. */
  WARN,
  /** What happens. */
  INFO,
  /** What helps to find a defect. */
  DEBUG,
  /** Nothing. */
  OFF;

  static LogLevel of(int value) {
    return value >= 0 && value < values().length ? values()[value] : DEFAULT;
  }
}
