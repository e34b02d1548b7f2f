// Operators as plain loops in double precision over row-major arrays: what the graph's operators
// are tested against. Nothing here shares code with the library.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "whence/tensor.h"

namespace whence::ref {

struct Array {
  Shape shape;
  std::vector<double> x;
  explicit Array(Shape s = {}) : shape(s), x(static_cast<size_t>(s.count())) {}
  explicit Array(const Tensor& t) : shape(t.shape()), x(t.reals().begin(), t.reals().end()) {}
  size_t offset(const std::vector<int64_t>& at) const {
    int64_t i = 0;
    for (int a = 0; a < shape.rank(); ++a) i = i * shape[a] + at[size_t(a)];
    return size_t(i);
  }
  double& operator()(const std::vector<int64_t>& at) { return x[offset(at)]; }
  double operator()(const std::vector<int64_t>& at) const { return x[offset(at)]; }
};
using Arrays = std::vector<Array>;
using Index = std::vector<int64_t>;

// Calls f with every index of `shape`, in row-major order.
inline void each(const Shape& shape, const std::function<void(const Index&)>& f) {
  Index at(size_t(shape.rank()), 0);
  for (int64_t n = shape.count(); n > 0; --n) {
    f(at);
    for (int a = shape.rank() - 1; a >= 0 && ++at[size_t(a)] == shape[a]; --a) at[size_t(a)] = 0;
  }
}

// result[at] = f(at) for every index.
inline Array make(Shape shape, const std::function<double(const Index&)>& f) {
  Array y(shape);
  size_t i = 0;
  each(shape, [&](const Index& at) { y.x[i++] = f(at); });
  return y;
}

inline Array apply(const Array& x, const std::function<double(double)>& f) {
  Array y = x;
  for (double& v : y.x) v = f(v);
  return y;
}

// NumPy's rule: axes are matched from the last one, a size of 1 repeats.
inline Array pairwise(const Array& a, const Array& b,
                      const std::function<double(double, double)>& f) {
  const int rank = std::max(a.shape.rank(), b.shape.rank());
  Index sizes(size_t(rank), 1);
  for (int i = 1; i <= rank; ++i)
    for (const Array* s : {&a, &b})
      if (i <= s->shape.rank() && s->shape[-i] != 1) sizes[size_t(rank - i)] = s->shape[-i];
  const auto pick = [&](const Array& s, const Index& at) {
    Index own;
    for (int i = s.shape.rank(); i >= 1; --i)
      own.push_back(s.shape[-i] == 1 ? 0 : at[size_t(rank - i)]);
    return s(own);
  };
  return make(Shape(sizes), [&](const Index& at) { return f(pick(a, at), pick(b, at)); });
}

// Sums over every assignment of all labels.
inline Array einsum(const Array& a, const Array& b, const std::string& labels) {
  const std::string la = labels.substr(0, labels.find(','));
  const std::string lc = labels.substr(labels.find("->") + 2);
  const std::string lb = labels.substr(la.size() + 1, labels.size() - la.size() - lc.size() - 3);
  std::map<char, int64_t> size;
  for (size_t i = 0; i < la.size(); ++i) size[la[i]] = a.shape[int(i)];
  for (size_t i = 0; i < lb.size(); ++i) size[lb[i]] = b.shape[int(i)];
  std::string all;
  for (const auto& [label, n] : size) all += label;
  const auto place = [&](const std::string& own, const Index& at) {
    Index picked;
    for (char l : own) picked.push_back(at[all.find(l)]);
    return picked;
  };
  Index sizes, result;
  for (char l : all) sizes.push_back(size[l]);
  for (char l : lc) result.push_back(size[l]);
  Array y{Shape(result)};
  // More labels than a Shape has axes: counted by hand.
  Index at(all.size(), 0);
  int64_t total = 1;
  for (int64_t n : sizes) total *= n;
  for (; total > 0; --total) {
    y(place(lc, at)) += a(place(la, at)) * b(place(lb, at));
    for (size_t i = all.size(); i-- > 0 && ++at[i] == sizes[i];) at[i] = 0;
  }
  return y;
}

inline Array linear(const Array& x, const Array& w, const Array* bias) {
  return make(x.shape.with(-1, w.shape[0]), [&](Index at) {
    const int64_t o = at.back();
    double sum = bias ? bias->x[size_t(o)] : 0;
    for (int64_t c = 0; c < w.shape[1]; ++c) {
      at.back() = c;
      sum += x(at) * w({o, c});
    }
    return sum;
  });
}

// f maps one row (the last axis) in place.
inline Array by_rows(const Array& x, const std::function<void(double*, size_t)>& f) {
  Array y = x;
  const size_t width = size_t(x.shape[-1]);
  for (size_t i = 0; i < y.x.size(); i += width) f(&y.x[i], width);
  return y;
}

inline Array layer_norm(const Array& x, const Array& w, const Array& b, double epsilon) {
  return by_rows(x, [&](double* r, size_t n) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < n; ++i) mean += r[i] / double(n);
    for (size_t i = 0; i < n; ++i) variance += (r[i] - mean) * (r[i] - mean) / double(n);
    for (size_t i = 0; i < n; ++i)
      r[i] = (r[i] - mean) / std::sqrt(variance + epsilon) * w.x[i] + b.x[i];
  });
}

inline Array log_softmax(const Array& x) {
  return by_rows(x, [](double* r, size_t n) {
    const double top = *std::max_element(r, r + n);
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += std::exp(r[i] - top);
    for (size_t i = 0; i < n; ++i) r[i] -= top + std::log(sum);
  });
}

inline Array softmax(const Array& x) {
  return apply(log_softmax(x), [](double v) { return std::exp(v); });
}

// q [B,Q,W], keys [B,N,W] to [B,H,Q,N]; with scale 1 and q = dcontext, keys = v this is the
// gradient of the context by the probabilities.
inline Array head_products(const Array& q, const Array& keys, int64_t heads, double scale) {
  const int64_t d = q.shape[2] / heads;
  return make({q.shape[0], heads, q.shape[1], keys.shape[1]}, [&](const Index& at) {
    double sum = 0;
    for (int64_t i = 0; i < d; ++i)
      sum += q({at[0], at[2], at[1] * d + i}) * keys({at[0], at[3], at[1] * d + i});
    return scale * sum;
  });
}

inline Array attention_probs(const Array& q, const Array& k, int64_t heads, double scale) {
  return softmax(head_products(q, k, heads, scale));
}

inline Array attention_context(const Array& probs, const Array& v) {
  const int64_t heads = probs.shape[1], d = v.shape[2] / heads;
  return make({v.shape[0], probs.shape[2], v.shape[2]}, [&](const Index& at) {
    double sum = 0;
    for (int64_t n = 0; n < v.shape[1]; ++n)
      sum += probs({at[0], at[2] / d, at[1], n}) * v({at[0], n, at[2]});
    return sum;
  });
}

// Mean over heads of f(probs, G), [B,Q,N].
inline Array head_mean(const Array& probs, const Array& g,
                       const std::function<double(double, double)>& f) {
  const int64_t heads = probs.shape[1];
  return make({probs.shape[0], probs.shape[2], probs.shape[3]}, [&](const Index& at) {
    double sum = 0;
    for (int64_t h = 0; h < heads; ++h) {
      const Index map{at[0], h, at[1], at[2]};
      sum += f(probs(map), g(map));
    }
    return sum / double(heads);
  });
}

inline Array reduce(const Array& x, const std::vector<int>& axes, bool average) {
  Index kept;
  double n = 1;
  const auto gone = [&](int a) { return std::find(axes.begin(), axes.end(), a) != axes.end(); };
  for (int a = 0; a < x.shape.rank(); ++a)
    if (gone(a))
      n *= double(x.shape[a]);
    else
      kept.push_back(x.shape[a]);
  Array y{Shape(kept)};
  each(x.shape, [&](const Index& at) {
    Index own;
    for (int a = 0; a < x.shape.rank(); ++a)
      if (!gone(a)) own.push_back(at[size_t(a)]);
    y(own) += x(at) / (average ? n : 1);
  });
  return y;
}

}  // namespace whence::ref
