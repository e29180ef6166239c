package ai.dsopt;

/**
 * What a model is ({@code dsopt_model_info}).
 *
 * @param architecture "llama", "mistral", "mixtral", "deepseek_v2", ...
 * @param device where every layer runs: "cpu", "cuda:0"; empty without weights
 * @param vocabSize number of tokens
 * @param contextLength most tokens of one sequence
 * @param layerCount number of layers
 * @param parameterCount number of weights
 * @param weightBytes on the device after packing
 * @param kvBytesPerToken of the cache at its default type
 * @param bos token that begins a sequence; -1: none
 * @param eos the first of the tokens that end one; -1: none
 * @param pad padding token; -1: none
 * @param loaded whether the weights are complete
 */
public record ModelInfo(String architecture, String device, int vocabSize, int contextLength, int layerCount,
    long parameterCount, long weightBytes, long kvBytesPerToken, int bos, int eos, int pad, boolean loaded) {}
