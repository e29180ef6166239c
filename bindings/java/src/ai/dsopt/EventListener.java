package ai.dsopt;

/** Receives the events of a generation inside {@link Session#poll} and {@link Session#await}. */
@FunctionalInterface
public interface EventListener {
  /**
   * Called on the thread that polls. It may call {@link Stream#cancel()} and methods that only ask; a method
   * that changes the session throws {@link DsoptException.Busy}. What it throws cancels the stream and comes
   * back out of the poll.
   *
   * @param stream whose event it is
   * @param event new text, the end, or a failure
   */
  void onEvent(Stream stream, Event event);
}
