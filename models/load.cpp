#include "models/load.h"

#include "runtime/check.h"

namespace whence {
namespace {

std::map<std::string, Shape> weights_of(const Network& network, const Checkpoint& checkpoint) {
  try {
    return network.weights();
  } catch (const Error& e) {  // sizes beyond any graph
    fail(e.code(), "{}: {}", checkpoint.name(), e.what());
  }
}

// The recipe for the network's picture, which may also decide the size of that.
Preprocess recipe_of(Network& network, const Source& from, std::vector<std::string>& notes) {
  const ImageSize size = *network.image();
  const auto stated = from.companions.preprocess(size);
  if (!stated)
    notes.push_back(fmt::format(
        "preprocessing is not stated: that of published {} models is assumed", network.layout()));
  Preprocess recipe = stated ? *stated : network.usual_preprocess(from.companions.architecture());
  if (from.options.image_size) recipe = scaled(recipe, size);
  if (const auto given = output_size(recipe)) network.offer_image(*given);
  check_preprocess(recipe, *network.image(), from.checkpoint.name());
  return recipe;
}

// What users are told of the account.
void tell(const Account& account, Model& model) {
  for (const auto& bound : account.bound) model.account.bound.push_back(bound.stored);
  for (const auto& skipped : account.skipped)
    model.account.skipped.emplace_back(skipped.stored, skipped.reason);
  model.notes = account.notes;
}

}  // namespace

std::map<std::string, Shape> Network::weights() const {
  Graph graph;
  build(graph, 1);
  return graph.weights();
}

Model model_of(std::shared_ptr<const Network> network) {
  Model model;
  network->describe(model);
  model.build = [network](Graph& graph, int64_t batch) { return network->build(graph, batch); };
  return model;
}

Loaded load_checkpoint(Checkpoint checkpoint, const LoadOptions& options) {
  const Signature& signature = recognise(checkpoint);
  const Companions companions(checkpoint, options);
  const Source source{checkpoint, companions, options};
  const std::shared_ptr<Network> network = signature.open(source);

  Account account;
  if (!checkpoint.stripped().empty())
    account.notes.push_back(
        fmt::format("prefix '{}' removed from every name", printable(checkpoint.stripped())));
  account.notes.insert(account.notes.end(), network->notes.begin(), network->notes.end());
  Weights weights = bind_weights(checkpoint, weights_of(*network, checkpoint), network->names(),
                                 {options.allow_unexpected, options.allow_nonfinite}, account);
  network->fit(weights, account.notes);
  Preprocess preprocess;
  if (network->image()) preprocess = recipe_of(*network, source, account.notes);

  Model model = model_of(network);
  model.layout = network->layout();
  model.weights = std::move(weights);
  model.preprocess = preprocess;
  model.labels = companions.labels(model.classes, account.notes);
  model.outputs = companions.outputs(model.classes, account.notes);
  tell(account, model);
  return {std::move(model), std::move(account), network};
}

}  // namespace whence
