package ai.dsopt;

import ai.dsopt.raw.DsoptNative;

/** The native library itself. */
public final class Dsopt {
  private Dsopt() {}

  /**
   * The version of the native library.
   *
   * @return for example "1.0.0"
   */
  public static String version() {
    NativeLibrary.load();
    long number = DsoptNative.dsopt_version_number();
    return number / 1_000_000 + "." + number / 1000 % 1000 + "." + number % 1000;
  }

  /**
   * How many additions the C interface of the native library has seen.
   *
   * @return at least 1
   */
  public static int abiLevel() {
    NativeLibrary.load();
    return (int) DsoptNative.dsopt_abi_level();
  }

  /**
   * How the native library was built.
   *
   * @return one line
   */
  public static String buildInfo() {
    NativeLibrary.load();
    return Check.string(DsoptNative.dsopt_build_info());
  }
}
