package ai.dsopt;

import ai.dsopt.raw.EventSink;
import java.lang.ref.WeakReference;

/**
 * Native events of one generation to its listener. The listener is kept by its stream only, so that one which
 * refers to its stream does not keep that from being collected.
 */
final class EventBridge extends EventSink {
  private final WeakReference<Stream> stream;
  private final WeakReference<EventListener> listener;
  private final Pending pending;

  EventBridge(Stream stream, EventListener listener) {
    this.stream = new WeakReference<>(stream);
    this.listener = new WeakReference<>(listener);
    pending = stream.session().pending();
  }

  @Override
  public boolean on_event() {
    try {
      Stream sender = stream.get();
      EventListener receiver = listener.get();
      return sender == null || receiver == null || !sender.deliver(receiver, last_event());
    } catch (Throwable thrown) {
      pending.add(thrown);
      return true;
    }
  }
}
