// Class activation maps as nodes. f [B, P, C] holds a layer's C channels at P positions, g the
// gradient of the score by them; the maps are [B, P].
#pragma once

#include "whence/ops.h"

namespace whence {

// Grad-CAM: Selvaraju et al. 2017 (arXiv 1610.02391).
//   a_c = mean_p g_pc     map_p = sum_c a_c f_pc, before the sum over channels [B, P, C]
Value grad_cam_channels(Value f, Value g);
Value grad_cam(Value f, Value g);

// Grad-CAM++: Chattopadhay et al. 2018 (arXiv 1710.11063), eq. 19, where powers of g stand for the
// higher derivatives of exp(score). The positive factor exp(score) of a sample's map is left out.
//   a_pc = g^2 / (2 g^2 + g^3 sum_p f_pc) = 1 / (2 + g sum_p f_pc), 0 where g is 0
//   w_c = sum_p a_pc max(g_pc, 0)     map_p = sum_c w_c f_pc
Value grad_cam_pp(Value f, Value g);

// LayerCAM: Jiang et al. 2021 (doi 10.1109/TIP.2021.3089943).
//   map_p = sum_c max(g_pc, 0) f_pc
Value layer_cam(Value f, Value g);

}  // namespace whence
