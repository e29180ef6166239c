#!/bin/sh
# Installs what building and testing dsopt needs on Debian 12, from Debian's packages only.
set -eu
if [ "$(id -u)" -ne 0 ]; then exec sudo sh "$0"; fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
  build-essential cmake ninja-build pkg-config python3 file \
  libflatbuffers-dev flatbuffers-compiler libzstd-dev libxxhash-dev libutf8proc-dev \
  libabsl-dev nlohmann-json3-dev catch2 \
  zlib1g-dev libsdl2-dev valgrind \
  swig python3-dev python3-venv python3-numpy \
  mono-mcs mono-runtime libmono-system-core4.0-cil \
  default-jdk-headless \
  clang libclang-rt-14-dev abigail-tools ccache
