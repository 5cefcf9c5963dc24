// A driver (libcuda.so.1) that loads modules and runs nothing: what the real cuDNN needs to build plans without a GPU.
//
// cuDNN compiles its attention and norm kernels with NVRTC while it builds a plan, then asks the driver to load them.
// Loading succeeds here, with handles that mean nothing; whatever would touch a device says that this is a stub.
// Occupancy and registers are made up, so that workspace sizes and the choice between engines are indications only.
#include <stddef.h>
#include <stdlib.h>

typedef int Result;
enum { kSuccess = 0, kStubLibrary = 34, kNoDevice = 100 };
enum { kMaxThreadsPerBlock = 0, kNumRegisters = 4 };  // CUfunction_attribute

static char handle;  // what every module, kernel and context points to

Result cuInit(unsigned flags) {
  (void)flags;
  return kNoDevice;
}
Result cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
Result cuGetErrorString(Result code, const char** text) {
  (void)code;
  *text = "driver double";
  return kSuccess;
}
Result cuGetErrorName(Result code, const char** text) {
  return cuGetErrorString(code, text);
}

Result cuLibraryLoadData(void** library, const void* code, void* jit_options, void* jit_values, unsigned num_jit,
                         void* options, void* values, unsigned num_options) {
  (void)code, (void)jit_options, (void)jit_values, (void)num_jit;
  (void)options, (void)values, (void)num_options;
  *library = &handle;
  return kSuccess;
}
Result cuLibraryUnload(void* library) {
  (void)library;
  return kSuccess;
}
Result cuLibraryGetKernel(void** kernel, void* library, const char* name) {
  (void)library, (void)name;
  *kernel = &handle;
  return kSuccess;
}
Result cuKernelGetFunction(void** function, void* kernel) {
  *function = kernel;
  return kSuccess;
}
Result cuModuleLoadData(void** module, const void* code) {
  (void)code;
  *module = &handle;
  return kSuccess;
}
Result cuModuleLoadDataEx(void** module, const void* code, unsigned num_options, void* options, void* values) {
  (void)num_options, (void)options, (void)values;
  return cuModuleLoadData(module, code);
}
Result cuModuleUnload(void* module) {
  (void)module;
  return kSuccess;
}
Result cuModuleGetFunction(void** function, void* module, const char* name) {
  (void)name;
  *function = module;
  return kSuccess;
}

Result cuFuncGetAttribute(int* value, int attribute, void* function) {
  (void)function;
  *value = attribute == kMaxThreadsPerBlock ? 1024 : attribute == kNumRegisters ? 128 : 0;
  return kSuccess;
}
Result cuKernelGetAttribute(int* value, int attribute, void* kernel, int device) {
  (void)device;
  return cuFuncGetAttribute(value, attribute, kernel);
}
Result cuFuncSetAttribute(void* function, int attribute, int value) {
  (void)function, (void)attribute, (void)value;
  return kSuccess;
}
Result cuKernelSetAttribute(int attribute, int value, void* kernel, int device) {
  (void)attribute, (void)value, (void)kernel, (void)device;
  return kSuccess;
}
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* num_blocks, void* function, int block_size,
                                                   size_t dynamic_bytes) {
  (void)function, (void)block_size, (void)dynamic_bytes;
  *num_blocks = 1;
  return kSuccess;
}
Result cuOccupancyMaxPotentialClusterSize(int* size, void* function, const void* config) {
  (void)function, (void)config;
  *size = 1;
  return kSuccess;
}
Result cuCtxGetDevice(int* device) {
  *device = 0;
  return kSuccess;
}
Result cuCtxGetCurrent(void** context) {
  *context = &handle;
  return kSuccess;
}

// Looked up when the library is loaded; building a plan calls none of them.
#define STUB(name) \
  Result name(void) { return kStubLibrary; }
STUB(cuCtxGetLimit)
STUB(cuCtxPopCurrent)
STUB(cuCtxPushCurrent)
STUB(cuDeviceGet)
STUB(cuDeviceGetAttribute)
STUB(cuDeviceGetCount)
STUB(cuDevicePrimaryCtxRelease)
STUB(cuDevicePrimaryCtxReset)
STUB(cuDevicePrimaryCtxRetain)
STUB(cuLaunchCooperativeKernel)
STUB(cuLaunchKernel)
STUB(cuLaunchKernelEx)
STUB(cuLibraryLoadFromFile)
STUB(cuLinkAddData)
STUB(cuLinkAddData_v2)
STUB(cuLinkAddFile_v2)
STUB(cuLinkComplete)
STUB(cuLinkCreate)
STUB(cuLinkCreate_v2)
STUB(cuLinkDestroy)
STUB(cuMemcpyDtoH_v2)
STUB(cuModuleGetGlobal_v2)
STUB(cuModuleLoadFatBinary)
STUB(cuStreamGetCtx)
STUB(cuStreamSynchronize)
STUB(cuTensorMapEncodeTiled)
