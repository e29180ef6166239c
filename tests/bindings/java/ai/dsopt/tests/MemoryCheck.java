package ai.dsopt.tests;

import ai.dsopt.Model;
import ai.dsopt.Runtime;
import ai.dsopt.Session;
import ai.dsopt.Stream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;

/**
 * Opens, generates and closes many times: java -Ddsopt.model=FILE MemoryCheck CYCLES. Resident memory after the
 * last cycle may be at most 3 MB above that after the first hundred: 3 KB a cycle of a thousand. Run it without
 * what grows by itself: -Xint (no compiled code), a fixed heap, and MALLOC_ARENA_MAX=1.
 */
public final class MemoryCheck {
  private static final int WARM_CYCLES = 100;
  private static final long MOST_GROWTH = 3_000_000;

  private MemoryCheck() {}

  public static void main(String[] args) throws IOException {
    int cycles = Integer.parseInt(args[0]);
    long warm = 0;
    for (int i = 1; i <= cycles; ++i) {
      cycle(i);
      if (i % WARM_CYCLES == 0) {
        System.gc();
        long resident = resident();
        warm = i == WARM_CYCLES ? resident : warm;
        System.out.println(i + " cycles: " + resident / 1000 + " KB resident");
      }
    }
    long growth = resident() - warm;
    boolean flat = warm > 0 && growth < MOST_GROWTH;
    System.out.println((flat ? "flat" : "GROWS") + ": " + growth / 1000 + " KB after the first " + WARM_CYCLES);
    System.exit(flat ? 0 : 1);
  }

  /** Even ones are closed from the outside in, and use a listener; odd ones from the inside out. */
  private static void cycle(int number) {
    Runtime runtime = Runtime.builder().threads(1).withoutBackendScan().log((l, c, m) -> {}).build();
    Model model = runtime.open(Demo.MODEL, Demo.CPU);
    Session session = Demo.session(model, 2);
    Stream stream = session.newStream().append("go to the kitchen");
    if (number % 2 == 0) {
      runtime.close();
      model.close();
      stream.start(Demo.greedy().maxTokens(8).listener((sender, event) -> sender.tokens(0)).build());
      while (session.poll(Duration.ofMillis(5)).active()) {
        Thread.onSpinWait();
      }
      session.close();
      stream.close();
    } else {
      stream.generate(Demo.greedy().maxTokens(8).stop("x").logprobs().build()).text();
      stream.fork().close();
      stream.close();
      session.close();
      model.close();
      if (runtime.hostBytes() != 0) {
        throw new AssertionError("host bytes after everything was closed: " + runtime.hostBytes());
      }
      runtime.close();
    }
  }

  private static long resident() throws IOException {
    return Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]) * 4096;
  }
}
