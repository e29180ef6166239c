package ai.dsopt;

/** The arithmetic of a session ({@code dsopt_precision}). */
public enum Precision {
  /** The device's best arithmetic: bf16 products, f32 sums. */
  FAST,
  /** Activations, products and cache in f32. */
  REFERENCE
}
