package ai.dsopt;

import java.nio.charset.StandardCharsets;

/**
 * A call that failed. {@link #code()} says why in one word, {@link #getMessage()} in one line. Each cause that
 * a program may want to catch by itself has a subclass, for example {@link Cancelled} or {@link NotFound}.
 */
public class DsoptException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** Never OK. */
  private final Status code;

  DsoptException(Status code, String message) {
    super(message);
    this.code = code;
  }

  DsoptException(Status code, String message, Throwable cause) {
    super(message, cause);
    this.code = code;
  }

  /**
   * Why the call failed.
   *
   * @return never {@code null} and never {@link Status#OK}
   */
  public final Status code() {
    return code;
  }

  /** What the native layer throws: the message is UTF-8. */
  static DsoptException of(int value, byte[] message) {
    return of(Status.of(value), new String(message, StandardCharsets.UTF_8));
  }

  static DsoptException of(Status code, String message) {
    return switch (code) {
      case INVALID_ARGUMENT -> new InvalidArgument(message);
      case INVALID_STATE -> new InvalidState(message);
      case OUT_OF_MEMORY, DEVICE_MEMORY -> new OutOfMemory(code, message);
      case IO -> new Io(message);
      case CORRUPT -> new Corrupt(message);
      case UNSUPPORTED, VERSION -> new Unsupported(code, message);
      case NOT_FOUND -> new NotFound(message);
      case CANCELLED -> new Cancelled(message);
      case TIMEOUT -> new Timeout(message);
      case DEVICE_LOST -> new DeviceLost(message);
      case BUSY -> new Busy(message);
      case CALLBACK -> new Callback(message, null);
      default -> new DsoptException(code, message);
    };
  }

  /** {@link Status#INVALID_ARGUMENT}: an argument has a value that the call does not take. */
  public static final class InvalidArgument extends DsoptException {
    private static final long serialVersionUID = 1;

    InvalidArgument(String message) {
      super(Status.INVALID_ARGUMENT, message);
    }
  }

  /** {@link Status#INVALID_STATE}: the right call at the wrong moment, as any after {@code close}. */
  public static final class InvalidState extends DsoptException {
    private static final long serialVersionUID = 1;

    InvalidState(String message) {
      super(Status.INVALID_STATE, message);
    }
  }

  /** {@link Status#OUT_OF_MEMORY} or {@link Status#DEVICE_MEMORY}: memory, cache or a cap does not suffice. */
  public static final class OutOfMemory extends DsoptException {
    private static final long serialVersionUID = 1;

    OutOfMemory(Status code, String message) {
      super(code, message);
    }
  }

  /** {@link Status#IO}: reading a file failed. */
  public static final class Io extends DsoptException {
    private static final long serialVersionUID = 1;

    Io(String message) {
      super(Status.IO, message);
    }
  }

  /** {@link Status#CORRUPT}: the file or buffer is malformed or its checksum fails. */
  public static final class Corrupt extends DsoptException {
    private static final long serialVersionUID = 1;

    Corrupt(String message) {
      super(Status.CORRUPT, message);
    }
  }

  /** {@link Status#UNSUPPORTED} or {@link Status#VERSION}: valid, but not by this build, device or version. */
  public static final class Unsupported extends DsoptException {
    private static final long serialVersionUID = 1;

    Unsupported(Status code, String message) {
      super(code, message);
    }
  }

  /** {@link Status#NOT_FOUND}: there is no such file, key, device or template. */
  public static final class NotFound extends DsoptException {
    private static final long serialVersionUID = 1;

    NotFound(String message) {
      super(Status.NOT_FOUND, message);
    }
  }

  /** {@link Status#CANCELLED}: cancelled by the program. */
  public static final class Cancelled extends DsoptException {
    private static final long serialVersionUID = 1;

    Cancelled(String message) {
      super(Status.CANCELLED, message);
    }
  }

  /** {@link Status#TIMEOUT}: the time was over before something happened. */
  public static final class Timeout extends DsoptException {
    private static final long serialVersionUID = 1;

    Timeout(String message) {
      super(Status.TIMEOUT, message);
    }
  }

  /** {@link Status#DEVICE_LOST}: the device failed for good; close every object of it. */
  public static final class DeviceLost extends DsoptException {
    private static final long serialVersionUID = 1;

    DeviceLost(String message) {
      super(Status.DEVICE_LOST, message);
    }
  }

  /** {@link Status#BUSY}: another call that must be alone is running on the same session or model. */
  public static final class Busy extends DsoptException {
    private static final long serialVersionUID = 1;

    Busy(String message) {
      super(Status.BUSY, message);
    }
  }

  /** {@link Status#CALLBACK}: a listener or reader failed; {@link #getCause()} is what it threw, if it did. */
  public static final class Callback extends DsoptException {
    private static final long serialVersionUID = 1;

    Callback(String message, Throwable cause) {
      super(Status.CALLBACK, message, cause);
    }
  }
}
