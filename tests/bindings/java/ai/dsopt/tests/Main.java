package ai.dsopt.tests;

/**
 * Runs the scenarios of tests/bindings/README.md: java -Ddsopt.model=FILE -Ddsopt.other=FILE Main [PART OF A
 * SENTENCE].
 */
public final class Main {
  private Main() {}

  public static void main(String[] args) {
    Suite suite = new Suite(args.length > 0 ? args[0] : "");
    LoadTests.add(suite);
    StreamTests.add(suite);
    SequenceTests.add(suite);
    ErrorTests.add(suite);
    TextTests.add(suite);
    CallbackTests.add(suite);
    LifetimeTests.add(suite);
    ThreadTests.add(suite);
    PublisherTests.add(suite);
    System.exit(suite.finish());
  }
}
