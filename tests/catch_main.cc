// Runs a Catch2 test program. Exit code 0 or 1; 77 (skipped) is returned by programs that need a device or
// data that is absent, never by a number of failures.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

int main(int argc, char** argv) { return Catch::Session().run(argc, argv) == 0 ? 0 : 1; }
