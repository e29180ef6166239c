package ai.dsopt;

/** The number format of a session's cache ({@code dsopt_dtype}). */
public enum DataType {
  /** {@link #BF16}, or {@link #F32} with {@link Precision#REFERENCE}. */
  DEFAULT(0),
  /** 32-bit floating point. */
  F32(1),
  /** 16-bit floating point with 8 bits of exponent. */
  BF16(3),
  /** 8-bit floating point with 4 bits of exponent, scaled. */
  F8(4),
  /** 8-bit integers, scaled. */
  I8(5),
  /** 4-bit integers, scaled in groups. */
  I4(8);

  final int value;

  DataType(int value) {
    this.value = value;
  }
}
