// cmd_convert.cc - dsopt convert: a Hugging Face folder or a GGUF file becomes a .dsopt file.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "import/convert.h"
#include "tools/calibrate.h"
#include "tools/client.h"
#include "tools/commands.h"
#include "tools/compensated.h"
#include "tools/interrupt.h"
#include "tools/options.h"
#include "tools/output.h"
#include "tools/perplexity.h"

namespace dsopt::tools {
namespace {

constexpr uint64_t kProgressNs = 100'000'000;
constexpr int kBarCells = 30;

// One line on stderr, redrawn at most ten times a second.
class ProgressBar {
 public:
  explicit ProgressBar(bool shown) : shown_(shown), start_ns_(NowNs()) {}
  ~ProgressBar() { Clear(); }
  void Draw(uint64_t done_bytes, uint64_t total_bytes) {
    const uint64_t now = NowNs();
    if (!shown_ || total_bytes == 0 || now < next_ns_) return;
    next_ns_ = now + kProgressNs;
    const double share = static_cast<double>(done_bytes) / static_cast<double>(total_bytes);
    const double seconds = static_cast<double>(now - start_ns_) * 1e-9;
    std::string bar(kBarCells, '.');
    for (int i = 0; i < static_cast<int>(share * kBarCells); ++i) bar[static_cast<size_t>(i)] = '#';
    std::fprintf(stderr, "\r[%s] %3.0f%%  %s of %s  %.0f MB/s ", bar.c_str(), share * 100,
                 HumanBytes(done_bytes).c_str(), HumanBytes(total_bytes).c_str(),
                 seconds > 0 ? static_cast<double>(done_bytes) * 1e-6 / seconds : 0.0);
    drawn_ = true;
  }
  void Clear() {
    if (drawn_) std::fputs("\r\033[K", stderr);
    drawn_ = false;
  }

 private:
  const bool shown_;
  const uint64_t start_ns_;
  uint64_t next_ns_ = 0;
  bool drawn_ = false;
};

struct Request {
  std::string input, output, compression = "zstd", dtype = "keep", weights = "keep", license, calibrate,
                             rounding;
  uint32_t level = 1, group = 0, windows = 0;
  bool offsets = false;
  bool json = false, quiet = false;
};

dsopt_dtype TypeOf(const std::string& word) {
  return word == "bf16"  ? DSOPT_BF16
         : word == "f16" ? DSOPT_F16
         : word == "f32" ? DSOPT_F32
                         : DSOPT_DTYPE_DEFAULT;
}

WeightsRequest WeightsOf(const Request& request) {
  return {EncodingOf(request.weights).value_or(DSOPT_ENCODING_PLAIN), request.group, request.offsets};
}

// What became of which type: worth telling where the checkpoint is quantised or types differ.
std::string FormTable(const std::vector<FormSummary>& forms) {
  size_t from = std::string("stored as").size(), to = std::string("becomes").size();
  for (const FormSummary& form : forms) {
    from = std::max(from, form.from.size());
    to = std::max(to, form.to.size());
  }
  const int from_width = static_cast<int>(from), to_width = static_cast<int>(to);
  std::string text =
      Format("  %-*s  %-*s  tensors  parameters\n", from_width, "stored as", to_width, "becomes");
  for (const FormSummary& form : forms) {
    text +=
        Format("  %-*s  %-*s  %7llu  %10llu\n", from_width, form.from.c_str(), to_width, form.to.c_str(),
               static_cast<unsigned long long>(form.tensors), static_cast<unsigned long long>(form.parameters));
  }
  return text;
}

// What each kind of tensor got, and what that saves.
std::string PolicyTable(const std::vector<PolicyRow>& rows) {
  double from = 0, to = 0;
  std::string text =
      Format("  %-38s  %-22s  tensors  parameters       from         to     saved\n", "tensors", "become");
  for (const PolicyRow& row : rows) {
    text +=
        Format("  %-38s  %-22s  %7llu  %10llu  %9s  %9s  %9s\n", KindName(row.kind), row.to.c_str(),
               static_cast<unsigned long long>(row.tensors), static_cast<unsigned long long>(row.parameters),
               HumanBytes(static_cast<uint64_t>(row.from_bytes)).c_str(),
               HumanBytes(static_cast<uint64_t>(row.to_bytes)).c_str(),
               HumanBytes(static_cast<uint64_t>(std::max(row.from_bytes - row.to_bytes, 0.0))).c_str());
    from += row.from_bytes;
    to += row.to_bytes;
  }
  text += Format("  in memory %s instead of %s: %.1f%% saved\n", HumanBytes(static_cast<uint64_t>(to)).c_str(),
                 HumanBytes(static_cast<uint64_t>(from)).c_str(), from > 0 ? 100.0 * (1.0 - to / from) : 0.0);
  return text;
}

Status Report(const Request& request, const ConvertSummary& summary, const CompensatedReport& rounded,
              double seconds) {
  if (request.json) {
    Json object;
    object["output"] = request.output;
    object["architecture"] = summary.architecture;
    object["parameters"] = summary.parameters;
    object["tensors"] = summary.tensors;
    object["tokenizer"] = summary.has_tokenizer;
    object["raw_bytes"] = summary.raw_bytes;
    object["file_bytes"] = summary.file_bytes;
    object["seconds"] = seconds;
    for (const FormSummary& form : summary.forms) {
      object["forms"].push_back(
          {{"from", form.from}, {"to", form.to}, {"tensors", form.tensors}, {"parameters", form.parameters}});
    }
    for (const PolicyRow& row : summary.policy) {
      object["policy"].push_back({{"kind", KindName(row.kind)},
                                  {"to", row.to},
                                  {"tensors", row.tensors},
                                  {"parameters", row.parameters},
                                  {"from_bytes", std::llround(row.from_bytes)},
                                  {"to_bytes", std::llround(row.to_bytes)}});
    }
    if (rounded.rows != 0) {
      object["compensated"] = {{"rows", rounded.rows},
                               {"rows_compensated", rounded.rows_compensated},
                               {"error_of_nearest", rounded.error / static_cast<double>(rounded.rows)},
                               {"seconds", rounded.seconds}};
    }
    object["ignored_tensors"] = summary.ignored;
    PrintJson(object);
    return {};
  }
  if (request.quiet) return {};
  std::string text =
      Format("%s: %s, %llu parameters in %llu tensors, %s (%.1f%% of %s) in %.1f s\n", request.output.c_str(),
             summary.architecture.c_str(), static_cast<unsigned long long>(summary.parameters),
             static_cast<unsigned long long>(summary.tensors), HumanBytes(summary.file_bytes).c_str(),
             100.0 * static_cast<double>(summary.file_bytes) / static_cast<double>(summary.raw_bytes),
             HumanBytes(summary.raw_bytes).c_str(), seconds);
  if (!summary.policy.empty()) {
    text += PolicyTable(summary.policy);
  } else if (summary.forms.size() > 1) {
    text += FormTable(summary.forms);
  }
  if (rounded.rows != 0) {
    text += Format(
        "  compensated: %llu of %llu rows; products of held-out text have %.3f of the squared error of\n"
        "  rounding to nearest; %.1f s\n",
        static_cast<unsigned long long>(rounded.rows_compensated),
        static_cast<unsigned long long>(rounded.rows), rounded.error / static_cast<double>(rounded.rows),
        rounded.seconds);
  }
  if (!summary.has_tokenizer) text += "no tokenizer was found: the model works on token ids only\n";
  for (const std::string& name : summary.ignored) text += "ignored tensor: " + name + "\n";
  return Print(text);
}

}  // namespace

int CmdConvert(const Arguments& arguments) {
  Request request;
  Options options(
      "convert", "INPUT OUT.dsopt",
      "Converts a Hugging Face folder (config.json, safetensors, tokenizer; also GPTQ, AWQ, fp8), a GGUF file\n"
      "or a .dsopt file into one .dsopt file. What is quantised stays so, without loss where an encoding\n"
      "allows; --weights encodes it anew.");
  options.Positional("INPUT", &request.input,
                     "folder of the checkpoint, GGUF file (of several, the first) or .dsopt");
  options.Positional("OUT.dsopt", &request.output, "file to write; replaced only when complete");
  options.Choice("compression", {"zstd", "none"}, &request.compression,
                 "zstd: smaller and lossless; none: can be mapped, loads fastest (default zstd)");
  options.Value("level", "N", &request.level, "zstd level, 1 to 19 (default 1)");
  options.Choice("dtype", {"keep", "bf16", "f16", "f32"}, &request.dtype,
                 "type of the matrices; keep: as they are, quantised ones encoded (default keep)");
  options.Choice(
      "weights", {"keep", "bf16", "lossless12", "int8", "fp8", "int4"}, &request.weights,
      "encoding of the matrices; int4 and fp8 keep embedding and head at 8 bits; routers, norms and biases "
      "stay (default keep)");
  options.Value("group", "N", &request.group,
                "columns per scale: int4 32, 64 or 128 (default 64), int8 a multiple of 16");
  options.Flag("offsets", &request.offsets, "int4, int8: also an offset per group");
  options.Value("calibrate", "TEXT", &request.calibrate,
                "with --weights: a text file like what the model will read; weights are rounded so that "
                "the products with its inputs are least off");
  options.Choice("rounding", {"compensated", "nearest"}, &request.rounding,
                 "with --calibrate; compensated: weights make up for each other's rounding, where an eighth of "
                 "the text that is held out shows less error; nearest: only int8 and int4 take account of the "
                 "text, in seconds (default compensated)");
  options.Value("calibrate-windows", "N", &request.windows,
                "windows of 512 tokens that compensated rounding reads (default 64); its time and memory grow "
                "with them");
  options.Value("license", "TEXT", &request.license, "licence to record (default: what the checkpoint says)");
  options.Flag("json", &request.json, "print the summary as one JSON object");
  options.Flag("quiet,q", &request.quiet, "no progress and no summary");
  options.Check([&request] {
    if (request.weights == "keep" && (request.group != 0 || request.offsets || !request.calibrate.empty())) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "--group, --offsets and --calibrate need --weights");
    }
    if (request.calibrate.empty() && (request.windows != 0 || !request.rounding.empty())) {
      return Error(DSOPT_E_INVALID_ARGUMENT, "--rounding and --calibrate-windows need --calibrate");
    }
    if (request.weights != "keep") RETURN_IF_ERROR(CheckRequest(WeightsOf(request)));
    return request.level >= 1 && request.level <= 19
               ? Status()
               : Error(DSOPT_E_INVALID_ARGUMENT, "--level is %u, expected 1 to 19", request.level);
  });
  if (std::optional<int> code = options.Parse(arguments)) return *code;

  InterruptGuard signals;
  ProgressBar bar(ShowProgress() && !request.quiet && !request.json);
  ConvertOptions convert;
  convert.writer.compress = request.compression == "zstd";
  convert.writer.zstd_level = static_cast<int>(request.level);
  convert.dtype = TypeOf(request.dtype);
  if (request.weights != "keep") convert.weights = WeightsOf(request);
  if (request.weights == "bf16") convert.dtype = DSOPT_BF16;
  convert.threads = std::max(1u, std::thread::hardware_concurrency());
  convert.license = request.license;
  convert.cancel = &InterruptGuard::flag();
  convert.progress = [&bar](uint64_t done, uint64_t total) { bar.Draw(done, total); };
  CalibrateOptions calibrate;
  CompensatedOptions compensated;
  CompensatedReport rounded;
  if (!request.calibrate.empty()) {
    Result<std::string> text = ReadText(request.calibrate);
    if (!text.ok()) return Fail("convert", text.status());
    calibrate.text = UnixNewlines(*text);
    compensated.text = calibrate.text;
    if (request.windows != 0) compensated.windows.windows = request.windows;
    compensated.threads = convert.threads;
    compensated.cancel = convert.cancel;
    if (request.rounding != "nearest" && HasScales(convert.weights->encoding)) {
      convert.coder = [&](const ModelSpec& spec, std::vector<TensorSource>* tensors) {
        return CompensatedCoder(compensated, spec, tensors, &rounded);
      };
    }
    convert.calibrate = [&calibrate](const ModelSpec& spec, std::vector<TensorSource>* tensors) {
      return Calibrate(calibrate, spec, tensors);
    };
  }
  const uint64_t start_ns = NowNs();
  Result<ConvertSummary> summary = Convert(request.input, request.output, convert);
  bar.Clear();
  if (!summary.ok()) {
    const int code = Fail("convert", summary.status());
    return summary.status().code() == DSOPT_E_CANCELLED ? kExitInterrupted : code;
  }
  const Status printed = Report(request, *summary, rounded, static_cast<double>(NowNs() - start_ns) * 1e-9);
  return printed.ok() ? kExitOk : Fail("convert", printed);
}

}  // namespace dsopt::tools
