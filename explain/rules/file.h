// Rule tables by name, and from JSON files that nobody vouches for.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "whence/model.h"
#include "whence/rules.h"

namespace whence {

// {"name": "mine", "merge_norms": true,
//  "rows": [{"kinds": "conv2d|linear", "name": "layer4.*", "rule": "Epsilon",
//            "epsilon": 1e-6, "stabiliser": "away", "bias": true}, ...]}
// "kinds" and "name" are those of a RelevanceRow; where the rule is one for fan-outs (Sum, Clone),
// kinds are "fanout" or "*". `name` of a row is "*" where it is left out, `merge_norms` false; the
// name of a table is the file's. "rule" is a rule of whence/rules.h for relevance, ZPlus (AlphaBeta
// with alpha 1, beta 0, joint denominators, the bias among them) or Identity (Pass); its parameters
// have the names of its fields, a stabiliser that of its kind and `epsilon` beside it. What is left
// out has the rule's default. Throws file errors (format, limit) in one line that names the file,
// the row from 0 on, what was expected and what came.
RuleTable read_rule_table(const std::filesystem::path& path);
// The same from the text of a file; `file` begins the messages, `name` is the table's where the
// text gives none.
RuleTable parse_rule_table(std::string_view text, const std::string& file, const std::string& name);

// Names of the tables of the literature: "epsilon-plus", ...
const std::vector<std::string>& rule_table_names();
// A table of the literature, or of a path that ends in .json; anything else is a usage error that
// lists the nearest names. The pixels' bounds of epsilon-gamma-box are those of the model's inputs:
// (0 - mean) / std and (1 - mean) / std of each channel.
RuleTable rule_table(const std::string& name_or_path, const Model& model);

}  // namespace whence
