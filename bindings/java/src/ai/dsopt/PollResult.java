package ai.dsopt;

import java.time.Duration;

/**
 * What one {@link Session#poll} did ({@code dsopt_poll_result}).
 *
 * @param activeStreams still generating
 * @param readyEvents not yet read
 * @param tokensSampled in this call
 * @param spent by this call
 * @param suggestedWait device time until there is something to do; zero: call again
 */
public record PollResult(
    int activeStreams, int readyEvents, int tokensSampled, Duration spent, Duration suggestedWait) {
  /**
   * Whether any stream is still generating.
   *
   * @return {@code true}: poll again
   */
  public boolean active() {
    return activeStreams > 0;
  }
}
