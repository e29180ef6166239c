// cmd_validate.cc - dsopt validate: how far a model is from a reference, on texts.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "import/convert.h"
#include "tools/interrupt.h"
#include "tools/validate.h"
#include "tools/validate_report.h"

namespace dsopt::tools {
namespace {

struct Request {
  std::string reference, html, temporary;
  std::optional<std::string> reference_device, reference_precision;
  ValidateOptions validate;
  bool json = false;
};

// A new folder, removed with what is in it.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> Create(const std::string& parent) {
    std::error_code error;
    std::filesystem::path base = parent;
    if (parent.empty()) base = std::filesystem::temp_directory_path(error);
    if (error) return Error(DSOPT_E_IO, "folder of temporary files: %s", error.message().c_str());
    std::string path = (base / "dsopt-validate-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) return Error(DSOPT_E_IO, "%s: %s", path.c_str(), std::strerror(errno));
    TemporaryFolder folder;
    folder.path_ = std::move(path);
    return folder;
  }
  TemporaryFolder(TemporaryFolder&& other) noexcept { path_.swap(other.path_); }
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  TemporaryFolder() = default;
  std::string path_;
};

void ShowWindow(const std::string& text, uint32_t window, uint32_t windows) {
  std::fprintf(stderr, "\r%s: window %u of %u%s", text.c_str(), window, windows,
               window == windows ? "\r\033[K" : "");
}

Status WriteText(const std::string& path, const std::string& text) {
  FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return Error(DSOPT_E_IO, "%s: %s", path.c_str(), std::strerror(errno));
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int error = errno;
  if (std::fclose(file) == 0 && written) return {};
  return Error(DSOPT_E_IO, "%s: %s", path.c_str(), std::strerror(written ? errno : error));
}

// A folder or a GGUF file is converted first; *temporary holds the file as long as it is needed.
Status PrepareReference(Request* request, std::optional<TemporaryFolder>* temporary) {
  ValidateOptions& validate = request->validate;
  validate.reference = request->reference;
  if (!std::filesystem::is_directory(request->reference) && !request->reference.ends_with(".gguf")) return {};
  ASSIGN_OR_RETURN(TemporaryFolder folder, TemporaryFolder::Create(request->temporary));
  temporary->emplace(std::move(folder));
  validate.reference = (*temporary)->path() + "/reference.dsopt";
  ConvertOptions convert;
  convert.writer.compress = false;  // read once, soon
  convert.cancel = validate.cancel;
  return Convert(request->reference, validate.reference, convert).status();
}

Status Run(Request request) {
  request.validate.cancel = &InterruptGuard::flag();
  if (ShowProgress()) request.validate.progress = ShowWindow;
  EngineOptions& engine = request.validate.reference_engine;
  engine = request.validate.engine;
  if (request.reference_device) engine.device = *request.reference_device;
  if (request.reference_precision) engine.precision = *request.reference_precision;
  std::optional<TemporaryFolder> temporary;
  RETURN_IF_ERROR(PrepareReference(&request, &temporary));
  ASSIGN_OR_RETURN(Comparison comparison, Validate(request.validate));
  comparison.reference.file = request.reference;
  const uint32_t window = request.validate.windows.window;
  if (!request.html.empty()) RETURN_IF_ERROR(WriteText(request.html, ComparisonHtml(comparison, window)));
  if (!request.json) return Print(ComparisonTable(comparison));
  PrintJson(ComparisonJson(comparison, window));
  return {};
}

void Declare(Request* request, std::string* reference_precision, Options* options) {
  ValidateOptions* validate = &request->validate;
  options->Positional("A.dsopt", &validate->model, "the model to judge");
  options->Value(
      "against", "B", &request->reference,
      "the reference: a .dsopt file, or a Hugging Face folder or GGUF file (converted to a temporary file)");
  options->List("text", "FILE", &validate->texts, "a text; may be given several times");
  options->Value("window", "N", &validate->windows.window, "tokens of a window (default 512)");
  options->Value("windows", "N", &validate->windows.windows, "at most so many of a text; 0: all (default 64)");
  options->Value("max-chars", "N", &validate->max_chars, "characters of a text; 0: all (default 400000)");
  options->Value("html", "OUT", &request->html, "also write a page with plots");
  options->Value("dump", "FOLDER", &validate->dump, "also write tokens and all logits, for other programs");
  options->Value("temp-dir", "DIR", &request->temporary, "where a converted reference lies meanwhile");
  options->Value("reference-device", "ID", &request->reference_device, "device of B (default: as --device)");
  options->Choice("reference-precision", {"fast", "reference"}, reference_precision,
                  "arithmetic of B (default: as --precision)");
  validate->engine.Declare(options);
  options->Flag("json", &request->json, "print one JSON object");
  options->Check([request, reference_precision]() {
    if (request->reference.empty()) return Error(DSOPT_E_INVALID_ARGUMENT, "--against is needed");
    if (request->validate.texts.empty()) return Error(DSOPT_E_INVALID_ARGUMENT, "--text is needed");
    if (!reference_precision->empty()) request->reference_precision = *reference_precision;
    return Status();
  });
}

}  // namespace

int CmdValidate(const Arguments& arguments) {
  Request request;
  std::string reference_precision;
  Options options(
      "validate", "A.dsopt --against B --text FILE [options]",
      "Compares the logits of A with those of B at every token of the texts, in windows as of perplexity:\n"
      "perplexity of both, mean and worst KL divergence (of A from B, in nats), how often both hold the same\n"
      "token most probable, the share of B's five most probable among A's, and the largest logit error.");
  Declare(&request, &reference_precision, &options);
  if (std::optional<int> code = options.Parse(arguments)) return *code;
  InterruptGuard signals;
  const Status status = Run(std::move(request));
  if (status.ok()) return kExitOk;
  const int code = Fail("validate", status);
  return status.code() == DSOPT_E_CANCELLED ? kExitInterrupted : code;
}

}  // namespace dsopt::tools
