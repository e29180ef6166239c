package ai.dsopt;

/** Why a generation ended ({@code dsopt_finish}). */
public enum Finish {
  /** It has not ended. */
  NONE,
  /** The model's end token or one of {@link GenerateOptions#stopTokens()}. */
  END,
  /** A stop string. */
  STOP,
  /** {@link GenerateOptions#maxTokens()}, the context length, or the prompt of a prefill is done. */
  LENGTH,
  /** It was cancelled. */
  CANCELLED,
  /** It failed: see {@link Stream#error()}. */
  ERROR;

  static Finish of(int value) {
    return value >= 0 && value < values().length ? values()[value] : ERROR;
  }
}
