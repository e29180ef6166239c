package ai.dsopt;

/**
 * A device that models can run on ({@code dsopt_device_info}).
 *
 * @param id the name that options take: "cpu", "cuda:0"
 * @param name what its maker calls it
 * @param kind what it is
 * @param arch CUDA: 90 for sm_90. CPU: 0 scalar, 1 avx2, 2 avx512, 3 avx512_bf16, 4 avx2_vnni, 5 avx512_vnni
 * @param multiprocessors of a CUDA device; cores of a CPU
 * @param memoryTotal in bytes
 * @param memoryFree in bytes
 * @param preferredRows batch rows from which prefill gains little
 */
public record DeviceInfo(String id, String name, Kind kind, int arch, int multiprocessors, long memoryTotal,
    long memoryFree, int preferredRows) {
  /** What a device is. */
  public enum Kind {
    /** The processor of the host. */
    CPU,
    /** An NVIDIA GPU. */
    CUDA,
    /** Something that this version of the Java layer does not know. */
    OTHER;

    static Kind of(int value) {
      return value == 1 ? CPU : value == 2 ? CUDA : OTHER;
    }
  }
}
