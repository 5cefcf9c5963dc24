// The entry points of cuDNN's backend API but for the execution.
//
// The heuristic offers two configurations that give the same bits: engine 1 wants workspace, engine 0 none.
#include "tests/emulated/cudnn_descriptor.h"

#include <algorithm>
#include <cstdio>

#include "tests/emulated/cudnn_support.h"
#include "tests/emulated/diagnosis.h"
#include "tests/emulated/fault_injection.h"

namespace takt::emulated {
namespace {

constexpr uint64_t kMark = 0x6364444e4e646f75;
constexpr int64_t kEngineWorkspace = 4096;

// What a handle points to. A node that others refer to outlives it.
struct Box {
  uint64_t mark = kMark;
  CudnnNode node;
};

std::string& last_problem() {
  thread_local std::string problem;
  return problem;
}

CudnnAttribute attribute_of(const CudnnNode& node) {
  CudnnAttribute attribute{CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, {}, {node}};
  return attribute;
}
CudnnAttribute attribute_of(int64_t value) {
  CudnnAttribute attribute{CUDNN_TYPE_INT64, 1, std::vector<std::byte>(sizeof value), {}};
  std::memcpy(attribute.bytes.data(), &value, sizeof value);
  return attribute;
}

CudnnNode engine_config(const CudnnNode& graph, int64_t engine) {
  const auto made = [](cudnnBackendDescriptorType_t type) {
    auto node = std::make_shared<CudnnDescriptorContent>();
    node->type = type;
    node->finalized = true;
    return node;
  };
  const CudnnNode of_engine = made(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  of_engine->attributes[CUDNN_ATTR_ENGINE_OPERATION_GRAPH] = attribute_of(graph);
  of_engine->attributes[CUDNN_ATTR_ENGINE_GLOBAL_INDEX] = attribute_of(engine);
  const CudnnNode config = made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  config->attributes[CUDNN_ATTR_ENGINECFG_ENGINE] = attribute_of(of_engine);
  return config;
}

// What the library adds when a descriptor is finalized.
void derive_attributes(CudnnDescriptorContent& x) {
  if (x.type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) {
    const CudnnNode graph = x.node(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    CudnnAttribute results{CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, {}, {}};
    if (engine_problem(*graph).empty()) results.nodes = {engine_config(graph, 1), engine_config(graph, 0)};
    results.num = static_cast<int64_t>(results.nodes.size());
    x.attributes[CUDNN_ATTR_ENGINEHEUR_RESULTS] = results;
  }
  if (x.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
    const CudnnNode engine =
        x.node(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->node(CUDNN_ATTR_ENGINECFG_ENGINE);
    const auto number = engine->value<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    x.attributes[CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE] = attribute_of(number * kEngineWorkspace);
  }
}

// Copies of `attribute`'s nodes into descriptors that the caller made.
std::string give_nodes(const CudnnAttribute& attribute, int64_t num, void* values) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(num); ++i) {
    auto* box = static_cast<Box*>(static_cast<cudnnBackendDescriptor_t*>(values)[i]);
    if (box == nullptr || box->mark != kMark || box->node->type != attribute.nodes[i]->type)
      return "a descriptor to be filled has not the type of what it shall hold";
    box->node = attribute.nodes[i];
  }
  return {};
}

}  // namespace

CudnnNode node_of(cudnnBackendDescriptor_t descriptor) {
  const auto* box = static_cast<const Box*>(descriptor);
  return box != nullptr && box->mark == kMark ? box->node : nullptr;
}

std::size_t attribute_bytes(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    default:
      return 4;
  }
}

cudnnStatus_t refuse_cudnn(cudnnStatus_t status, const std::string& reason) {
  last_problem() = "Error: Reason: " + reason;
  return status;
}

}  // namespace takt::emulated

using namespace takt::emulated;

extern "C" {

size_t cudnnGetVersion() {
  return CUDNN_VERSION;
}

const char* cudnnGetErrorString(cudnnStatus_t status) {
  return status == CUDNN_STATUS_SUCCESS ? "CUDNN_STATUS_SUCCESS" : "CUDNN_STATUS of the double";
}

void cudnnGetLastErrorString(char* message, size_t max_size) {
  std::snprintf(message, max_size, "%s", last_problem().c_str());
  last_problem().clear();
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  if (const auto fault = injected_fault("cudnnBackendCreateDescriptor"))
    return static_cast<cudnnStatus_t>(*fault);
  auto* box = new Box;
  box->node = std::make_shared<CudnnDescriptorContent>();
  box->node->type = type;
  *descriptor = box;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  if (node_of(descriptor) == nullptr)
    return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, "no descriptor is destroyed");
  auto* box = static_cast<Box*>(descriptor);
  box->mark = 0;
  delete box;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t num, const void* values) {
  if (const auto fault = injected_fault("cudnnBackendSetAttribute"))
    return static_cast<cudnnStatus_t>(*fault);
  const CudnnNode node = node_of(descriptor);
  if (node == nullptr) return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, "an attribute of no descriptor is set");
  if (node->finalized)
    return refuse_cudnn(CUDNN_STATUS_NOT_INITIALIZED, "an attribute is set after finalize");
  if (const std::string problem = attribute_problem(node->type, name, type); !problem.empty())
    forbidden("cudnn: " + problem);
  CudnnAttribute attribute{type, num, {}, {}};
  for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < num; ++i) {
    const CudnnNode other = node_of(static_cast<const cudnnBackendDescriptor_t*>(values)[i]);
    if (other == nullptr || !other->finalized)
      return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, "attribute " + std::to_string(name) +
                                                      " refers to a descriptor that is not finalized");
    attribute.nodes.push_back(other);
  }
  const auto* bytes = static_cast<const std::byte*>(values);
  attribute.bytes.assign(bytes, bytes + static_cast<std::size_t>(num) * attribute_bytes(type));
  node->attributes[name] = std::move(attribute);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  if (const auto fault = injected_fault("cudnnBackendFinalize")) return static_cast<cudnnStatus_t>(*fault);
  const CudnnNode node = node_of(descriptor);
  if (node == nullptr) return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, "no descriptor is finalized");
  if (const std::string problem = finalize_problem(*node); !problem.empty())
    return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, problem);
  derive_attributes(*node);
  node->finalized = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t num_wanted, int64_t* num,
                                       void* values) {
  const CudnnNode node = node_of(descriptor);
  if (node == nullptr || !node->finalized)
    return refuse_cudnn(CUDNN_STATUS_NOT_INITIALIZED, "a descriptor is read before it is finalized");
  if (!node->has(name) || node->attributes.at(name).type != type)
    return refuse_cudnn(CUDNN_STATUS_BAD_PARAM, "there is no attribute " + std::to_string(name) + " to read");
  const CudnnAttribute& attribute = node->attributes.at(name);
  if (num != nullptr) *num = attribute.num;
  const int64_t num_given = std::min(num_wanted, attribute.num);
  if (values == nullptr || num_given == 0) return CUDNN_STATUS_SUCCESS;
  if (num != nullptr) *num = num_given;
  if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    std::memcpy(values, attribute.bytes.data(), static_cast<std::size_t>(num_given) * attribute_bytes(type));
    return CUDNN_STATUS_SUCCESS;
  }
  const std::string problem = give_nodes(attribute, num_given, values);
  return problem.empty() ? CUDNN_STATUS_SUCCESS : refuse_cudnn(CUDNN_STATUS_BAD_PARAM, problem);
}
}
