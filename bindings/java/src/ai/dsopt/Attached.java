package ai.dsopt;

import ai.dsopt.raw.NativeEvent;

/** Native objects beside a stream: freed with it; the bridge is replaced by that of the next generation. */
final class Attached {
  private NativeEvent event;
  private EventBridge bridge;

  synchronized NativeEvent event() {
    if (event == null) {
      event = new NativeEvent();
    }
    return event;
  }

  void replace(EventBridge next) {
    EventBridge last;
    synchronized (this) {
      last = bridge;
      bridge = next;
    }
    if (last != null) {
      last.delete();
    }
  }

  void free() {
    replace(null);
    synchronized (this) {
      if (event != null) {
        event.delete();
        event = null;
      }
    }
  }
}
