# Tests and measurements of the CUDA plugin. They load it as the core does; without a GPU the test is skipped.
dsopt_test(dsopt_cuda_kernel_test SOURCES cuda_test.cc LIBS dsopt_kernel_bodies ${CMAKE_DL_LIBS} LABELS kernels cuda)
target_compile_definitions(dsopt_cuda_kernel_test PRIVATE DSOPT_CUDA_PLUGIN="$<TARGET_FILE:dsopt_cuda>")
add_dependencies(dsopt_cuda_kernel_test dsopt_cuda)

# The plugin's objects over a driver that fails, fake or real: see fault/driver.h.
find_package(CUDAToolkit REQUIRED)
dsopt_test(dsopt_cuda_fault_test SOURCES fault/fault_test.cc fault/life.cc fault/driver.cc fault/wraps.cc
           $<TARGET_OBJECTS:dsopt_cuda_objects> LIBS dsopt_kernel_bodies CUDA::cudart_static ${CMAKE_DL_LIBS}
           LABELS kernels cuda)
target_include_directories(dsopt_cuda_fault_test SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
set_target_properties(dsopt_cuda_fault_test PROPERTIES LINKER_LANGUAGE CXX)
foreach(call
    cudaGetDeviceCount cudaGetDevice cudaSetDevice cudaDeviceGetAttribute cudaGetDeviceProperties
    cudaFuncGetAttributes cudaFuncSetAttribute cudaGetLastError cudaMemGetInfo cudaMalloc cudaFree cudaHostRegister
    cudaHostUnregister cudaHostGetDevicePointer cudaMemcpyAsync cudaMemcpy2DAsync cudaMemsetAsync cudaEventCreate
    cudaEventCreateWithFlags cudaEventDestroy cudaEventRecord cudaEventQuery cudaEventSynchronize cudaEventElapsedTime
    cudaStreamCreateWithFlags cudaStreamDestroy cudaStreamSynchronize cudaStreamBeginCapture cudaStreamEndCapture
    cudaGraphInstantiate cudaGraphUpload cudaGraphLaunch cudaGraphDestroy cudaGraphExecDestroy cudaLaunchKernelExC __cudaGetKernel
    __cudaLaunchKernel dlopen)
  target_link_options(dsopt_cuda_fault_test PRIVATE -Wl,--wrap=${call})
endforeach()
add_test(NAME dsopt_cuda_fault_gpu_test COMMAND dsopt_cuda_fault_test)
set_tests_properties(dsopt_cuda_fault_gpu_test PROPERTIES LABELS "kernels;cuda" SKIP_RETURN_CODE 77
                     ENVIRONMENT DSOPT_FAULT_GPU=1)

file(GLOB bench_sources CONFIGURE_DEPENDS bench_cuda/*.cc)
add_executable(bench_cuda_blocks EXCLUDE_FROM_ALL ${bench_sources})
target_include_directories(bench_cuda_blocks PRIVATE ${CMAKE_SOURCE_DIR}/include)
target_compile_definitions(bench_cuda_blocks PRIVATE DSOPT_CUDA_PLUGIN="$<TARGET_FILE:dsopt_cuda>")
target_link_libraries(bench_cuda_blocks PRIVATE ${CMAKE_DL_LIBS})
target_link_options(bench_cuda_blocks PRIVATE -static-libstdc++ -static-libgcc)
dsopt_compile_options(bench_cuda_blocks)
add_dependencies(bench_cuda_blocks dsopt_cuda)
# The persistent step is for shapes of whole models only: two layers of one, every kind of cache and prompts of any size.
add_test(NAME dsopt_cuda_model_check
         COMMAND bench_cuda_blocks encodings check=llama-3.2-1b check=llama-3.2-1b@int4 check=llama-3.2-1b:cache=bf16
                 check=llama-3.2-1b:cache=fp8 check=llama-3.2-1b:cache=int8)
set_tests_properties(dsopt_cuda_model_check PROPERTIES LABELS "kernels;cuda" SKIP_RETURN_CODE 77)
