// What libnccl's symbols (nccl_api.cpp) are made of.
#pragma once

#include <nccl.h>

#include <memory>
#include <string>

#include "tests/emulated/nccl_group.h"

struct ncclComm {
  std::shared_ptr<takt::emulated::Comm> comm;
};

namespace takt::emulated {

// Diagnoses `message`, keeps it for ncclGetLastError, and returns `code`.
ncclResult_t refuse(ncclResult_t code, const std::string& message);
const char* last_refusal();  // of the calling thread

// Handles are checked at every use: one that was destroyed ends the process.
ncclComm_t handle_of(std::shared_ptr<Comm> comm);
Comm& live(ncclComm_t handle);
std::shared_ptr<Comm> release(ncclComm_t handle);

// What every call with a communicator begins with: success, or what it must return.
ncclResult_t begin(Comm& comm, const char* call);

// config may be null. `call` is the symbol's name, for faults and diagnoses.
ncclResult_t make(ncclComm_t* out, int num_ranks, int rank, const ncclUniqueId* ids, int num_ids,
                  const ncclConfig_t* config, const char* call);
ncclResult_t split(Comm& parent, int color, int key, ncclComm_t* out, const ncclConfig_t* config);

struct Collective {
  Kind kind;
  const void* send;
  void* receive;
  std::size_t count;
  ncclDataType_t type;
  int op = 0, root = 0;
};
ncclResult_t add_collective(const Collective& of, ncclComm_t handle, cudaStream_t stream);
ncclResult_t add_message(const Message& message, const char* call, ncclComm_t handle, cudaStream_t stream);

}  // namespace takt::emulated
