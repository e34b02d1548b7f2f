#include "explain/plans.h"

#include <algorithm>
#include <map>

#include "runtime/check.h"

namespace whence {
namespace {

// Whether a batch norm is a part of the convolution before it depends on who else reads that
// convolution, and so do the last bits of both. Everything else is computed the same way whoever
// reads it.
int separate_norms(const Pass& pass) { return pass.plan().steps("batch_norm"); }

void merge(Derivatives& into, const Derivatives& more) {
  for (const auto& [kind, values] : more) into[kind].insert(values.begin(), values.end());
}

}  // namespace

Plans::Plans(const Machine& machine, std::span<const Request> requests, int64_t items)
    : machine_(machine), items_(items) {
  for (const Request& request : requests) {
    const Method& method = find_method(request.method);
    Options options = checked_options(method, machine, request);
    members_.push_back({&method, {machine, request, std::move(options), items}, nullptr});
  }
  std::vector<std::vector<size_t>> same_targets;
  for (size_t m = 0; m < members_.size(); ++m) {
    if (!members_[m].method->clean_pass) continue;
    const auto fits = [&](const std::vector<size_t>& set) {
      return members_[set[0]].setup.request.targets == members_[m].setup.request.targets;
    };
    const auto set = std::find_if(same_targets.begin(), same_targets.end(), fits);
    if (set == same_targets.end())
      same_targets.push_back({m});
    else
      set->push_back(m);
  }
  for (const auto& set : same_targets) set.size() == 1 ? plan(set) : plan_together(set);
  for (Member& member : members_)
    if (member.method->prepare) member.worker = member.method->prepare(member.setup);
}

Pass::Wanted Plans::maps_of(const std::vector<size_t>& members) const {
  return [this, members](Scene& s) {
    std::vector<Map> maps;
    for (const size_t m : members)
      maps.push_back(members_[m].method->map ? members_[m].method->map(s, members_[m].setup.options)
                                             : Map{});
    return maps;
  };
}

void Plans::plan(const std::vector<size_t>& members) {
  shared_.push_back({members, chunked_pass(machine_, {items_}, maps_of(members))});
}

// One pass for all members whose bits it does not change, if it fits the memory.
void Plans::plan_together(const std::vector<size_t>& members) {
  struct Set {
    std::vector<size_t> members;
    Derivatives asked;
  };
  std::map<int, Set> sets;  // by the norms that stand alone
  for (const size_t m : members) {
    const Pass alone(machine_, 1, maps_of({m}));
    Set& set = sets[separate_norms(alone)];
    set.members.push_back(m);
    merge(set.asked, alone.scene().asked());
  }
  for (const auto& [norms, set] : sets) {
    const auto maps = maps_of(set.members);
    const auto fits = [&, norms = norms, &asked = set.asked] {
      const Pass one(machine_, 1, maps, nullptr, asked);
      return separate_norms(one) == norms &&
             one.plan().bytes() <= activation_budget(machine_.settings);
    };
    if (fits())
      shared_.push_back({set.members, chunked_pass(machine_, {items_}, maps, nullptr, set.asked)});
    else
      for (const size_t m : set.members) plan({m});
  }
}

std::vector<Results> Plans::run(const Inputs& inputs, std::span<const Request> requests) {
  std::vector<Results> all(members_.size());
  for (Shared& shared : shared_) {
    std::vector<MapsOf> maps;
    const Clean clean =
        run_maps(machine_, shared.pass, inputs, requests[shared.members[0]].targets, maps);
    for (size_t k = 0; k < shared.members.size(); ++k) {
      const size_t m = shared.members[k];
      const Member& member = members_[m];
      all[m] =
          member.worker
              ? member.worker->run({inputs, requests[m], clean, std::move(maps[k]), &shared.pass})
              : results_of(clean, member.setup.options, std::move(maps[k]));
    }
  }
  for (size_t m = 0; m < members_.size(); ++m)
    if (!members_[m].method->clean_pass)
      all[m] = members_[m].worker->run({inputs, requests[m], Clean{}, {}, nullptr});
  return all;
}

std::vector<const Pass*> Plans::passes() const {
  std::vector<const Pass*> all;
  for (const Shared& shared : shared_) all.push_back(&shared.pass);
  for (const Member& member : members_)
    if (member.worker)
      for (const Pass* pass : member.worker->passes()) all.push_back(pass);
  return all;
}

}  // namespace whence
