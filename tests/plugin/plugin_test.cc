// Which plugin files the library loads, from where, and what it says of those that it cannot use. The test's
// own LD_LIBRARY_PATH holds a plugin that would work.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/capi/capi_harness.h"

namespace dsopt::testing {
namespace {

const std::filesystem::path kFakes = DSOPT_FAKE_PLUGINS;
constexpr char kFile[] = "libdsopt_cuda.so";

// NULL: the folder of libdsopt.so.
RuntimePtr RuntimeWithPlugins(const char* folder) {
  auto options = Sized<dsopt_runtime_options>();
  options.cpu_threads = 1;
  options.backend_path = folder;
  dsopt_runtime* runtime = nullptr;
  REQUIRE_OK(dsopt_runtime_create(&options, &runtime));
  return RuntimePtr(runtime);
}

std::string Report(const dsopt_runtime* runtime) {
  std::string text(65536, '\0');
  size_t length = 0;
  REQUIRE_OK(dsopt_runtime_report(runtime, text.data(), text.size(), &length));
  text.resize(length);
  return text;
}

// An empty folder, removed at the end.
struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "dsopt_pluginXXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

struct CurrentDirectory {
  std::filesystem::path before = std::filesystem::current_path();
  explicit CurrentDirectory(const std::filesystem::path& path) { std::filesystem::current_path(path); }
  ~CurrentDirectory() { std::filesystem::current_path(before); }
};

TEST_CASE("a plugin in the current directory or in LD_LIBRARY_PATH is not loaded", "[plugin]") {
  const char* search = std::getenv("LD_LIBRARY_PATH");
  REQUIRE(search != nullptr);
  REQUIRE(std::filesystem::exists(std::filesystem::path(search) / kFile));
  const CurrentDirectory moved(kFakes / "good");
  const RuntimePtr runtime = RuntimeWithPlugins(nullptr);
  CHECK(Report(runtime.get()).find("fake plugin") == std::string::npos);
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_runtime_load_backend(runtime.get(), kFile));
  CHECK_FAILS(DSOPT_E_INVALID_ARGUMENT, dsopt_runtime_load_backend(runtime.get(), ""));
  CHECK(Report(runtime.get()).find("fake plugin") == std::string::npos);
}

TEST_CASE("the plugin of the configured directory is loaded and its device listed", "[plugin]") {
  const RuntimePtr runtime = RuntimeWithPlugins((kFakes / "good").c_str());
  REQUIRE(dsopt_device_count(runtime.get()) == 2);
  auto info = Sized<dsopt_device_info>();
  REQUIRE_OK(dsopt_device_get_info(runtime.get(), 1, &info));
  CHECK(std::string(info.id) == "cuda:0");
  double rate = 0;
  REQUIRE_OK(dsopt_device_measure_read(runtime.get(), "cuda:0", 4096, &rate));
  CHECK(rate == 4096);
  CHECK(Report(runtime.get()).find("fake plugin") != std::string::npos);
  REQUIRE_OK(dsopt_runtime_load_backend(runtime.get(), (kFakes / "good" / kFile).c_str()));
  CHECK(dsopt_device_count(runtime.get()) == 2);
}

struct BadPlugin {
  const char* kind;
  dsopt_code code;
  const char* says;
};

TEST_CASE("a plugin that cannot be used leaves the CPU and the reason", "[plugin]") {
  const BadPlugin bad = GENERATE(values<BadPlugin>({
      {"no_driver", DSOPT_E_NOT_FOUND, "no usable driver"},
      {"other_abi", DSOPT_E_VERSION, "backend interface"},
      {"hole", DSOPT_E_VERSION, "empty slots"},
      {"no_entry", DSOPT_E_UNSUPPORTED, "dsopt_backend_entry"},
      {"undefined", DSOPT_E_UNSUPPORTED, "dsopt_test_nobody_has_this"},
      {"needs_library", DSOPT_E_UNSUPPORTED, "libdsopt_test_absent.so"},
  }));
  CAPTURE(bad.kind);
  const std::filesystem::path folder = kFakes / bad.kind;
  const RuntimePtr runtime = RuntimeWithPlugins(folder.c_str());
  CHECK(dsopt_device_count(runtime.get()) == 1);
  const std::string report = Report(runtime.get());
  CAPTURE(report);
  CHECK(report.find((folder / kFile).string()) != std::string::npos);
  CHECK(report.find(bad.says) != std::string::npos);
  CHECK_FAILS(bad.code, dsopt_runtime_load_backend(runtime.get(), (folder / kFile).c_str()));
  CHECK(std::string(dsopt_last_error()).find(bad.says) != std::string::npos);
  CHECK(dsopt_device_count(runtime.get()) == 1);
}

TEST_CASE("a device that refuses to open says why, and the CPU is there", "[plugin]") {
  const RuntimePtr runtime = RuntimeWithPlugins((kFakes / "old_gpu").c_str());
  REQUIRE(dsopt_device_count(runtime.get()) == 2);
  CHECK(Report(runtime.get()).find("compute capability 7.5") != std::string::npos);
  double rate = 0;
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_device_measure_read(runtime.get(), "cuda:0", 4096, &rate));
  dsopt_model* model = nullptr;
  REQUIRE_OK(dsopt_model_open_memory(runtime.get(), ModelBytes().data(), ModelBytes().size(), nullptr, &model));
  dsopt_model_release(model);
}

TEST_CASE("plugin files that are absent, damaged or no files are told apart", "[plugin]") {
  const Folder folder;
  const std::filesystem::path file = folder.path / kFile;
  const RuntimePtr runtime = RuntimeWithPlugins(folder.path.c_str());
  CHECK(Report(runtime.get()).find("is absent") != std::string::npos);
  CHECK_FAILS(DSOPT_E_NOT_FOUND, dsopt_runtime_load_backend(runtime.get(), file.c_str()));

  std::filesystem::create_symlink(file, file);  // cannot be opened, by root neither
  CHECK_FAILS(DSOPT_E_IO, dsopt_runtime_load_backend(runtime.get(), file.c_str()));
  CHECK(Report(RuntimeWithPlugins(folder.path.c_str()).get()).find("cannot be read") != std::string::npos);
  std::filesystem::remove(file);

  std::filesystem::create_directory(file);
  CHECK_FAILS(DSOPT_E_IO, dsopt_runtime_load_backend(runtime.get(), file.c_str()));
  std::filesystem::remove(file);

  REQUIRE(mkfifo(file.c_str(), 0600) == 0);  // opening it must not wait for a writer
  CHECK_FAILS(DSOPT_E_IO, dsopt_runtime_load_backend(runtime.get(), file.c_str()));
  std::filesystem::remove(file);

  std::ofstream(file) << "no library at all";
  CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_runtime_load_backend(runtime.get(), file.c_str()));
  CHECK(dsopt_device_count(runtime.get()) == 1);
}

// Mapping a file that lacks its end would end the process.
TEST_CASE("a plugin file cut anywhere inside what is mapped is refused", "[plugin]") {
  const Folder folder;
  const std::filesystem::path file = folder.path / kFile;
  const RuntimePtr runtime = NewRuntime();
  std::filesystem::copy_file(kFakes / "hole" / kFile, file);
  CHECK_FAILS(DSOPT_E_VERSION, dsopt_runtime_load_backend(runtime.get(), file.c_str()));  // whole: it is loaded
  for (const uintmax_t size : {0, 1, 4, 63, 64, 200, 1000, 2000, 4096, 8192}) {
    CAPTURE(size);
    std::filesystem::remove(file);
    std::filesystem::copy_file(kFakes / "good" / kFile, file);
    REQUIRE(std::filesystem::file_size(file) > size);
    std::filesystem::resize_file(file, size);
    CHECK_FAILS(DSOPT_E_UNSUPPORTED, dsopt_runtime_load_backend(runtime.get(), file.c_str()));
  }
  CHECK(dsopt_device_count(runtime.get()) == 1);
}

}  // namespace
}  // namespace dsopt::testing
