package ai.dsopt;

/** Follows the loading of a model. */
@FunctionalInterface
public interface ProgressListener {
  /**
   * Called on the thread that is inside {@link Model#open(String)} or {@link Model#poll}. What it throws
   * cancels the load and comes back out of that call.
   *
   * @param progress 0 to 1
   * @return {@code true} to go on; {@code false} makes the call throw {@link DsoptException.Cancelled}
   */
  boolean onProgress(float progress);
}
