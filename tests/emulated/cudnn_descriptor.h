// A backend descriptor of the cuDNN double: a bag of attributes that is closed when it is finalized.
#pragma once

#include <cudnn.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace takt::emulated {

struct CudnnDescriptorContent;
using CudnnNode = std::shared_ptr<CudnnDescriptorContent>;

struct CudnnAttribute {
  cudnnBackendAttributeType_t type;
  int64_t num = 0;
  std::vector<std::byte> bytes;
  std::vector<CudnnNode> nodes;  // of type BACKEND_DESCRIPTOR: what they refer to lives as long as they do
};

struct CudnnDescriptorContent {
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<int, CudnnAttribute> attributes = {};

  bool has(int name) const { return attributes.contains(name); }
  std::vector<CudnnNode> nodes(int name) const {
    return has(name) ? attributes.at(name).nodes : std::vector<CudnnNode>();
  }
  CudnnNode node(int name) const { return has(name) ? attributes.at(name).nodes.front() : nullptr; }
  template <class T>
  T value(int name, T otherwise = {}) const {
    if (has(name)) std::memcpy(&otherwise, attributes.at(name).bytes.data(), sizeof otherwise);
    return otherwise;
  }
  template <class T>
  std::vector<T> values(int name) const {
    if (!has(name)) return {};
    std::vector<T> all(static_cast<std::size_t>(attributes.at(name).num));
    std::memcpy(all.data(), attributes.at(name).bytes.data(), all.size() * sizeof(T));
    return all;
  }
};

// What a cudnnBackendDescriptor_t points to; null: not one of ours, or destroyed.
CudnnNode node_of(cudnnBackendDescriptor_t descriptor);

std::size_t attribute_bytes(cudnnBackendAttributeType_t type);

// Keeps the sentence for cudnnGetLastErrorString of the calling thread and returns the status.
cudnnStatus_t refuse_cudnn(cudnnStatus_t status, const std::string& reason);

// A required attribute that is not set, as a sentence; empty: all are.
std::string missing_attribute(const CudnnDescriptorContent& descriptor);

// Empty when a descriptor of this type has such an attribute, of this type.
std::string attribute_problem(cudnnBackendDescriptorType_t descriptor, int name,
                              cudnnBackendAttributeType_t type);

}  // namespace takt::emulated
