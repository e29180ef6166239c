# Tests and measurements of the CUDA plugin. They load it as the core does; without a GPU the test is skipped.
dsopt_test(dsopt_cuda_kernel_test SOURCES cuda_test.cc LIBS dsopt_kernel_bodies ${CMAKE_DL_LIBS} LABELS kernels cuda)
target_compile_definitions(dsopt_cuda_kernel_test PRIVATE DSOPT_CUDA_PLUGIN="$<TARGET_FILE:dsopt_cuda>")
add_dependencies(dsopt_cuda_kernel_test dsopt_cuda)

add_executable(bench_cuda_blocks EXCLUDE_FROM_ALL cuda_bench.cc)
target_include_directories(bench_cuda_blocks PRIVATE ${CMAKE_SOURCE_DIR}/include)
target_compile_definitions(bench_cuda_blocks PRIVATE DSOPT_CUDA_PLUGIN="$<TARGET_FILE:dsopt_cuda>")
target_link_libraries(bench_cuda_blocks PRIVATE ${CMAKE_DL_LIBS})
target_link_options(bench_cuda_blocks PRIVATE -static-libstdc++ -static-libgcc)
dsopt_compile_options(bench_cuda_blocks)
add_dependencies(bench_cuda_blocks dsopt_cuda)
