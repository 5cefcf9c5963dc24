// One line a kind of device. What is compiled in is known here and nowhere else.
#include "core/exec/make_executor.h"

#include "core/base/error.h"
#include "core/exec/cpu_executor.h"
#include "core/exec/mesh_groups.h"

#ifdef TAKT_HAVE_CUDA
#include "core/exec/cuda_executor.h"
#endif

namespace takt {
namespace {

std::unique_ptr<Executor> make_cpu(const StepPlan& plan, Communicator& world,
                                   const ExecutorOptions& options) {
  return std::make_unique<CpuExecutor>(plan, world.rank(), MeshGroups(plan, world), options.time_ops);
}

std::unique_ptr<Executor> make_cuda([[maybe_unused]] const StepPlan& plan,
                                    [[maybe_unused]] Communicator& world,
                                    [[maybe_unused]] const ExecutorOptions& options) {
#ifdef TAKT_HAVE_CUDA
  return std::make_unique<CudaExecutor>(plan, world,
                                        CudaExecutorOptions{.gpu = options.gpu,
                                                            .matmul_choices = options.matmul_choices,
                                                            .nccl = options.nccl,
                                                            .time_ops = options.time_ops,
                                                            .calls = options.calls});
#else
  fail(Fault::kConfig, "this build runs no plan on GPUs\n  configure with -DTAKT_CUDA=ON and build again");
#endif
}

}  // namespace

std::unique_ptr<Executor> make_executor(const StepPlan& plan, Communicator& world,
                                        const ExecutorOptions& options) {
  return plan.device.kind == DeviceKind::kCuda ? make_cuda(plan, world, options)
                                               : make_cpu(plan, world, options);
}

}  // namespace takt
