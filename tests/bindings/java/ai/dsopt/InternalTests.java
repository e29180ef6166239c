package ai.dsopt;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** What cannot be provoked from outside; in this package to reach it. */
public final class InternalTests {
  private InternalTests() {}

  /** Every status of the C interface becomes its exception, and a number of a later version INTERNAL. */
  public static void statuses() {
    Map<Status, Class<?>> types = new HashMap<>();
    types.put(Status.INVALID_ARGUMENT, DsoptException.InvalidArgument.class);
    types.put(Status.INVALID_STATE, DsoptException.InvalidState.class);
    types.put(Status.OUT_OF_MEMORY, DsoptException.OutOfMemory.class);
    types.put(Status.DEVICE_MEMORY, DsoptException.OutOfMemory.class);
    types.put(Status.IO, DsoptException.Io.class);
    types.put(Status.CORRUPT, DsoptException.Corrupt.class);
    types.put(Status.UNSUPPORTED, DsoptException.Unsupported.class);
    types.put(Status.VERSION, DsoptException.Unsupported.class);
    types.put(Status.NOT_FOUND, DsoptException.NotFound.class);
    types.put(Status.BUFFER_TOO_SMALL, DsoptException.class);
    types.put(Status.CANCELLED, DsoptException.Cancelled.class);
    types.put(Status.TIMEOUT, DsoptException.Timeout.class);
    types.put(Status.DEVICE_LOST, DsoptException.DeviceLost.class);
    types.put(Status.BUSY, DsoptException.Busy.class);
    types.put(Status.CALLBACK, DsoptException.Callback.class);
    types.put(Status.INTERNAL, DsoptException.class);
    check(types.size() == Status.values().length - 1, "a status is missing here");
    NativeLibrary.load();
    types.forEach((status, type) -> {
      DsoptException failure = DsoptException.of(status.value(), new byte[] {'m', (byte) 0xc3, (byte) 0xbc});
      check(failure.getClass() == type && failure.code() == status, status + " gives " + failure.getClass());
      check(failure.getMessage().equals("mü"), "message: " + failure.getMessage());
      String name = Check.string(ai.dsopt.raw.DsoptNative.dsopt_status_name(status.value()));
      check(name.equals("DSOPT_E_" + status), status + " is " + name + " in the C interface");
    });
    check(Status.of(-1234) == Status.INTERNAL && Status.of(0) == Status.OK, "other numbers");
  }

  /** An object is released once: after the close and the last call in it, whichever comes last. */
  public static void handles() {
    List<Long> released = new ArrayList<>();
    Object owner = new Object();
    Handle handle = new Handle("thing", 7, released::add, () -> released.add(-1L));
    var cleanable = handle.ownedBy(owner);
    check(handle.enter() == 7 && handle.enter() == 7, "pointer");
    handle.leave(owner);
    cleanable.clean();
    cleanable.clean();
    check(released.isEmpty(), "released during a call");
    try {
      handle.enter();
      check(false, "entered after close");
    } catch (DsoptException.InvalidState expected) {
      check(expected.getMessage().equals("thing: closed, expected an open one"), expected.getMessage());
    }
    handle.leave(owner);
    check(released.equals(List.of(7L, -1L)), "released: " + released);
  }

  /** A budget above zero stays above zero, and the longest fits. */
  public static void durations() {
    check(Check.micros(Duration.ZERO, "t") == 0, "zero");
    check(Check.micros(Duration.ofNanos(1), "t") == 1, "one nanosecond");
    check(Check.micros(Duration.ofMillis(2), "t") == 2000, "two milliseconds");
    check(Check.micros(Duration.ofSeconds(Long.MAX_VALUE, 999_999_999), "t") == Long.MAX_VALUE, "the longest");
  }

  private static void check(boolean holds, String what) {
    if (!holds) {
      throw new AssertionError(what);
    }
  }
}
