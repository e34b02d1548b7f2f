// Operators: functions from Values to Values. Sizes are checked when the graph is built.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "whence/graph.h"

namespace whence {

// --- elementwise ---------------------------------------------------------------------------------
// One of these by its name, "relu" to "abs". Throws if there is none.
Value unary(std::string_view function, Value x);
Value relu(Value x);        // max(x, 0), derivative 0 at 0
Value relu6(Value x);       // min(max(x, 0), 6), derivative 0 at 0 and at 6
Value gelu(Value x);        // x Phi(x), error function (Hendrycks and Gimpel 2016)
Value gelu_tanh(Value x);   // its tanh approximation
Value gelu_quick(Value x);  // x sigmoid(1.702 x)
Value tanh(Value x);
Value abs(Value x);                              // derivative 0 at 0
Value affine(Value x, real factor, real shift);  // factor x + shift
inline Value scale(Value x, real factor) { return affine(x, factor, 0); }
// Pairs broadcast as in NumPy: sizes are matched from the last axis, a size of 1 repeats.
Value add(Value a, Value b);
Value sub(Value a, Value b);
Value mul(Value a, Value b);
Value div(Value a, Value b);
// How a quotient a / b stays finite where b is small (e = epsilon >= 0). References disagree, and
// where relevance has cancelled the choice decides.
struct Stabiliser {
  enum Kind : uint8_t {
    guarded,  // a / (b + e), and 0 where b is 0 (Chefer, Gur and Wolf 2021; InterpretDL with e = 0)
    away,     // a / (b + e) for b >= 0, a / (b - e) for b < 0 (Captum, zennit)
    shifted,  // a / (b + e)
  } kind;
  double epsilon;
};
// Broadcasts. No gradient.
Value divide(Value a, Value b, Stabiliser by);

// y where x > 0, else 0; of one shape.
Value where_positive(Value x, Value y);

// --- products ------------------------------------------------------------------------------------
// y[..., o] = sum_c x[..., c] weight[o, c] + bias[o]; bias may be empty.
Value linear(Value x, Value weight, Value bias = {});
// max(w, 0) and min(w, 0) of a weight, for rules that tell signs apart. In f32 `linear` reads them
// off the weight itself, so that they cost no memory. No gradient.
Value positive_part(Value weight);
Value negative_part(Value weight);
// Two-operand product by labels, "bnc,oc->bno". Every label occurs once in an operand; labels of
// the result come from the operands; labels missing from the result are summed (they must be in
// both operands).
Value einsum(Value a, Value b, std::string_view labels);

// --- rows ----------------------------------------------------------------------------------------
Value layer_norm(Value x, Value weight, Value bias, real epsilon);  // over the last axis
Value softmax(Value x);                                             // over the last axis
Value log_softmax(Value x);                                         // over the last axis
Value largest(Value x);  // [B, ...] -> [B]: of each sample; NaN if there is one. No gradient.
// loss[b] = -sum_k target[b, k] log_softmax(logits)[b, k]; target rows are distributions. [B, K] ->
// [B]
Value cross_entropy(Value logits, Value target);

// --- attention -----------------------------------------------------------------------------------
// q, k, v: [B, S, H*D], head h in columns h*D..h*D+D-1. probs = softmax_rows(scale q k^T) [B, H, S,
// S], context = probs v [B, S, H*D], probs_mean = mean over heads [B, S, S]. What nobody keeps is
// never stored.
struct Attention {
  Value context, probs, probs_mean;
};
Attention attention(Value q, Value k, Value v, int64_t heads, real scale);
// Row `row` of the probabilities alone: [B, H, S].
Value attention_row(const Attention& a, int64_t row);
// Given the gradient of a score by the context: of the gradient G by the probabilities
Value attention_gradient_row(const Attention& a, Value dcontext,
                             int64_t row);                          // one row, [B, H, S]
Value attention_gradient_mean(const Attention& a, Value dcontext);  // mean over heads, [B, S, S]
// mean over heads of max(probs * G, 0), [B, S, S] (Chefer, Gur and Wolf, ICCV 2021, eq. 5)
Value attention_relevance(const Attention& a, Value dcontext);
// The row vector r [B, S] times that map, which is never stored: [B, S].
Value attention_relevance_chain(const Attention& a, Value dcontext, Value r);

// --- shape ---------------------------------------------------------------------------------------
Value reshape(Value x, Shape shape);
Value slice(Value x, int axis, int64_t begin, int64_t end);
Value pad(Value x, int axis, int64_t begin,
          int64_t size);  // zeros around x up to `size`; inverse of slice
Value concat(const Values& parts, int axis);
Value expand(Value x, Shape shape);                // repeats axes of size 1
Value row(Value x, int64_t index);                 // [B, N, C] -> [B, C]
Value sum(Value x, const std::vector<int>& axes);  // the axes disappear
Value mean(Value x, const std::vector<int>& axes);
Value unit_row(Graph& graph, int64_t batch, int64_t size,
               int64_t index);  // [B, N] with ones in column `index`

// A tensor of one value, or of values that repeat along the last axis, which is a multiple of them.
Value constant(Graph& graph, Shape shape, const std::vector<double>& values);

// --- sums and draws of a batch -------------------------------------------------------------------
// state + the rows of x [B,
// ...] times weight [B], each added to row slot[b] of state [S, ...] in ascending order; rows whose
// slot (i32 [B]) is negative are left out. Takes over the state's memory: with
// Plan::Options::carried, sums grow from run to run.
Value accumulate(Value state, Value x, Value weight, Value slot);
// Standard normal variates of `shape` [B, ...]; row b is a function of keys[b] alone (i32 [B, 4]:
// the low and the high half of the seed, item, draw; kernels/random.h).
Value random_normal(Value keys, Shape shape);

// to[b] item[b] of every row b of item [B, ...]; to and from: [B].
Value interpolate(Value to, Value item);
// to[b] item[b] + from[b] other[b]. `other` has the shape of item, or is i32 [B, 4]: the keys of
// random_normal, whose variates it then is.
Value interpolate(Value to, Value item, Value from, Value other);

// --- images --------------------------------------------------------------------------------------
// [B, C, H, W] -> [B, (H/P)(W/P), C*P*P]: patches row by row, elements as in a convolution weight.
Value patchify(Value image, int64_t patch);
// [B, C, H, W] -> [B, H, W, C], the layout of everything below.
Value channels_last(Value image);

// --- convolutions --------------------------------------------------------------------------------
struct Window {
  int64_t stride = 1, pad = 0, dilation = 1;
};
// x [B, H, W, C], weight [O, C/groups, kh, kw] as checkpoints store it, bias [O] or empty -> [B,
// H', W', O] with H' = (H + 2 pad - dilation (kh - 1) - 1) / stride + 1, rounded down. The number
// of groups follows from the channels of both.
Value conv2d(Value x, Value weight, Value bias, Window window = {});
// (x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis, with the statistics of
// a trained model.
Value batch_norm(Value x, Value weight, Value bias, Value mean, Value variance, real epsilon);

// H' = (H + 2 pad - size) / stride + 1, rounded down, or up with `ceil` (windows that would begin
// beyond the image and its padding are left out). pad <= size / 2.
struct PoolWindow {
  int64_t size, stride, pad = 0;
  bool ceil = false;
};
// Padding never wins; the gradient goes to the first maximum of a window in row-major order.
Value max_pool(Value x, PoolWindow window);
// The sum over a window divided by its elements inside the image and, with count_padding, inside
// the padding.
Value average_pool(Value x, PoolWindow window, bool count_padding = true);

// The kinds of all operators above that a forward pass may have (Op::kind), and of those that move
// elements back.
const std::vector<std::string>& op_kinds();

}  // namespace whence
