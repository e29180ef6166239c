package ai.dsopt;

/**
 * Something that happened to a generation ({@code dsopt_event}). The arrays belong to the receiver.
 *
 * @param kind new text, the end, or a failure
 * @param text whole characters only; may be empty
 * @param tokens sampled since the last event
 * @param finish why the generation ended; {@link Finish#NONE} while it goes on
 * @param status why it failed, for {@link Kind#ERROR}; see {@link Stream#error()}
 * @param logprobs of each token; {@code null} unless asked for
 * @param topCount how many most probable tokens are reported for each token
 * @param topTokens {@code topCount} for each token, most probable first; {@code null} unless asked for
 * @param topLogprobs of {@code topTokens}
 */
public record Event(Kind kind, String text, int[] tokens, Finish finish, Status status, float[] logprobs,
    int topCount, int[] topTokens, float[] topLogprobs) {
  /** What kind of event it is. */
  public enum Kind {
    /** New tokens, and the text they complete. */
    TEXT,
    /** The generation ended. */
    DONE,
    /** The generation failed. */
    ERROR;

    static Kind of(int value) {
      return value == 1 ? TEXT : value == 2 ? DONE : ERROR;
    }
  }

  /**
   * Whether this is the generation's last event.
   *
   * @return {@code true} for {@link Kind#DONE} and {@link Kind#ERROR}
   */
  public boolean last() {
    return kind != Kind.TEXT;
  }
}
