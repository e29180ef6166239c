package ai.dsopt.tests;

import java.util.Objects;

/**
 * A small test runner: each test is a sentence about behaviour, a failure prints what was found and expected.
 */
final class Suite {
  private final String only;
  private int passed;
  private int failed;

  /** only: run the tests whose sentence contains it; empty: all. */
  Suite(String only) {
    this.only = only;
  }

  interface Body {
    void run() throws Throwable;
  }

  void test(String sentence, Body body) {
    if (!sentence.contains(only)) {
      return;
    }
    long start = System.nanoTime();
    try {
      body.run();
      ++passed;
      System.out.println("ok      " + sentence + " (" + (System.nanoTime() - start) / 1_000_000 + " ms)");
    } catch (Throwable failure) {
      ++failed;
      System.out.println("FAILED  " + sentence);
      failure.printStackTrace(System.out);
    }
  }

  /** Prints the sum; the exit code of the program. */
  int finish() {
    System.out.println(passed + " passed, " + failed + " failed");
    return failed == 0 && passed > 0 ? 0 : 1;
  }

  static void that(boolean holds, String what) {
    if (!holds) {
      throw new AssertionError(what);
    }
  }

  static void equal(Object expected, Object found, String what) {
    if (!Objects.deepEquals(expected, found)) {
      throw new AssertionError(what + ": " + text(found) + ", expected " + text(expected));
    }
  }

  /** The body throws exactly this type, with a message that contains part. */
  static <T extends Throwable> T thrown(Class<T> type, String part, Body body) {
    try {
      body.run();
    } catch (Throwable failure) {
      if (failure.getClass() != type || !String.valueOf(failure.getMessage()).contains(part)) {
        throw new AssertionError(
            "expected " + type.getName() + " with '" + part + "', found " + failure, failure);
      }
      return type.cast(failure);
    }
    throw new AssertionError("nothing was thrown, expected " + type.getName() + " with '" + part + "'");
  }

  private static String text(Object value) {
    return value instanceof int[] ints  ? java.util.Arrays.toString(ints)
        : value instanceof byte[] bytes ? java.util.Arrays.toString(bytes)
                                        : String.valueOf(value);
  }
}
