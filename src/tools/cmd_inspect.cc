// cmd_inspect.cc - dsopt inspect: what a .dsopt file says: configuration, tensors, chunks, sizes. Decodes no
// weights.
#include <cstdio>
#include <string>

#include "base/float_types.h"
#include "base/memory.h"
#include "format/reader.h"
#include "format/source.h"
#include "tools/client.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/output.h"

namespace dsopt::tools {
namespace {

const char* ScalingName(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::kLinear:
      return "linear";
    case RopeScaling::kLlama3:
      return "llama3";
    case RopeScaling::kYarn:
      return "yarn";
    default:
      return "none";
  }
}

const char* TokenizerName(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::kByteBpe:
      return "byte bpe";
    case TokenizerKind::kCharBpe:
      return "char bpe";
    case TokenizerKind::kScoreBpe:
      return "score bpe";
    case TokenizerKind::kUnigram:
      return "unigram";
    default:
      return "none";
  }
}

struct Totals {
  uint64_t parameters = 0, raw_bytes = 0, stored_bytes = 0, synthetic = 0;
  double ratio() const {
    return raw_bytes == 0 ? 1.0 : static_cast<double>(stored_bytes) / static_cast<double>(raw_bytes);
  }
};

uint64_t StoredBytes(const ModelSpec& spec, const TensorSpec& tensor) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < tensor.chunk_count; ++i) bytes += spec.chunks[tensor.first_chunk + i].stored_size;
  return bytes;
}

Totals Sum(const ModelSpec& spec) {
  Totals totals;
  for (const TensorSpec& tensor : spec.tensors) {
    totals.parameters += ElementsIn(tensor, tensor.raw_bytes);
    if (tensor.synthetic) {
      ++totals.synthetic;
      continue;
    }
    totals.raw_bytes += tensor.raw_bytes;
    totals.stored_bytes += StoredBytes(spec, tensor);
  }
  return totals;
}

Json RopeJson(const RopeSpec& rope) {
  Json object;
  object["theta"] = rope.theta;
  object["dim"] = rope.dim;
  object["interleaved"] = rope.interleaved;
  object["scaling"] = ScalingName(rope.scaling);
  if (rope.scaling == RopeScaling::kNone) return object;
  object["factor"] = rope.factor;
  object["original_context"] = rope.original_context;
  if (rope.scaling == RopeScaling::kLlama3) {
    object["low_freq_factor"] = rope.low_freq_factor;
    object["high_freq_factor"] = rope.high_freq_factor;
  }
  if (rope.scaling == RopeScaling::kYarn) {
    object["beta_fast"] = rope.beta_fast;
    object["beta_slow"] = rope.beta_slow;
    object["mscale"] = rope.mscale;
    object["mscale_all_dim"] = rope.mscale_all_dim;
    object["attention_factor"] = rope.attention_factor;
  }
  return object;
}

Json KindJson(const LayerKind& kind) {
  const AttentionSpec& attention = kind.attention;
  Json object;
  object["mixer"] = kind.mixer == Mixer::kMla ? "mla" : "attention";
  object["q_heads"] = attention.q_heads;
  object["kv_heads"] = attention.kv_heads;
  object["head_dim"] = attention.head_dim;
  object["window"] = attention.window;
  object["qkv_bias"] = attention.qkv_bias;
  object["out_bias"] = attention.out_bias;
  if (kind.mixer == Mixer::kMla) {
    object["q_lora_rank"] = attention.q_lora_rank;
    object["kv_lora_rank"] = attention.kv_lora_rank;
    object["nope_dim"] = attention.nope_dim;
    object["v_dim"] = attention.v_dim;
    object["latent_norm_eps"] = kind.latent_norm_eps;
  }
  object["rope"] = RopeJson(attention.rope);
  object["norm_eps"] = kind.norm_eps;
  object["activation"] = kind.mlp.activation == Activation::kSilu ? "silu" : "gelu_tanh";
  object["mlp_bias"] = kind.mlp.bias;
  const MoeSpec& moe = kind.mlp.moe;
  if (moe.experts == 0) {
    object["inner"] = kind.mlp.inner;
    return object;
  }
  object["experts"] = moe.experts;
  object["top_k"] = moe.top_k;
  object["expert_inner"] = moe.inner;
  object["shared_inner"] = moe.shared_inner;
  object["groups"] = moe.groups;
  object["top_groups"] = moe.top_groups;
  object["renormalise"] = moe.renormalise;
  object["route_scale"] = moe.route_scale;
  return object;
}

Json FileJson(const ModelSpec& spec, const Totals& totals) {
  const ConfigSpec& config = spec.config;
  Json object;
  object["format"] = Format("%u.%u", spec.format_major, spec.format_minor);
  object["fingerprint"] = Format("%016llx", static_cast<unsigned long long>(spec.fingerprint));
  object["file_bytes"] = spec.file_bytes;
  object["architecture"] = config.architecture;
  object["parameters"] = totals.parameters;
  object["hidden"] = config.hidden;
  object["vocab"] = config.vocab;
  object["context"] = config.context;
  object["tie_embeddings"] = config.tie_embeddings;
  object["final_norm_eps"] = config.final_norm_eps;
  object["layers"] = config.layers;
  object["layer_kinds"] = Json::array();
  for (const LayerKind& kind : config.kinds) object["layer_kinds"].push_back(KindJson(kind));
  Json& tokenizer = object["tokenizer"];
  tokenizer["kind"] = TokenizerName(spec.tokenizer.kind);
  tokenizer["pieces"] = spec.tokenizer.pieces.size();
  tokenizer["merges"] = spec.tokenizer.merges.size();
  tokenizer["bos"] = spec.tokenizer.bos;
  tokenizer["eos"] = spec.tokenizer.eos;
  tokenizer["end_tokens"] = spec.tokenizer.end_tokens;
  object["chat_template_bytes"] = spec.chat_template.size();
  Json& sampling = object["sampling"];
  sampling["temperature"] = spec.sampling.temperature;
  sampling["top_k"] = spec.sampling.top_k;
  sampling["top_p"] = spec.sampling.top_p;
  sampling["min_p"] = spec.sampling.min_p;
  sampling["repeat_penalty"] = spec.sampling.repeat_penalty;
  object["metadata"] = spec.metadata;
  Json& weights = object["weights"];
  weights["tensors"] = spec.tensors.size();
  weights["synthetic_tensors"] = totals.synthetic;
  weights["chunks"] = spec.chunks.size();
  weights["chunk_bytes"] = spec.chunk_bytes;
  weights["raw_bytes"] = totals.raw_bytes;
  weights["stored_bytes"] = totals.stored_bytes;
  weights["ratio"] = totals.ratio();
  return object;
}

Json TensorJson(const ModelSpec& spec, const TensorSpec& tensor) {
  Json object;
  object["name"] = tensor.name;
  object["dtype"] = TypeName(tensor.dtype);
  object["shape"] = tensor.shape;
  object["raw_bytes"] = tensor.raw_bytes;
  object["stored_bytes"] = StoredBytes(spec, tensor);
  object["first_chunk"] = tensor.first_chunk;
  object["chunks"] = tensor.chunk_count;
  object["synthetic"] = tensor.synthetic;
  return object;
}

Json ChunkJson(const ChunkSpec& chunk) {
  Json object;
  object["offset"] = chunk.offset;
  object["stored_bytes"] = chunk.stored_size;
  object["raw_bytes"] = chunk.raw_size;
  object["codec"] = chunk.codec == Codec::kZstd ? "zstd" : "stored";
  object["filter"] = chunk.filter == Filter::kBytePlanes ? "byte planes" : "none";
  object["raw_checksum"] = Format("%016llx", static_cast<unsigned long long>(chunk.raw_checksum));
  object["stored_checksum"] = Format("%016llx", static_cast<unsigned long long>(chunk.stored_checksum));
  return object;
}

std::string KindText(const LayerKind& kind) {
  const AttentionSpec& attention = kind.attention;
  std::string text = kind.mixer == Mixer::kMla
                         ? Format("mla, %u heads, ranks q %u kv %u, dims nope %u rope %u v %u",
                                  attention.q_heads, attention.q_lora_rank, attention.kv_lora_rank,
                                  attention.nope_dim, attention.rope.dim, attention.v_dim)
                         : Format("attention, %u query and %u key heads of %u", attention.q_heads,
                                  attention.kv_heads, attention.head_dim);
  if (attention.window != 0) text += Format(", window %u", attention.window);
  text += Format("; rope theta %g", static_cast<double>(attention.rope.theta));
  if (attention.rope.scaling != RopeScaling::kNone) {
    text += Format(", %s x%g", ScalingName(attention.rope.scaling), static_cast<double>(attention.rope.factor));
  }
  const MoeSpec& moe = kind.mlp.moe;
  if (moe.experts == 0) return text + Format("; dense mlp %u", kind.mlp.inner);
  text += Format("; %u of %u experts of %u", moe.top_k, moe.experts, moe.inner);
  if (moe.groups > 1) text += Format(" in %u of %u groups", moe.top_groups, moe.groups);
  return moe.shared_inner == 0 ? text : text + Format(", shared %u", moe.shared_inner);
}

std::string FileText(const ModelSpec& spec, const Totals& totals) {
  const ConfigSpec& config = spec.config;
  std::string text;
  text += Format("format        %u.%u, fingerprint %016llx, %s\n", spec.format_major, spec.format_minor,
                 static_cast<unsigned long long>(spec.fingerprint), HumanBytes(spec.file_bytes).c_str());
  text += Format("architecture  %s, %llu parameters\n", config.architecture.c_str(),
                 static_cast<unsigned long long>(totals.parameters));
  text +=
      Format("shape         hidden %u, vocabulary %u, context %u, %zu layers, %s embeddings\n", config.hidden,
             config.vocab, config.context, config.layers.size(), config.tie_embeddings ? "tied" : "untied");
  for (size_t i = 0; i < config.kinds.size(); ++i) {
    size_t count = 0;
    for (uint8_t kind : config.layers) count += kind == i ? 1 : 0;
    text += Format("%3zu layers    %s\n", count, KindText(config.kinds[i]).c_str());
  }
  text += Format("tokenizer     %s, %zu pieces, bos %d, eos %d\n", TokenizerName(spec.tokenizer.kind),
                 spec.tokenizer.pieces.size(), spec.tokenizer.bos, spec.tokenizer.eos);
  text += Format("chat template %s\n",
                 spec.chat_template.empty() ? "none" : Format("%zu bytes", spec.chat_template.size()).c_str());
  text += Format("weights       %zu tensors in %zu chunks, %s stored of %s (%.1f%%)\n", spec.tensors.size(),
                 spec.chunks.size(), HumanBytes(totals.stored_bytes).c_str(),
                 HumanBytes(totals.raw_bytes).c_str(), totals.ratio() * 100);
  if (totals.synthetic != 0) {
    text +=
        Format("synthetic     %llu tensors have no bytes\n", static_cast<unsigned long long>(totals.synthetic));
  }
  for (const auto& [key, value] : spec.metadata) text += Format("%-13s %s\n", key.c_str(), value.c_str());
  return text;
}

// Names and metadata come from the file: nothing in them may steer a terminal.
std::string Printable(std::string text) {
  for (char& c : text) {
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f) c = '?';
  }
  return text;
}

std::string TensorTable(const ModelSpec& spec) {
  std::string text = Format("\n%-32s %-5s %-22s %14s %14s %7s\n", "tensor", "type", "shape", "raw bytes",
                            "stored bytes", "chunks");
  for (const TensorSpec& tensor : spec.tensors) {
    text += Format("%-32s %-5s %-22s %14llu %14llu %7u%s\n", tensor.name.c_str(), TypeName(tensor.dtype),
                   ShapeText(tensor.shape).c_str(), static_cast<unsigned long long>(tensor.raw_bytes),
                   static_cast<unsigned long long>(StoredBytes(spec, tensor)), tensor.chunk_count,
                   tensor.synthetic ? " synthetic" : "");
  }
  return text;
}

std::string ChunkTable(const ModelSpec& spec) {
  std::string text = Format("\n%7s %14s %12s %12s %-7s %-11s %-16s\n", "chunk", "offset", "stored", "raw",
                            "codec", "filter", "checksum");
  for (size_t i = 0; i < spec.chunks.size(); ++i) {
    const ChunkSpec& chunk = spec.chunks[i];
    text +=
        Format("%7zu %14llu %12u %12u %-7s %-11s %016llx\n", i, static_cast<unsigned long long>(chunk.offset),
               chunk.stored_size, chunk.raw_size, chunk.codec == Codec::kZstd ? "zstd" : "stored",
               chunk.filter == Filter::kBytePlanes ? "byte planes" : "none",
               static_cast<unsigned long long>(chunk.stored_checksum));
  }
  return text;
}

// Needs the weights: the workspace depends on how they are packed.
Result<dsopt_session_memory> PlanOf(const std::string& file, const EngineOptions& engine, uint32_t tokens) {
  ASSIGN_OR_RETURN(const RuntimePtr runtime, OpenRuntime(engine));
  ASSIGN_OR_RETURN(const ModelPtr model, OpenModel(runtime.get(), file, engine));
  return PlanSession(model.get(), engine, 1, tokens);
}

Json SessionJson(const dsopt_session_memory& m) {
  return {{"wanted_tokens", m.wanted_tokens},         {"tokens", m.tokens},
          {"wanted_cache_bytes", m.wanted_cache_bytes}, {"cache_bytes", m.cache_bytes},
          {"workspace_bytes", m.workspace_bytes},     {"host_bytes", m.host_bytes},
          {"device_free_bytes", m.device_free_bytes}, {"host_cache_bytes", m.host_cache_bytes},
          {"host_tokens", m.host_tokens}};
}

std::string SessionText(const dsopt_session_memory& m) {
  return Format("\nsession         %u tokens: %llu bytes of cache, %llu of workspace, %llu on the host\n"
                "                %u tokens fit the caps, %llu bytes of cache; the device has %llu bytes free\n"
                "                %u of them on the host, %llu bytes of cache\n",
                m.wanted_tokens, static_cast<unsigned long long>(m.wanted_cache_bytes),
                static_cast<unsigned long long>(m.workspace_bytes), static_cast<unsigned long long>(m.host_bytes),
                m.tokens, static_cast<unsigned long long>(m.cache_bytes),
                static_cast<unsigned long long>(m.device_free_bytes), m.host_tokens,
                static_cast<unsigned long long>(m.host_cache_bytes));
}

}  // namespace

int CmdInspect(const Arguments& arguments) {
  std::string file;
  bool json = false, tensors = false, chunks = false;
  uint32_t session_tokens = 0;
  EngineOptions engine;
  Options options("inspect", "FILE", "Shows what a .dsopt file contains.");
  options.Positional("FILE", &file, "model file");
  options.Flag("json", &json, "print one JSON object");
  options.Flag("tensors", &tensors, "also list the tensors");
  options.Flag("chunks", &chunks, "also list the chunks");
  options.Value("session", "N", &session_tokens, "load the weights and print what a session of N tokens takes");
  engine.Declare(&options);
  if (std::optional<int> code = options.Parse(arguments)) return *code;

  Result<std::unique_ptr<Source>> source = OpenFileSource(file, false);
  if (!source.ok()) return Fail("inspect", source.status());
  Result<ModelSpec> spec = ReadModelSpec(**source, DefaultAllocator());
  if (!spec.ok()) return Fail("inspect", spec.status());
  const Totals totals = Sum(*spec);
  std::optional<dsopt_session_memory> session;
  if (session_tokens != 0) {
    const Result<dsopt_session_memory> planned = PlanOf(file, engine, session_tokens);
    if (!planned.ok()) return Fail("inspect", planned.status());
    session = *planned;
  }
  if (json) {
    Json object = FileJson(*spec, totals);
    if (session.has_value()) object["session"] = SessionJson(*session);
    if (tensors) {
      for (const TensorSpec& tensor : spec->tensors)
        object["tensor_table"].push_back(TensorJson(*spec, tensor));
    }
    if (chunks) {
      for (const ChunkSpec& chunk : spec->chunks) object["chunk_table"].push_back(ChunkJson(chunk));
    }
    PrintJson(object);
    return kExitOk;
  }
  std::string text = FileText(*spec, totals);
  if (session.has_value()) text += SessionText(*session);
  if (tensors) text += TensorTable(*spec);
  if (chunks) text += ChunkTable(*spec);
  const Status printed = Print(Printable(std::move(text)));
  return printed.ok() ? kExitOk : Fail("inspect", printed);
}

}  // namespace dsopt::tools
