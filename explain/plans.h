// What requests for the same inputs need planned, and how they are answered together.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "explain/method.h"

namespace whence {

class Plans {
 public:
  // Requests are checked against the model, and all that they need is planned.
  Plans(const Machine& machine, std::span<const Request> requests, int64_t items);

  // One for each request, in their order; `requests` are of the kinds that these plans were made
  // for.
  std::vector<Results> run(const Inputs& inputs, std::span<const Request> requests);
  std::vector<const Pass*> passes() const;

 private:
  struct Member {
    const Method* method;
    Setup setup;
    std::unique_ptr<Worker> worker;
  };
  // A pass over the inputs for some members, whose maps it has in their order.
  struct Shared {
    std::vector<size_t> members;
    Pass pass;
  };
  Pass::Wanted maps_of(const std::vector<size_t>& members) const;
  void plan(const std::vector<size_t>& members);
  void plan_together(const std::vector<size_t>& members);

  Machine machine_;
  int64_t items_;
  std::vector<Member> members_;
  std::vector<Shared> shared_;
};

}  // namespace whence
