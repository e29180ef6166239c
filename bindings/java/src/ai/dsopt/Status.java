package ai.dsopt;

/** Why a call failed, as the C interface names it ({@code dsopt_code}). */
public enum Status {
  /** No failure. */
  OK(0),
  /** An argument has a value that the call does not take. */
  INVALID_ARGUMENT(-1),
  /** The right call at the wrong moment, for example after {@code close}. */
  INVALID_STATE(-2),
  /** The host has no memory left. */
  OUT_OF_MEMORY(-3),
  /** Device memory, cache pages or a cap in bytes do not suffice. */
  DEVICE_MEMORY(-4),
  /** Reading a file failed. */
  IO(-5),
  /** The file or buffer is malformed or its checksum fails. */
  CORRUPT(-6),
  /** Valid, but not by this build or device. */
  UNSUPPORTED(-7),
  /** The file or plugin is newer than this library. */
  VERSION(-8),
  /** There is no such file, key, device or template. */
  NOT_FOUND(-9),
  /** A buffer of the caller is too small. */
  BUFFER_TOO_SMALL(-10),
  /** Cancelled by the program. */
  CANCELLED(-11),
  /** The time was over before something happened. */
  TIMEOUT(-12),
  /** The device failed for good: close every object of it. */
  DEVICE_LOST(-13),
  /** Another call that must be alone is running on the same session or model. */
  BUSY(-14),
  /** A callback failed. */
  CALLBACK(-15),
  /** A defect of the library. */
  INTERNAL(-99);

  private final int value;

  Status(int value) {
    this.value = value;
  }

  /**
   * The number of this status in the C interface.
   *
   * @return 0 or a negative number
   */
  public int value() {
    return value;
  }

  /**
   * The status of a number of the C interface.
   *
   * @param value a {@code dsopt_code}
   * @return its status; {@link #INTERNAL} for a number that this version does not know
   */
  public static Status of(int value) {
    for (Status status : values()) {
      if (status.value == value) {
        return status;
      }
    }
    return INTERNAL;
  }
}
